"""Whether a re-ID test set can be evaluated at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ...errors import DataError
from ..datasets.scan import tell_once


def find_match(dataset: Any, key: str) -> list[int]:
    """Places of images by which an evaluation can be tried: a query and a match of it.

    Queries without a match are told, as far as some have one.

    Args:
        dataset: As built; of one that is not for re-identification the first image will do.
        key: The config key of its loader, for messages.

    Raises:
        DataError: No query's person is in the gallery on another camera.
    """
    if not hasattr(dataset, 'get_pids') or not getattr(dataset, 'num_query', 0):
        return [0]
    pids, cameras = dataset.get_pids().tolist(), dataset.get_camids().tolist()
    queries = dataset.num_query
    gallery: dict[int, dict[int, int]] = defaultdict(dict)  # person -> camera -> place
    for place in range(queries, len(pids)):
        gallery[pids[place]].setdefault(cameras[place], place)
    found = [
        (query, match)
        for query in range(queries)
        for match in [_match(gallery.get(pids[query], {}), cameras[query])]
        if match is not None
    ]
    if found:
        if lonely := sorted(set(range(queries)) - {query for query, _ in found}):
            first = dataset.get_data_info(lonely[0])['img_path']
            tell_once(
                f'{key}.dataset: {len(lonely)} of {queries} queries have no match by another '
                f'camera in the gallery, the first is {first}: they are not judged; add such '
                'pictures, or take these queries out'
            )
        return list(found[0])
    shared = len(set(pids[:queries]) & set(gallery))
    count = len(set(cameras))
    raise DataError(
        f'{key}.dataset: none of the {queries} queries can have a match: {shared} of their '
        f'{len(set(pids[:queries]))} persons are in the gallery, none of them on another camera '
        f'({count} camera{"s" if count > 1 else ""} in all; matches of the same camera do not '
        'count). Add pictures by another camera, or have pattern tell the cameras apart; '
        'train.py --no-validate trains without'
    )


def _match(places: Mapping[int, int], camera: int) -> int | None:
    """Where a person of the gallery is seen by another camera."""
    return next((place for other, place in places.items() if other != camera), None)
