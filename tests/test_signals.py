"""SIGTERM is an orderly end of a tool, and the plain end of processes that it forks."""

import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time

import pytest
from mmengine.config import Config

from effvit_mm.openmm.cli import EXIT_INTERRUPTED, EXIT_TERMINATED, Parser, Terminated, run_guarded


def fork_and_look() -> int:
    """How a forked process would take SIGTERM: 0 for the system's way."""
    child = os.fork()
    if child == 0:
        os._exit(signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(work) -> int:
    return run_guarded(lambda args, session: work(), Parser, [])


@pytest.mark.parametrize(
    ('ending', 'code', 'told'),
    [
        (KeyboardInterrupt, EXIT_INTERRUPTED, 'interrupted'),
        (Terminated, EXIT_TERMINATED, 'terminated (SIGTERM)'),
    ],
)
def test_what_a_library_makes_of_a_signal_is_an_orderly_end(
    ending, code, told, monkeypatch, capsys
):
    """mmengine formats the config for each checkpoint, and says of any end that it cannot."""

    def format_code(*args, **kwargs) -> None:
        raise ending

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', format_code)
    assert run(lambda: Config({'a': 1}).pretty_text) == code
    assert told in capsys.readouterr().err


@pytest.mark.filterwarnings('ignore:.*use of fork')
@pytest.mark.parametrize('in_thread', [False, True])
def test_forked_processes_do_not_inherit_the_handler(in_thread):
    seen, before = [], signal.getsignal(signal.SIGTERM)

    def work() -> None:
        own = signal.getsignal(signal.SIGTERM)
        if in_thread:
            thread = threading.Thread(target=lambda: seen.append(fork_and_look()))
            thread.start()
            thread.join()
        else:
            seen.append(fork_and_look())
        assert signal.getsignal(signal.SIGTERM) is own != before

    assert run(work) == 0 and seen == [0]
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_tool_itself_ends_in_order(capsys):
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError('not reached')

    assert run(work) == EXIT_TERMINATED
    assert 'terminated (SIGTERM)' in capsys.readouterr().err


SCRIPT = """
import multiprocessing, os, signal, sys, time
from torch.utils.data import DataLoader
from effvit_mm.openmm.cli import Parser, run_guarded

class Slow:
    # The workers end, of which PyTorch tells within it.
    def __del__(self):
        for worker in multiprocessing.active_children():
            worker.terminate()
        time.sleep(1)  # not join(), after which nothing is told

signal.signal(signal.SIGINT, signal.default_int_handler)

def work(args, session):
    session.loader = DataLoader(range(1000), num_workers=2, persistent_workers=True)
    for step, _ in enumerate(session.loader):
        if step == 3 and sys.argv[1] == 'well':
            return
        if step == 3 and sys.argv[1] == 'finaliser':
            Slow()
        if step == 3 and sys.argv[1] == 'interrupted':
            os.kill(0, signal.SIGINT)
            time.sleep(5)
        if step == 3:
            os.kill(os.getpid() if sys.argv[1] == 'alone' else 0, signal.SIGTERM)
            time.sleep(5)

sys.exit(run_guarded(work, lambda: Parser(), []))
"""


@pytest.mark.parametrize(
    ('end', 'code', 'line'),
    [
        ('well', 0, ''),
        ('alone', EXIT_TERMINATED, 'terminated (SIGTERM)\n'),
        ('group', EXIT_TERMINATED, 'terminated (SIGTERM)\n'),
        ('finaliser', EXIT_TERMINATED, 'terminated (SIGTERM)\n'),
        ('interrupted', EXIT_INTERRUPTED, 'interrupted\n'),
    ],
)
def test_workers_of_a_loader_end_without_a_word(end, code, line, trainers):
    """Their iterator is still there: Python would end them by a signal, of which PyTorch warns."""
    done = trainers.run('-c', SCRIPT, end, start_new_session=True)
    assert (done.returncode, done.stderr) == (code, line)


def error_of(*chain: BaseException) -> BaseException:
    for error, cause in itertools.pairwise(chain):
        error.__context__ = cause
    return chain[0]


def test_what_comes_of_the_signal_to_workers_is_the_signal():
    seen = RuntimeError('DataLoader worker (pid 5) is killed by signal: Terminated. ')
    killed = RuntimeError('DataLoader worker (pid 5) is killed by signal: Killed. ')
    for chain in (
        [seen],
        [RuntimeError('worker exited unexpectedly'), seen],
        [killed, Terminated()],
    ):
        assert run_raising(error_of(*chain)) == EXIT_TERMINATED
    assert run_raising(error_of(killed, ValueError('x'))) not in (0, EXIT_TERMINATED)


def run_raising(error: BaseException) -> int:
    def work() -> None:
        raise error

    return run(work)


def test_children_that_were_there_before_are_kept():
    context = multiprocessing.get_context('fork')
    earlier, own = (context.Process(target=time.sleep, args=(60,), daemon=True) for _ in range(2))
    earlier.start()
    assert run(own.start) == 0
    assert earlier.is_alive() and not own.is_alive()
    earlier.kill()


class Finaliser:
    """Gets a signal where Python can raise nothing, as in a callback of a weak reference."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_amid_a_finaliser_ends_the_run_all_the_same(number, code, capsys):
    def work() -> None:
        Finaliser(number)
        time.sleep(30)

    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(work) == code
    finally:
        signal.signal(signal.SIGINT, handler)
    assert sys.unraisablehook is hook
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_second_signal_does_not_end_the_orderly_end(capsys):
    """`timeout` sends it to the program, and to its group."""
    seen = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            seen.append('cleared up')

    for _ in range(2):  # the next run has a signal of its own
        assert run(work) == EXIT_TERMINATED
    assert seen == ['cleared up'] * 2
    assert capsys.readouterr().err == 'terminated (SIGTERM)\n' * 2


@pytest.mark.filterwarnings('ignore:.*use of fork')
def test_forked_processes_leave_ctrl_c_to_the_one_that_forked_them():
    def ignores() -> int:
        child = os.fork()
        if child == 0:
            os._exit(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    found = []
    # What a shell starts in the background ignores it from its beginning.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert ignores() == 0
        assert run(lambda: found.append(ignores())) == 0
        assert found == [1] and ignores() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_pytorch_tells_of_a_worker_within_a_finaliser_is_not_printed(capsys):
    class Told:
        def __init__(self, text: str) -> None:
            self.text = text

        def __del__(self) -> None:
            raise RuntimeError(self.text)

    def work() -> None:
        Told('DataLoader worker (pid 5) is killed by signal: Terminated. ')
        signal.raise_signal(signal.SIGTERM)

    assert run(work) == EXIT_TERMINATED
    assert capsys.readouterr().err == 'terminated (SIGTERM)\n'
    other = []
    hook, sys.unraisablehook = sys.__unraisablehook__, lambda told: other.append(told.exc_value)
    sys.__unraisablehook__ = sys.unraisablehook
    try:
        run(lambda: Told('another'))
    finally:
        sys.unraisablehook = sys.__unraisablehook__ = hook
    assert [str(error) for error in other] == ['another']
