"""Published weights' names to ours, and back.

Each family has one table of rules, read both ways, first match wins; a name that no rule knows is
an error, and so is a tensor whose shape the model does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..models import MODEL_TABLE, create_model, list_models
from .names import crossvit, deit, levit, mvitv2, pslt
from .names.rules import Rule, rename

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
    if name not in list_models():
        raise CheckpointError(f'there is no model {name!r}; there are: {", ".join(list_models())}')
    for pattern, rules in RULES.items():
        if fnmatch(name, pattern):
            return rules
    raise CheckpointError(f'no published names are known for {name!r}')


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
    rules = _rules_of(name)
    names: dict[str, str] = {}
    for old in state:
        try:
            new = rename(old, rules)
        except KeyError:
            new = ''  # no model has it
        if new is not None:
            names[old] = new
    _check(state, names, name)
    return {new: state[old] for old, new in names.items()}


def export_state_dict(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the weights of ``create_model(name)`` to the published names: timm's.

    The inverse of :func:`convert_state_dict`. timm's models take the result with ``strict=True``;
    they are called as ours are, with the image size where timm has it in the name
    (``deit_tiny_patch16_224``, ``crossvit_9_240``). PSLT, which timm lacks, gets its authors'
    names.

    Args:
        state: ``{our name: tensor}``: a classifier (``backbone.*`` and ``head.*``), or a backbone
            alone, with or without the prefix.
        name: One of :func:`effvit_mm.list_models` whose attention is the published network's own.

    Raises:
        CheckpointError: The model's attention is none that timm has, or ``state`` has a name or a
            shape that the model does not have (the head's class count is free).
    """
    rules = _rules_of(name)
    attention = MODEL_TABLE[name][1].get('attention')
    if attention is not None:
        raise CheckpointError(
            f'{name} has {attention["type"]} where the network of these names has softmax '
            'attention: there, its weights would give other results'
        )
    prefix = '' if any(key.startswith(('backbone.', 'head.')) for key in state) else 'backbone.'
    names = {key: prefix + key for key in state}
    _check(state, names, name)
    return {rename(ours, rules, to_published=True): state[key] for key, ours in names.items()}


def _check(state: Mapping[str, Tensor], names: Mapping[str, str], model: str) -> None:
    """Raise unless each tensor, ``{its name: ours}``, is one of the model's."""
    with torch.device('meta'):
        expected = {k: v.shape for k, v in create_model(model).state_dict().items()}
    unknown = [given for given, ours in names.items() if ours not in expected]
    misfits = [
        f'{given} {tuple(state[given].shape)} instead of {tuple(expected[ours])}'
        for given, ours in names.items()
        if ours in expected
        and not ours.startswith('head.')
        and state[given].shape != expected[ours]
    ]
    for problem, found in (('names unknown', unknown), ('shapes differ', misfits)):
        if found:
            more = f' and {len(found) - 3} more' if len(found) > 3 else ''
            raise CheckpointError(
                f'these are no weights of {model}; {problem}: {", ".join(found[:3])}{more}'
            )
    if not names:
        raise CheckpointError(f'there are no weights of {model} in it')
