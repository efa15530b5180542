"""How a config prepares images for a re-ID model, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from ..config.arguments import has_type
from ..trained import test_dataset

READS_OR_PACKS = ('LoadImage', 'LoadImageFromFile', 'PackInputs')
FLIP = 'flip'
FOR_TRAINING = ('type', 'num_classes', 'batch_augments')


def describe_preparation(cfg: Config, flip: bool = False) -> str:
    """Steps of the test pipeline and the normalisation: equal for images prepared alike.

    Args:
        cfg: The config; with test-time augmentation by mirror images, it says ``flip`` itself.
        flip: Features are averaged with those of the mirror image.
    """
    steps = []
    for step in test_dataset(cfg).get('pipeline') or cfg.get('test_pipeline') or ():
        if _is_flip(step):
            flip = True
        elif not any(has_type(step, name) for name in READS_OR_PACKS):
            kind = step['type']
            name = getattr(kind, '__name__', str(kind)).rpartition('.')[2]
            steps.append(f'{name}({_arguments(step, ("type",))})')
    model = cfg.model.get('module', cfg.model)
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    steps.append(f'normalised with {_arguments(preprocessor, FOR_TRAINING)}')
    return with_flip(', '.join(steps), flip)


def with_flip(preparation: str, flip: bool) -> str:
    """The same of features that are averaged with those of the mirror image."""
    return f'{preparation}, {FLIP}' if flip else preparation


def _is_flip(step: Mapping[str, Any]) -> bool:
    """Whether this is test-time augmentation by the mirror image and nothing else."""
    if not has_type(step, 'TestTimeAug'):
        return False
    branches = step['transforms'][0]
    return len(branches) == 2 and all(
        has_type(branch, 'RandomFlip') and branch.get('prob') == prob
        for branch, prob in zip(branches, (1.0, 0.0), strict=True)
    )


def _arguments(node: Mapping[str, Any], without: tuple[str, ...]) -> str:
    return ', '.join(
        f'{key}={json.dumps(value, default=str)}'
        for key, value in sorted(node.items())
        if key not in without
    )
