#!/usr/bin/env bash
# pymilvus 3.0.2, absl-py 2.4.0, Python 3.11, 2026-11-30.
#
# `import pymilvus` configures logging for the whole process (logging.config.dictConfig), which first
# closes every handler that exists, of whatever library. An open log file is closed. The handler of absl,
# which TensorBoard, JAX and others bring, closes the stream that it was made with, if that is not
# sys.stderr now: what a test runner or contextlib.redirect_stderr had put there when absl was imported is
# gone, and who writes to it next gets "I/O operation on closed file". An import in the middle of a program
# is enough.
#
# Seen:
#   before: log file closed: False, stream of the absl handler closed: False
#   after: log file closed: True, stream of the absl handler closed: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymilvus==3.0.2 absl-py==2.4.0 >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import io
import logging
import sys

real, sys.stderr = sys.stderr, io.StringIO()
import absl.logging  # noqa: E402  takes what sys.stderr is now

captured, sys.stderr = sys.stderr, real
absl.logging.use_absl_handler()
mine = logging.FileHandler('run.log')
logging.getLogger('mine').addHandler(mine)


def state(when):
    file = mine.stream is None or mine.stream.closed
    print(f'{when}: log file closed: {file}, stream of the absl handler closed: {captured.closed}')


state('before')
import pymilvus  # noqa: E402, F401

state('after')
PY
venv/bin/python look.py | tee seen
diff seen - <<'SEEN'
before: log file closed: False, stream of the absl handler closed: False
after: log file closed: True, stream of the absl handler closed: True
SEEN
