"""Several processes: an error that all have is printed once, one of a single rank is not lost."""

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
from torch.distributed import TCPStore

from effvit_mm.errors import DataError
from effvit_mm.openmm import cli, ranks

pytestmark = pytest.mark.filterwarnings('ignore:.*use of fork')


def fail(rank: int, port: int, message: str | None, in_the_run: bool) -> None:
    """What a rank does: it raises an error, or all is well with it."""
    os.environ.update(
        RANK=str(rank), WORLD_SIZE='3', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port)
    )

    def work(args, session) -> None:
        session.runner = object() if in_the_run else None
        if message is not None:
            raise DataError(message)

    os._exit(cli.run_guarded(work, cli.Parser, []))


def printed(capfd, port: int, messages: list[str | None], in_the_run: bool = True) -> list[str]:
    """The lines that ranks with these errors print, sorted."""
    processes = [
        multiprocessing.get_context('fork').Process(
            target=fail, args=(rank, port, message, in_the_run)
        )
        for rank, message in enumerate(messages)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    codes = [0 if message is None else 2 for message in messages]
    assert [process.exitcode for process in processes] == codes
    return sorted(capfd.readouterr().err.splitlines())


def keep_a_store(connection) -> None:
    """The store that torchrun keeps, until the other end of the connection says so."""
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    connection.send(store.port)
    connection.poll(None)
    os._exit(0)


@contextlib.contextmanager
def open_store() -> Iterator[int]:
    """The port of a store of another process.

    Its thread would be at work here while ranks are forked, and a lock that it held just then
    would stay shut for them.
    """
    ours, theirs = multiprocessing.Pipe()
    keeper = multiprocessing.get_context('fork').Process(target=keep_a_store, args=(theirs,))
    keeper.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.send(None)
        keeper.join()


@pytest.fixture
def port() -> Iterator[int]:
    """Of a store that is there whatever becomes of the ranks."""
    with open_store() as port:
        yield port


@pytest.mark.parametrize('in_the_run', [False, True])
def test_the_same_error_is_printed_once(port, in_the_run, capfd):
    assert printed(capfd, port, ['no file a'] * 3, in_the_run) == ['error: no file a']


@pytest.mark.parametrize('in_the_run', [False, True])
def test_an_error_of_one_rank_is_not_lost(port, in_the_run, monkeypatch, capfd):
    monkeypatch.setattr(ranks, 'PATIENCE', timedelta(seconds=0.5))
    lines = printed(capfd, port, [None, 'no file a', None], in_the_run)
    assert lines == ['error (rank 1): no file a']


def test_an_error_that_rank_0_does_not_have_is_printed_beside_its_own(port, capfd):
    lines = printed(capfd, port, ['no file a', 'no file a', 'no file b'])
    assert lines == ['error (rank 2): no file b', 'error: no file a']


@pytest.mark.parametrize(
    ('in_the_run', 'lines'),
    [
        (False, ['error: no file a']),
        (True, ['error (rank 1): no file a', 'error (rank 2): no file a', 'error: no file a']),
    ],
)
def test_without_a_store_the_run_has_each_rank_speak(in_the_run, lines, monkeypatch, capfd):
    with open_store() as port:
        pass  # nobody listens there any more
    monkeypatch.setattr(ranks, 'PATIENCE', timedelta(seconds=0.5))
    assert printed(capfd, port, ['no file a'] * 3, in_the_run) == lines
