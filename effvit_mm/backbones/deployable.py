"""The switch from training form to deployed form, the same for every network."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import nn


class Deployable(nn.Module):
    """A network with a deployed form: which, the rules of :mod:`effvit_mm.deploy` say, not it.

    Attributes:
        deployed: Whether it has that form. The only place that says so.
    """

    deployed = False
    # Applies the rules to a network, in place; effvit_mm.deploy puts it here.
    apply_rules: ClassVar[Callable[[nn.Module], nn.Module]]

    def switch_to_deploy(self) -> Deployable:
        """Fold norms, drop what only training needs; in place.

        Outputs stay what they are in evaluation mode, at every image size. The network is in
        evaluation mode afterwards and its parameters ask for no gradient; gradients of the input
        work. There is no way back: :meth:`train` raises RuntimeError. The state dict is that of the
        deployed form: it fits another network of the same make after its ``switch_to_deploy()``.
        """
        self.eval()
        if not self.deployed:
            type(self).apply_rules(self)
            self.deployed = True
        return self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Deployable:
        if mode and self.deployed:
            raise RuntimeError(
                f'this {type(self).__name__} was switched to its deployed form, which cannot be '
                'trained: its norms are folded and its training branches are gone. Build it anew '
                'and load the weights from before switch_to_deploy()'
            )
        return super().train(mode)
