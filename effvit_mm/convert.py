"""Published weights' names to ours.

Each family has a table of rules, first match wins; a name that no rule knows is an error, and so
is a tensor whose shape the model does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor

from .conversion import crossvit, deit, levit, mvitv2, pslt
from .errors import CheckpointError
from .models import create_model, list_models

# A pattern of the whole name, and the new name: a template, a function of the match, or None for a
# tensor that we do not keep.
Rule = tuple[str, str | Callable[[re.Match], str] | None]

RULES: dict[str, list[Rule]] = {
    'pslt_*': pslt.RULES,
    'crossvit_*': crossvit.RULES,
    'deit_*_distilled': deit.DISTILLED_RULES,
    '*deit_*': deit.RULES,
    'lightweight_vit_*': deit.RULES,
    '*levit_*': levit.RULES,
    '*mvitv2_*': mvitv2.RULES,
}


def _rules_of(name: str) -> list[Rule]:
    for pattern, rules in RULES.items():
        if fnmatch(name, pattern):
            return rules
    raise CheckpointError(f'no published names are known for {name!r}')


def _rename(name: str, rules: list[Rule]) -> str | None:
    """Our name of a published one; None for what we do not keep; KeyError for an unknown one."""
    for pattern, new in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(new) if isinstance(new, str) else new and new(match)
    raise KeyError(name)


def convert_state_dict(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the published weights of a model to those of ``create_model(name)``.

    Args:
        state: ``{published name: tensor}``: a whole classifier, or a backbone alone.
        name: One of :func:`effvit_mm.list_models`.

    Returns:
        ``{our name: the same tensor}``, ``backbone.*`` and ``head.*``.

    Raises:
        CheckpointError: A name that no rule knows, or a shape that the model does not have (the
            head's class count is free).
    """
    if name not in list_models():
        raise CheckpointError(f'there is no model {name!r}; there are: {", ".join(list_models())}')
    rules = _rules_of(name)
    with torch.device('meta'):
        expected = {k: v.shape for k, v in create_model(name).state_dict().items()}
    result: dict[str, Tensor] = {}
    unknown, misfits = [], []
    for old, tensor in state.items():
        try:
            new = _rename(old, rules)
        except KeyError:
            unknown.append(old)
            continue
        if new is None:
            continue
        if new not in expected:
            unknown.append(old)
        elif not new.startswith('head.') and tensor.shape != expected[new]:
            misfits.append(f'{old} {tuple(tensor.shape)} instead of {tuple(expected[new])}')
        else:
            result[new] = tensor
    for problem, names in (('names unknown', unknown), ('shapes differ', misfits)):
        if names:
            more = f' and {len(names) - 3} more' if len(names) > 3 else ''
            raise CheckpointError(
                f'these are no weights of {name}; {problem}: {", ".join(names[:3])}{more}'
            )
    if not result:
        raise CheckpointError(f'there are no weights of {name} in it')
    return result
