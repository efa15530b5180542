"""Images one after the other, through a network in batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from ..errors import ConfigError, DataError
from .inputs import Found, OnFault, Stream, images_of
from .progress import with_progress
from .videos import Image

Done = Callable[[Image], bool]


def with_bar(
    found: Sequence[Found], progress: bool, doing: str, on_fault: OnFault | None = None
) -> Iterable[Image]:
    """Images and frames of all inputs; if asked for, with how far it is."""
    images = images_of(found, on_fault)
    if not progress:
        return images
    counts = [_count(one) for one in found]
    total = sum(counts) if all(counts) else None
    return with_progress(images, doing, total)


def _count(one: Found) -> int:
    """How many images; 0 where it is not known."""
    if isinstance(one, Image):
        return 1
    if isinstance(one, Stream):
        return len(one.items) if hasattr(one.items, '__len__') else 0
    return one.frames


def run_in_batches(
    images: Iterable[Image],
    load: Callable[[Image], Any],
    shape: Callable[[Any], Sequence[int]],
    compute: Callable[[Sequence[Any]], Sequence[Any]],
    batch_size: int,
    on_fault: OnFault | None = None,
    done: Done | None = None,
) -> Iterator[tuple[Image, Any]]:
    """Images with what a network gives of them, in their order.

    As many images as a batch holds are taken at a time, and those that the network gets in one size
    go through it together: no result depends on the sizes of what else is in a batch. Batches
    depend on the order of the inputs alone, not on where a run began: one that goes on gives what
    an undisturbed one gives, to the last bit.

    Args:
        images: Any number.
        load: Makes of one what the network takes.
        shape: Of what was loaded: those of one shape go together.
        compute: One result for each that was loaded.
        batch_size: The most that go together.
        on_fault: Gets the DataError of an image that cannot be used; None: it ends all.
        done: Whether an image needs no result any more.
    """
    images = iter(images)
    while part := list(islice(images, batch_size)):
        wanted = [place for place, image in enumerate(part) if done is None or not done(image)]
        loaded = _loaded(part, wanted, load, on_fault)
        if not loaded:
            continue
        results: dict[int, Any] = {}
        # The others belong to the batches; one of them that is gone by now has its result.
        rest = [place for place in range(len(part)) if place not in wanted]
        everything = {**loaded, **_loaded(part, rest, load, lambda error: None)}
        for places in _alike(everything, shape):
            if not loaded.keys().isdisjoint(places):
                found = compute([everything[place] for place in places])
                results.update(zip(places, found, strict=True))
        yield from ((part[place], results[place]) for place in wanted if place in loaded)


def _loaded(
    part: Sequence[Image],
    places: Iterable[int],
    load: Callable[[Image], Any],
    on_fault: OnFault | None,
) -> dict[int, Any]:
    """What can be used at these places."""
    loaded = {}
    for place in places:
        try:
            loaded[place] = load(part[place])
        except DataError as error:
            if on_fault is None:
                raise
            on_fault(error)
    return loaded


def _alike(loaded: dict[int, Any], shape: Callable[[Any], Sequence[int]]) -> list[list[int]]:
    """Places of each shape, in order."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place in sorted(loaded):
        groups.setdefault(tuple(shape(loaded[place])), []).append(place)
    return list(groups.values())


def check_batch_size(batch_size: int) -> None:
    """Raise where it is no number of images."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f'batch_size={batch_size!r}: 1 or more is needed')
