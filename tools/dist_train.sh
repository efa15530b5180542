#!/usr/bin/env bash
# Train with several processes on this machine:  tools/dist_train.sh CONFIG PROCESSES [train.py arguments]
# More machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "error: usage: $0 CONFIG PROCESSES [arguments of train.py]" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2
shift 2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# One thread a process is torchrun's choice; the machine's cores shared out are faster on the CPU.
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
    "$HERE/train.py" "$CONFIG" --launcher pytorch "$@"
