"""Commands whose output goes to ``head`` end with it, and only they."""

import os
import subprocess
import sys

import pytest

from effvit_mm.openmm.cli import Parser, run_guarded
from effvit_mm.utils.closed_output import EXIT_CLOSED


@pytest.fixture
def closed():
    """Where one writes what nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.filterwarnings('ignore:.*use of fork')
@pytest.mark.parametrize('size', [1, 100_000])  # kept in the buffer until the end; written at once
def test_a_command_ends_when_its_reader_has_gone(closed, size, capfd):
    child = os.fork()
    if child == 0:
        os.dup2(closed, 1)
        sys.stdout = os.fdopen(1, 'w')
        code = run_guarded(lambda args, session: print('x' * size), Parser, [])
        sys.stdout.flush()  # as Python does when it ends
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == EXIT_CLOSED
    assert capfd.readouterr().err == ''


def test_the_table_of_operators_ends_without_a_word(closed):
    ended = subprocess.run(
        [sys.executable, '-m', 'effvit_mm.ops'], stdout=closed, stderr=subprocess.PIPE, check=False
    )
    assert ended.returncode != 0 and ended.stderr == b''


def test_another_pipe_that_breaks_is_an_error(closed):
    with pytest.raises(BrokenPipeError):
        run_guarded(lambda args, session: os.write(closed, b'x'), Parser, [])
