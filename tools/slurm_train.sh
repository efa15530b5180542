#!/usr/bin/env bash
# Train under Slurm:  GPUS=8 tools/slurm_train.sh PARTITION JOB_NAME CONFIG [train.py arguments]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS, LAUNCHER (slurm) and SRUN (srun) can be set.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "error: usage: [GPUS=8] $0 PARTITION JOB_NAME CONFIG [arguments of train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
# shellcheck disable=SC2086  # SRUN_ARGS is a list
exec ${SRUN:-srun} --partition="$PARTITION" --job-name="$JOB_NAME" \
    --gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$HERE/train.py" "$CONFIG" --launcher "${LAUNCHER:-slurm}" "$@"
