#!/usr/bin/env bash
# Test with several processes:  tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [test.py arguments]
# More machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "error: usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of test.py]" >&2
    exit 2
fi
CONFIG=$1
CHECKPOINT=$2
PROCESSES=$3
shift 3
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CORES=$(getconf _NPROCESSORS_ONLN)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CORES > PROCESSES ? CORES / PROCESSES : 1))}
# On one machine torchrun finds a free port itself: two trainings do not get in each other's way.
MACHINES=(--standalone)
if [ "${NNODES:-1}" -gt 1 ] || [ -n "${PORT:-}" ]; then
    MACHINES=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
exec "${PYTHON:-python}" -m torch.distributed.run \
    "${MACHINES[@]}" --nproc_per_node="$PROCESSES" \
    "$HERE/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
