"""Times of functions that are called alternately, A B A B ..., in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median, quantiles
from time import perf_counter
from typing import NamedTuple, TypeVar

Result = TypeVar('Result')


class Timing(NamedTuple):
    """Seconds that something took, over several runs.

    Attributes:
        median: Half of the runs took less.
        low, high: A quarter of them took less than ``low``, a quarter more than ``high``.
    """

    median: float
    low: float
    high: float


def time_alternately(
    passes: Sequence[Callable[[], float]], repeats: int = 20, warm_up: int = 2
) -> list[Timing]:
    """Time passes, each of which gives the seconds that it took, in alternation.

    Args:
        passes: Called without arguments.
        repeats: Calls of each that count.
        warm_up: Calls of each before those.
    """
    seconds = call_alternately(passes, repeats, warm_up)
    return [Timing(median(runs), *quartiles(runs)) for runs in seconds]


def call_alternately(
    functions: Sequence[Callable[[], Result]], repeats: int, warm_up: int
) -> list[list[Result]]:
    """What functions return that are called A B A B ...: whatever else the machine does meets all.

    Args:
        functions: Called without arguments.
        repeats: Calls of each that count.
        warm_up: Calls of each before those.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(f'repeats={repeats}, warm_up={warm_up}: 1 or more, 0 or more are needed')
    results: list[list[Result]] = [[] for _ in functions]
    for number in range(warm_up + repeats):
        for function, own in zip(functions, results, strict=True):
            result = function()
            if number >= warm_up:
                own.append(result)
    return results


def quartiles(runs: Sequence[float]) -> tuple[float, float]:
    """The first and the third; of a single run, that run."""
    if len(runs) == 1:
        return runs[0], runs[0]
    low, _, high = quantiles(runs, n=4, method='inclusive')
    return low, high


def seconds_of(function: Callable[[], object]) -> float:
    """Time of one call."""
    start = perf_counter()
    function()
    return perf_counter() - start
