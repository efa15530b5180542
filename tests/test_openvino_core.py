"""OpenVINO beside signals: what its CPU plugin does to the stack of their handlers."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from effvit_mm.runtime import OpenVINOSession
from effvit_mm.runtime.openvino_core import _SignalStack, core, signal_stack_kept

openvino = pytest.importorskip('openvino')
pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='signal stacks are read in /proc')


def signal_stack():
    """Address, flags and size of this thread's stack for signals."""
    stack = _SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.base, stack.flags, stack.size


def is_there():
    """Whether the stack for signals lies in memory of this process, or there is none."""
    base, flags, size = signal_stack()
    lines = Path('/proc/self/maps').read_text().splitlines()
    ranges = [line.split()[0].split('-') for line in lines]
    spans = [(int(low, 16), int(high, 16)) for low, high in ranges]
    return flags == 2 or any(low <= base and base + size <= high for low, high in spans)


def tiny():
    number = openvino.opset13.parameter([1, 3, 2, 2], openvino.Type.f32, name='images')
    return openvino.Model([openvino.opset13.relu(number)], [number])


def let_go_in_order(make):
    """Two users of OpenVINO, the first of which goes first."""
    first = make()
    second = make()
    del first
    del second


def test_sessions_leave_a_stack_for_signals(tmp_path):
    openvino.save_model(tiny(), tmp_path / 'a.xml')
    images = torch.tensor([[-1.0, 2.0], [3.0, -4.0]]).expand(1, 3, 2, 2)

    def run():
        session = OpenVINOSession(tmp_path / 'a.xml')
        assert (session(images)[0] == images.relu().numpy()).all()
        return session

    let_go_in_order(run)
    assert is_there()
    subprocess.run([sys.executable, '-c', ''], check=True)  # its end is a signal
    assert core() is core()


def test_other_peoples_cores_leave_the_stack_as_it_was():
    before = signal_stack()
    with signal_stack_kept():
        let_go_in_order(lambda: openvino.Core().compile_model(tiny(), 'CPU'))
    assert signal_stack() == before and is_there()
