#!/usr/bin/env bash
# openvino 2026.4.1, Linux x86-64, Python 3.11, 2026-11-29.
#
# The CPU plugin of each openvino.Core registers an alternate signal stack of its own for the thread
# that makes it (11,568 bytes), and puts the one before back when it is freed, if its own is still
# registered. Two cores that are freed in the order in which they were made leave the first one's
# registered, whose memory is returned. Python runs its handlers of signals on that stack, so the
# next signal with a handler ends it: torch's DataLoader, which handles the end of its workers, was
# seen to take the process along with a segmentation fault in poll(), far from any inference. One
# core a process, never freed, is safe.
#
# Seen (which stack is registered after both are freed):
#   last made, first freed: the former stack
#   first made, first freed: of the first core, which is gone
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openvino==2026.4.1 >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import ctypes
import faulthandler
import sys

import openvino

class Stack(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


def registered():
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.base, stack.flags, stack.size


def core():
    made = openvino.Core()
    made.get_property('CPU', 'FULL_DEVICE_NAME')  # loads the plugin
    return made


faulthandler.enable()  # has a stack of its own
former = registered()
cores, stacks = [], []
for _ in range(2):
    cores.append(core())
    stacks.append(registered())
assert len({former, *stacks}) == 3, 'each core should bring its own'
for _ in range(2):
    cores.pop(0 if sys.argv[1] == 'first' else -1)
names = {former: 'the former stack', stacks[0]: 'of the first core, which is gone'}
print(names.get(registered(), registered()))
PY
last=$(venv/bin/python look.py last)
first=$(venv/bin/python look.py first)
echo "last made, first freed: $last"
echo "first made, first freed: $first"
[ "$last" = 'the former stack' ]
[ "$first" = 'of the first core, which is gone' ]
