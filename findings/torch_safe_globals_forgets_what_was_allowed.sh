#!/usr/bin/env bash
# torch 2.14.1, Python 3.11, 2026-12-01.
#
# Two ways allow a class to the reader of weights: `add_safe_globals` for the whole process, and the
# context `safe_globals` for a while. Left, the context takes away what it was given, though the class
# had been allowed for good before: a library that reads one file in a context undoes what another
# library, or the user, had set up, and a file that could be read a moment ago is refused. Contexts
# within each other do the same: when the inner one is left, the outer one has nothing any more.
#
# Seen:
#   allowed for good: read
#   after a context of the same class: refused
#   within an outer context, after an inner one: refused
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 numpy >/dev/null 2>&1
cd "$work"
cat > allow.py <<'PY'
import argparse
import pickle

import torch
from torch.serialization import add_safe_globals, clear_safe_globals, safe_globals

torch.save(argparse.Namespace(lr=0.1), 'options.pth')


def read():
    try:
        return 'read' if torch.load('options.pth').lr == 0.1 else 'other'
    except pickle.UnpicklingError:
        return 'refused'


add_safe_globals([argparse.Namespace])
print('allowed for good:', read())
with safe_globals([argparse.Namespace]):
    read()
print('after a context of the same class:', read())
clear_safe_globals()
with safe_globals([argparse.Namespace]):
    with safe_globals([argparse.Namespace]):
        read()
    print('within an outer context, after an inner one:', read())
PY
venv/bin/python allow.py | tee seen.txt
diff seen.txt - <<'SEEN'
allowed for good: read
after a context of the same class: refused
within an outer context, after an inner one: refused
SEEN
