"""One image through a pipeline before the work: a step that cannot do its part is named."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmcv.transforms import Compose as _TheirCompose
from mmcv.transforms import RandomApply, RandomChoice
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DefaultScope

from ...errors import ConfigError, UserError
from ..config.arguments import is_number
from ..config.building import one_line
from .image_sizes import plain_sets

CHANCES = ('prob', 'erase_prob')  # with which a step of OpenMMLab's does anything


def check_pipeline(dataset: Any, key: str) -> None:
    """Raise a ConfigError for the step of ``key``'s pipeline that fails on the first image.

    Also where what comes out has no image. Steps that chance alone calls are called.
    """
    sample = load_sample(dataset, 0, key)
    packed = DefaultScope.get_current_instance().scope_name in ('mmpretrain', 'mmdet')
    if packed and isinstance(sample, Mapping) and 'inputs' not in sample:
        raise ConfigError(f'{key}.dataset.pipeline: what comes out has no image ("inputs")')
    for part in plain_sets(dataset):
        _try_random_steps(part, key)


def load_sample(dataset: Any, index: int, key: str) -> Any:
    """An image as the pipeline gives it; a ConfigError names the step of it that fails."""
    try:
        return dataset[index]
    except UserError:
        raise
    except Exception as error:  # OpenCV's are none of Python's kinds
        if step := _failed_step(error):
            raise ConfigError(f'{key}.dataset.{step}: {one_line(error)}') from error
        raise


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


def _try_random_steps(dataset: Any, key: str) -> None:
    """Call all that a pipeline may call on the first image; of data sets that do no more."""
    chain = getattr(dataset, 'pipeline', None)
    plain = getattr(type(dataset), 'prepare_data', None) is BaseDataset.prepare_data
    if not plain or not len(dataset) or not isinstance(chain, Compose):
        return
    if not any(map(_is_random, chain.transforms)):
        return
    steps = copy.deepcopy(chain.transforms)  # some keep the images that they saw
    last = max(number for number, step in enumerate(steps) if _is_random(step))
    sample = dataset.get_data_info(0)
    for number, step in enumerate(steps[: last + 1]):
        place = f'{key}.dataset.pipeline[{number}] (type {type(step).__name__})'
        for branch in _branches(step):
            _apply(branch, copy.deepcopy(sample), place)
        sample = _apply([step], sample, place)
        if sample is None:
            return


def _is_random(step: Any) -> bool:
    chances = [getattr(step, name, None) for name in CHANCES]
    return bool(_choices(step)) or any(is_number(prob) and 0 < prob < 1 for prob in chances)


def _choices(step: Any) -> list[Any]:
    """What a step chooses from: steps, or chains of them."""
    if isinstance(step, RandomApply):
        return [step.transforms]
    # Of mmpretrain's, which is not needed for detection, a RandAugment.
    chooses = isinstance(step, RandomChoice) or hasattr(step, 'random_policy_indices')
    return list(step.transforms) if chooses else []


def _branches(step: Any) -> Iterator[list[Any]]:
    """The steps of each choice, or the step itself, with no chance left."""
    for choice in _choices(step) or ([step] if _is_random(step) else ()):
        inner = choice.transforms if isinstance(choice, _TheirCompose) else [choice]
        yield [_surely(each) for each in inner]


def _surely(step: Any) -> Any:
    step = copy.copy(step)
    for name in CHANCES:
        if is_number(prob := getattr(step, name, None)) and prob > 0:
            setattr(step, name, 1.0)
    return step


def _apply(steps: list[Callable], sample: Any, place: str) -> Any:
    """The sample after some steps; None where one of them gives it up."""
    for step in steps:
        try:
            sample = step(sample)
        except UserError:
            raise
        except Exception as error:  # OpenCV's are none of Python's kinds
            kind = type(step).__name__
            within = '' if place.endswith(f' {kind})') else f'{kind}: '
            raise ConfigError(f'{place}: {within}{one_line(error)}') from error
        if sample is None:
            return None
    return sample
