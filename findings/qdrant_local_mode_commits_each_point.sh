#!/usr/bin/env bash
# qdrant-client 1.20.0, Python 3.11, 2026-11-30.
#
# In local mode (QdrantClient(path=...)) an upsert of many points writes each of them in a transaction
# of its own: SQLite brings every single one to the disk. 10,000 points of 512 numbers in one call took
# 25 to 50 s here (an AMD EPYC), nearly all of it waiting for the disk; and a process that is killed
# within a call leaves a part of the batch.
#
# Seen:
#   one call of 20000 points, killed in it: some are there, not all
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q qdrant-client==1.20.0 numpy==2.2.6 >/dev/null 2>&1
cd "$work"
cat > add.py <<'PY'
from qdrant_client import QdrantClient, models

COUNT = 20000
client = QdrantClient(path='points')
vectors = models.VectorParams(size=4, distance=models.Distance.DOT)
client.create_collection('people', vectors_config=vectors)
client.upsert('people', models.Batch(ids=list(range(COUNT)), vectors=[[1.0, 2.0, 3.0, 4.0]] * COUNT))
print('whole', flush=True)
PY
cat > look.py <<'PY'
import glob
import sqlite3
import subprocess
import sys
import time

from qdrant_client import QdrantClient


def stored():
    """Points that are committed."""
    for file in glob.glob('points/**/*.sqlite', recursive=True):
        try:
            with sqlite3.connect(f'file:{file}?mode=ro', uri=True) as storage:
                return storage.execute('SELECT count(*) FROM points').fetchone()[0]
        except sqlite3.OperationalError:
            pass
    return 0


process = subprocess.Popen([sys.executable, 'add.py'], stdout=subprocess.PIPE, text=True)
while stored() < 100 and process.poll() is None:
    time.sleep(0.01)
process.kill()
assert 'whole' not in process.stdout.read(), 'the call had ended'
there = QdrantClient(path='points').count('people').count
print(there, file=sys.stderr)
kind = 'some are there, not all' if 0 < there < 20000 else 'none or all are there'
print('one call of 20000 points, killed in it:', kind)
PY
venv/bin/python look.py 2>log | tee seen || { tail -5 log; exit 1; }
diff seen - <<'SEEN'
one call of 20000 points, killed in it: some are there, not all
SEEN
