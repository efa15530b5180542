"""One image through a pipeline before the work: a step that cannot do its part is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmcv.transforms import Compose as _TheirCompose
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from ...errors import ConfigError, UserError
from ..config.building import one_line


def check_pipeline(dataset: Any, key: str) -> None:
    """Raise a ConfigError for the step of ``key``'s pipeline that fails on the first image.

    Also where what comes out has no image.
    """
    try:
        sample = dataset[0]
    except UserError:
        raise
    except Exception as error:  # OpenCV's are none of Python's kinds
        if step := _failed_step(error):
            raise ConfigError(f'{key}.dataset.{step}: {one_line(error)}') from error
        raise
    packed = DefaultScope.get_current_instance().scope_name in ('mmpretrain', 'mmdet')
    if packed and isinstance(sample, Mapping) and 'inputs' not in sample:
        raise ConfigError(f'{key}.dataset.pipeline: what comes out has no image ("inputs")')


def _failed_step(error: BaseException) -> str:
    """``'pipeline[2] (type Resize)'`` of the outermost chain that an error went through."""
    place = error.__traceback__
    while place is not None:
        names = place.tb_frame.f_locals
        chain, step = names.get('self'), names.get('t')
        if isinstance(chain, Compose | _TheirCompose) and step in chain.transforms:
            number = chain.transforms.index(step)
            return f'pipeline[{number}] (type {type(step).__name__})'
        place = place.tb_next
    return ''
