"""Freed memory is kept: the same tensors, made again, cost no page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from effvit_mm.engine.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == 'keep' else None
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(5 * 2**20) for _ in range(8)]  # of 20 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, min(faults() for _ in range(6)))  # the first rounds make room
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='mallopt is of glibc')
def test_the_memory_of_freed_tensors_serves_the_next():
    kept, keeping = _run('keep')
    _, plain = _run('plain')
    if kept == 'False':
        pytest.skip('another C library')
    assert int(keeping) < 100 < int(plain)


def _run(mode: str) -> list[str]:
    command = [sys.executable, '-c', PROGRAM, mode]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
