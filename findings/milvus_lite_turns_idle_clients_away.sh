#!/usr/bin/env bash
# pymilvus 3.0.2, milvus-lite 3.2.2, grpcio 1.85.3, Python 3.11, 2026-11-30.
#
# A client of a `NAME.db` that rests for about a minute has a line of gRPC on standard error, at the
# level of errors: the server, which milvus-lite starts in the same process and leaves at gRPC's
# settings (a ping in five minutes, two too many end the connection), turns away pymilvus's client,
# which pings every ten seconds whether it has calls or not. The next call opens a connection anew,
# so nothing is lost but the silence: a program whose standard error is read as a list of faults,
# or a notebook, has one that nobody can explain. With a ping time that never comes
# (`grpc_options={'grpc.keepalive_time_ms': 2**31 - 1}`) it stays away.
#
# Seen:
#   as it comes: 2 answers, GOAWAY too_many_pings
#   without pings: 2 answers, silent
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q pymilvus==3.0.2 milvus-lite==3.2.2 grpcio==1.85.3 >/dev/null 2>&1
cd "$work"
cat > rest.py <<'PY'
import sys
import time

from pymilvus import MilvusClient

options = {'grpc_options': {'grpc.keepalive_time_ms': 2**31 - 1}} if sys.argv[1] == 'no' else {}
client = MilvusClient(f'{sys.argv[1]}.db', **options)
client.list_collections()
time.sleep(150)
client.list_collections()
print('2 answers')
PY
export GRPC_VERBOSITY=ERROR
venv/bin/python rest.py yes >yes.out 2>yes.err &
venv/bin/python rest.py no >no.out 2>no.err
wait
told() {
    if grep -q 'GOAWAY.*too_many_pings' "$1.err"; then echo "$(cat "$1.out"), GOAWAY too_many_pings"
    elif grep -q 'GOAWAY' "$1.err"; then echo "$(cat "$1.out"), another line: $(cat "$1.err")"
    else echo "$(cat "$1.out"), silent"; fi
}
{
    echo "as it comes: $(told yes)"
    echo "without pings: $(told no)"
} | tee seen
diff seen - <<'SEEN'
as it comes: 2 answers, GOAWAY too_many_pings
without pings: 2 answers, silent
SEEN
