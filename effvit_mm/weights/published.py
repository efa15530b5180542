"""Published weights' names to ours, and back.

Each family has one table of rules, read both ways, first match wins; a name that no rule knows is
an error, and so is a tensor whose shape the model does not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor

from ..errors import CheckpointError
from .names import crossvit, deit, levit, mvitv2, pslt
from .names.rules import Rule, rename

# Names of models, as in a shell, and the rules of the weights published for them.
RULES: dict[str, list[Rule]] = {
    'pslt_*': pslt.RULES,
    'crossvit_*': crossvit.RULES,
    'deit_*_distilled': deit.DISTILLED_RULES,
    '*deit_*': deit.RULES,
    'lightweight_vit_*': deit.RULES,
    '*levit_*': levit.RULES,
    '*mvitv2_*': mvitv2.RULES,
}
# Shapes of a model's tensors, by our names.
Shapes = Mapping[str, torch.Size]


def to_ours(state: Mapping[str, Tensor], model: str, shapes: Shapes) -> dict[str, Tensor]:
    """Rename published weights, of a classifier or a backbone alone, to those of a model of ours.

    CheckpointError where no rule knows a name, or where ``shapes``, those of the model's
    ``backbone.*`` and ``head.*``, are others (the head's class count is free).
    """
    _need_tensors(state)
    rules = _rules_of(model)
    names = {}
    for published in state:
        ours, known = _renamed(published, rules)
        if ours is not None or not known:
            names[published] = ours or ''  # no model has a tensor of no name
    as_wanted = all({name, f'backbone.{name}'} & shapes.keys() for name in state)
    _check(state, names, model, shapes, 'our names' if as_wanted else '')
    return {ours: state[published] for published, ours in names.items()}


def _need_tensors(state: object) -> None:
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f'state: names with their tensors are needed, as state_dict() has them, no '
            f'{type(state).__name__}'
        )


def to_published(state: Mapping[str, Tensor], model: str, shapes: Shapes) -> dict[str, Tensor]:
    """Rename the weights of a model of ours to the published names.

    They are a classifier's (``backbone.*`` and ``head.*``), or a backbone's alone, with or without
    the prefix. CheckpointError for a name or a shape that the model does not have (the head's class
    count is free).
    """
    _need_tensors(state)
    rules = _rules_of(model)
    prefix = '' if any(key.startswith(('backbone.', 'head.')) for key in state) else 'backbone.'
    names = {key: prefix + key for key in state}
    as_wanted = all(_renamed(name, rules)[0] in (None, *shapes) for name in state)
    _check(state, names, model, shapes, 'the published names' if as_wanted else '')
    renamed = ((rename(ours, rules, to_published=True), key) for key, ours in names.items())
    return {published: state[key] for published, key in renamed if published is not None}


def readings(names: Iterable[str]) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """What tensors of these names would be called by us, by each family's rules.

    Yields:
        Names of the family's models, as in a shell; ``{name: ours}`` of the tensors that we keep;
        the names that its rules do not know.
    """
    for family, rules in RULES.items():
        renamed = {name: _renamed(name, rules) for name in names}
        ours = {name: new for name, (new, _) in renamed.items() if new is not None}
        yield family, ours, [name for name, (_, known) in renamed.items() if not known]


def _renamed(name: str, rules: list[Rule]) -> tuple[str | None, bool]:
    """Our name, None for what we do not keep; whether a rule knows the published one."""
    try:
        return rename(name, rules), True
    except KeyError:
        return None, False


def _rules_of(model: str) -> list[Rule]:
    for pattern, rules in RULES.items():
        if fnmatch(model, pattern):
            return rules
    raise CheckpointError(f'no published names are known for {model!r}')


def _check(
    state: Mapping[str, Tensor], names: Mapping[str, str], model: str, shapes: Shapes, already: str
) -> None:
    """Raise unless each tensor, ``{its name: ours}``, is one of the model's.

    ``already`` says which names they have, where those are the ones that are asked for.
    """
    unknown = [given for given, ours in names.items() if ours not in shapes]
    misfits = [
        f'{given} {tuple(state[given].shape)} instead of {tuple(shapes[ours])}'
        for given, ours in names.items()
        if ours in shapes and not ours.startswith('head.') and state[given].shape != shapes[ours]
    ]
    hint = f'; they have {already} already, take them as they are' if already and unknown else ''
    for problem, which in (('names unknown', unknown), ('shapes differ', misfits)):
        if which:
            more = f' and {len(which) - 3} more' if len(which) > 3 else ''
            raise CheckpointError(
                f'these are no weights of {model}; {problem}: {", ".join(which[:3])}{more}{hint}'
            )
    if not names:
        raise CheckpointError(f'there are no weights of {model} in it')
