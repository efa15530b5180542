#!/usr/bin/env bash
# pymilvus 3.0.2, milvus-lite 3.2.2, Python 3.11, 2026-11-30.
#
# MilvusClient('x.db').close() closes the connection alone. The server that serves the file runs on in
# a thread of the process and keeps the file's lock until the process ends: another process that opens
# the file meanwhile gets "Open local milvus failed", without a word of who has it. Only
# milvus_lite.server_manager.server_manager_instance.release_server('x.db') gives it free, which the
# client does not call. A program that fills a database, closes it and starts a worker on it fails so.
#
# Seen:
#   closed, opened by another process: Open local milvus failed
#   released, opened by another process: ['people']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymilvus==3.0.2 milvus-lite==3.2.2 >/dev/null 2>&1
cd "$work"
cat > other.py <<'PY'
import logging

from pymilvus import MilvusClient

logging.disable(logging.CRITICAL)
try:
    print(MilvusClient('x.db').list_collections())
except Exception as error:
    print(error.message)
PY
cat > look.py <<'PY'
import subprocess
import sys

from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient


def other():
    command = [sys.executable, 'other.py']
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


client = MilvusClient('x.db')
client.create_collection('people', dimension=2)
client.close()
print('closed, opened by another process:', other())
server_manager_instance.release_server('x.db')
print('released, opened by another process:', other())
PY
venv/bin/python look.py 2>log | tee seen || { tail -5 log; exit 1; }
diff seen - <<'SEEN'
closed, opened by another process: Open local milvus failed
released, opened by another process: ['people']
SEEN
