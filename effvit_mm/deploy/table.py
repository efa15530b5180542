"""The table of rules, and the walk that applies it to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..backbones import Deployable

# Trained class: the function that returns its deployed module, which may be the same one, changed.
# A class without a rule has that of its nearest base class.
RULES: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {}


def deployed_as(*classes: type[nn.Module]) -> Callable:
    """Decorator: the function returns the deployed module of trained ones of these classes.

    It is called behind those of the module's children, in evaluation mode.
    """

    def register(rule: Callable[[nn.Module], nn.Module]) -> Callable[[nn.Module], nn.Module]:
        RULES.update(dict.fromkeys(classes, rule))
        return rule

    return register


def switch_modules(module: nn.Module) -> nn.Module:
    """Bring a module and all below it into the deployed form, the innermost first.

    A module of a class without a rule that has a method ``switch_to_deploy()`` of its own, as some
    of mmpretrain's have, is switched by that.

    Returns:
        What stands in the module's place; its children are exchanged in place.
    """
    for name, child in list(module.named_children()):
        if isinstance(child, Deployable):
            child.switch_to_deploy()
        else:
            setattr(module, name, switch_modules(child))
    rule = next((RULES[cls] for cls in type(module).__mro__ if cls in RULES), None)
    if rule is not None:
        return rule(module)
    switch: Any = getattr(module, 'switch_to_deploy', None)
    if switch is not None and not isinstance(module, Deployable):
        switch()
    return module


Deployable.apply_rules = staticmethod(switch_modules)
