"""Work that one of several processes does for all."""

from __future__ import annotations

from collections.abc import Callable

from torch import distributed

from ..errors import UserError


def is_distributed() -> bool:
    """Whether there are several processes that exchange tensors."""
    return distributed.is_available() and distributed.is_initialized()


def on_main_process(work: Callable[[], None]) -> None:
    """Let the main process alone do some work; a :class:`UserError` of it is raised in all."""
    outcome: list[UserError | None] = [None]
    if not is_distributed() or distributed.get_rank() == 0:
        try:
            work()
        except UserError as error:
            outcome = [error]
    if is_distributed():
        distributed.broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise outcome[0]
