"""Published weights' names to ours.

Each family has a table of rules, first match wins; a name that no rule knows is an error, and so
is a tensor whose shape the model does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from .errors import CheckpointError
from .models import create_model, list_models

# A pattern of the whole name, and the new name: a template, a function of the match, or None for a
# tensor that we do not keep.
Rule = tuple[str, str | Callable[[re.Match], str] | None]

# In the published code: position of a layer in the flat sequence of a block -> ours.
_CONV_BLOCK = {
    '0': 'expand.0',
    '2': 'expand.2',
    '3': 'depthwise.0',
    '5': 'depthwise.2',
    '6': 'project.0',
    '7': 'project.1',
}
_FUSION = {'se.fc1': 'fc1', 'se.fc2': 'fc2', 'pointconv': 'proj'}


def _pslt_stem(m: re.Match) -> str:
    layer, part = divmod(int(m[1]), 3)
    return f'backbone.stem.{layer}.{part}.{m[2]}'


def _pslt_inverted(m: re.Match) -> str:
    stage, block = divmod(int(m[1]), 3)
    part = m[2] if m[2].startswith('se') else _CONV_BLOCK[m[2].removeprefix('conv.')]
    return f'backbone.stages.{stage}.{block}.{part}.{m[3]}'


def _pslt_branch(m: re.Match) -> str:
    part = m[4]
    if part.startswith('mlp.conv.'):
        part = f'ffn.{_CONV_BLOCK[part.removeprefix("mlp.conv.")]}'
    part = part.replace('attn.kv', 'attn.qk')  # the published "kv" yields q and k
    return f'backbone.stages.{int(m[1]) + 2}.{int(m[2]) + 1}.branches.{m[3]}.{part}{m[5]}'


PSLT_RULES: list[Rule] = [
    (r'.*\.(total_ops|total_params|attn_mask|relative_position_index)|total_(ops|params)', None),
    (r'patch_embed\.proj\.(\d)\.(\w+)', _pslt_stem),
    (r'conv_layers\.([0-6])\.(conv\.[023567]|se\.fc[12])\.(\w+)', _pslt_inverted),
    (
        r'layers\.([01])\.blocks\.(\d+)\.blocks\.(\d)\.'
        r'(norm[12]|attn\.(?:qkv|kv|proj)|attn|mlp\.conv\.[023567])'
        r'(\.\w+)',
        _pslt_branch,
    ),
    (
        r'layers\.([01])\.blocks\.(\d+)\.(se\.fc[12]|pointconv)\.(\w+)',
        lambda m: f'backbone.stages.{int(m[1]) + 2}.{int(m[2]) + 1}.fusion.{_FUSION[m[3]]}.{m[4]}',
    ),
    (r'layers\.0\.downsample\.(norm|reduction)\.(\w+)', r'backbone.stages.3.0.\1.\2'),
    (r'norm\.(\w+)', r'backbone.norm.\1'),
    (r'head\.(\w+)', r'head.fc.\1'),
]

RULES: dict[str, list[Rule]] = {'pslt_*': PSLT_RULES}


def _rules_of(name: str) -> list[Rule]:
    for pattern, rules in RULES.items():
        if re.fullmatch(pattern.replace('*', '.*'), name):
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
