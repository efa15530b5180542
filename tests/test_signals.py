"""SIGTERM is an orderly end of a tool, and the plain end of processes that it forks."""

import os
import signal
import threading

import pytest

from effvit_mm.openmm.cli import EXIT_TERMINATED, Parser, run_guarded


def fork_and_look() -> int:
    """How a forked process would take SIGTERM: 0 for the system's way."""
    child = os.fork()
    if child == 0:
        os._exit(signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(work) -> int:
    return run_guarded(lambda args, session: work(), Parser, [])


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
