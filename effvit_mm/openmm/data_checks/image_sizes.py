"""Images so narrow that a pipeline would scale a side of them to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmcv.image import rescale_size

from ...errors import DataError
from ..config.arguments import is_number

Scale = tuple[int, int]


def check_resized_sizes(dataset: Any, key: str) -> None:
    """Raise where an image's side would round to zero pixels; OpenCV would name no file.

    Looks at sizes that the annotations state (detection), none is read.

    Args:
        dataset: As built; wrappers are looked into.
        key: The config key of its loader, for messages.

    Raises:
        DataError: Names the first such image, the scale and how many there are.
    """
    for part in plain_sets(dataset):
        scales = pipeline_scales(getattr(part, 'pipeline', None))
        if scales and len(part) and {'width', 'height'} <= set(part.get_data_info(0)):
            _check(part, scales, key)


def plain_sets(dataset: Any) -> Iterator[Any]:
    """The data sets within wrappers, or the data set itself, that know their samples."""
    if hasattr(dataset, 'get_data_info') and not hasattr(dataset, 'datasets'):
        yield dataset
    for inner in (getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())):
        if inner is not None:
            yield from plain_sets(inner)


def _check(dataset: Any, scales: list[Scale], key: str) -> None:
    found = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        size = info.get('width') or 0, info.get('height') or 0
        if min(size) > 0 and (fault := scaled_to_nothing(size, scales)):
            found.append(f'image {info.get("img_path", index)} {fault}')
    if found:
        more = f' (and {len(found) - 1} more images)' if len(found) > 1 else ''
        raise DataError(
            f'{key}.dataset: {found[0]}{more}; take such images out of the annotations, or resize '
            'with keep_ratio=False'
        )


def scaled_to_nothing(size: tuple[int, int], scales: list[Scale]) -> str | None:
    """What is wrong with an image of (width, height); None where it keeps both its sides."""
    scale = next((scale for scale in scales if vanishes(size, scale)), None)
    if scale is None:
        return None
    return f'of {size[0]}x{size[1]} pixels would be scaled to fit {scale}, a side of it to nothing'


def vanishes(size: tuple[int, int], scale: Scale) -> bool:
    """Whether an image of (width, height) loses a side when it is fitted into a scale."""
    return min(rescale_size(size, scale)) < 1


def pipeline_scales(pipeline: Any) -> list[Scale]:
    """The least scales of the steps of a built pipeline that keep an image's ratio."""
    return [
        scale for step in getattr(pipeline, 'transforms', ()) for scale in smallest_scales(step)
    ]


def smallest_scales(step: Any) -> list[Scale]:
    """The least (width, height) that a transform which keeps the ratio may fit an image into.

    Of arguments that cannot be, none: what such a step raises is told with its key elsewhere.
    """
    resize = getattr(step, 'resize', step)  # RandomResize, RandomChoiceResize
    if not getattr(resize, 'keep_ratio', False):
        return []
    scales = getattr(step, 'scales', None) or [getattr(step, 'scale', None)]
    ratios = getattr(step, 'ratio_range', None) or (1.0,)
    if isinstance(scales[0], list | tuple) and not _are_numbers(scales[0]):
        scales = scales[0]  # a range of scales
    if not _are_numbers(ratios):
        return []
    sizes = (scale for scale in scales if _are_numbers(scale) and len(scale) == 2)
    return [tuple(int(side * min(ratios)) for side in size) for size in sizes]


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(is_number(item) for item in value)
