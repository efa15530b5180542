"""Freed memory stays with the process and serves the next tensors."""

import ctypes
import platform
import subprocess
import sys

import pytest

from effvit_mm.utils import allocator

BLOCK = 20  # MB, of the size of a training step's activations
NUM_BLOCKS = 8

# What is resident after each of six rounds of making and freeing the blocks, in MB above the start.
PROGRAM = f"""
import ctypes, os, sys, torch
from effvit_mm.utils.allocator import (
    M_MMAP_THRESHOLD, keep_freed_memory, release_freed_memory
)

def resident():
    pages = int(open('/proc/self/statm').read().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') >> 20

torch.ones({BLOCK} * 2**18)  # the first operation loads kernels
if sys.argv[1] == 'keep':
    assert keep_freed_memory()
else:  # each block back to the system when it is freed
    assert ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 2**20) == 1
start = resident()
for _ in range(6):
    [torch.ones({BLOCK} * 2**18) for _ in range({NUM_BLOCKS})]
    print(resident() - start)
if sys.argv[1] == 'keep':
    # Between the blocks lies what stays.
    blocks, kept = zip(*((torch.ones({BLOCK} * 2**18), bytes(5000)) for _ in range({NUM_BLOCKS})))
    del blocks
    print(resident() - start)
    assert release_freed_memory()
    print(resident() - start)
"""


@pytest.mark.skipif(
    sys.platform != 'linux' or platform.libc_ver()[0] != 'glibc', reason='mallopt is of glibc'
)
def test_the_memory_of_freed_tensors_serves_the_next():
    made = BLOCK * NUM_BLOCKS
    (*kept, released), given_back = _run('keep'), _run('give back')
    assert min(kept) > 0.8 * made  # stays,
    assert max(kept) < 1.5 * made  # and is used again
    assert max(given_back) < 0.5 * made
    assert released < 0.1 * made


def _run(mode: str) -> list[int]:
    command = [sys.executable, '-c', PROGRAM, mode]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in process.stdout.split()]


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, 'libc_ver', lambda: ('musl', '1.2'))
    monkeypatch.setattr(ctypes, 'CDLL', None)  # not even opened
    assert not allocator.keep_freed_memory() and not allocator.release_freed_memory()
