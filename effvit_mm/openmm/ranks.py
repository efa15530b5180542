"""What processes of one run do apart: which speaks of an error, and how each of them ends."""

from __future__ import annotations

import atexit
import os
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from .console import quiet_standard_error

if TYPE_CHECKING:
    from torch.distributed import Store

RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')  # set by launchers
PATIENCE = timedelta(seconds=5)


def leave_group() -> None:
    """Close the process group that we opened; PyTorch complains at exit otherwise."""
    if 'torch' in sys.modules:
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End the process, one of a group without Python's clearing up.

    Threads of PyTorch's process groups may outlive the group; one that frees a tensor while Python
    takes itself down aborts the process, and the launcher reports a finished run as failed.
    """
    if not any(name in os.environ for name in RANKS):
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def own_rank() -> int:
    """The number of this process among those of a launcher; 0 of a single one."""
    return next((int(os.environ[name]) for name in RANKS if name in os.environ), 0)


def print_error(message: str, everywhere: bool) -> None:
    """Rank 0 prints its error; another rank prints one that rank 0 does not have as well.

    Rank 0 may still be busy, or be well and go on: the others wait a while for its word, which it
    leaves in the store that launched processes share. Where that cannot be reached (Slurm's and
    MPI's is opened by rank 0 when it has read the config), the others print if ``everywhere``.
    """
    rank, store = own_rank(), None
    if rank == 0:
        print(f'error: {message}', file=sys.stderr, flush=True)
    try:
        store = _shared_store()
        if rank == 0 and store is not None:
            store.set(message, '')
        elif store is not None:
            everywhere = not _comes(store, message)
    except RuntimeError:  # there is no store, or it has ended with rank 0
        everywhere = everywhere or store is not None
    if rank != 0 and everywhere:
        print(f'error (rank {rank}): {message}', file=sys.stderr, flush=True)


def _comes(store: Store, word: str) -> bool:
    """Whether a word is in the store, now or soon."""
    end = time.monotonic() + PATIENCE.total_seconds()
    while not store.check([word]):  # wait() would print that it waited in vain
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _shared_store() -> Store | None:
    """Where launched processes leave each other words; None for a single process."""
    if int(os.environ.get('WORLD_SIZE', 1)) < 2 or 'MASTER_ADDR' not in os.environ:
        return None
    from torch.distributed import PrefixStore, TCPStore

    address, port = os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT'])
    with quiet_standard_error():  # a store that is not there is no fault
        store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
    # torchrun's store outlives a restart of the processes.
    return PrefixStore(f'effvit_mm errors {os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)}', store)
