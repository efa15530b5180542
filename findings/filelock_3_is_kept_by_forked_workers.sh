#!/usr/bin/env bash
# filelock 3.25.2 and 4.0.0 (which PyTorch asks for, without a bound), Python 3.11, 2026-11-30.
#
# A process takes a FileLock, forks a worker as PyTorch's data loader does on Linux, and is ended by
# SIGKILL. The lock is one of the open file, which the worker has as well: with 3.25.2 it stays held
# while the worker lives (a loader's looks for its parent every five seconds), so a run that is started
# anew at once finds its folder taken by nobody that it could wait for. With 4.0.0 the lock is free.
#
# Seen:
#   3.25.2: held by the worker alone
#   4.0.0: free
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat > look.py <<'PY'
import os
import signal
import subprocess
import sys
import time

import filelock

if len(sys.argv) > 1:
    lock = filelock.FileLock('run.lock')
    lock.acquire(timeout=0)
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
    sys.exit()
run = subprocess.Popen([sys.executable, __file__, 'run'], stdout=subprocess.PIPE, text=True)
worker = int(run.stdout.readline())
run.kill()
run.wait()
try:
    filelock.FileLock('run.lock').acquire(timeout=0.5)
    found = 'free'
except filelock.Timeout:
    found = 'held by the worker alone'
os.kill(worker, signal.SIGKILL)
print(f'{filelock.__version__}: {found}')
PY
for version in 3.25.2 4.0.0; do
    python3 -m venv "$version"
    "$version/bin/pip" install -q "filelock==$version" >/dev/null 2>&1
    "$version/bin/python" look.py
done | tee seen
diff seen - <<'SEEN'
3.25.2: held by the worker alone
4.0.0: free
SEEN
