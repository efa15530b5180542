"""The group of processes that a launcher started."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group, is_initialized

from ...errors import ConfigError

# What each launcher tells its processes, and how it starts them.
TOLD = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'MASTER_PORT'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
}
STARTS = {
    'pytorch': 'tools/dist_train.sh CONFIG 2, or tools/dist_test.sh CONFIG CHECKPOINT 2',
    'slurm': 'tools/slurm_train.sh PARTITION JOB CONFIG, or tools/slurm_test.sh PARTITION JOB '
    'CONFIG CHECKPOINT',
    'mpi': 'mpirun -n 2 -x MASTER_ADDR=127.0.0.1 python tools/train.py CONFIG --launcher mpi',
}
PORT = '29500'  # torch.distributed's


def open_group(launcher: str, env_cfg: Mapping) -> None:
    """Have launched processes find each other, as mmengine's runner does when it is built.

    On a machine without CUDA they are gloo's, whatever backend the config names.

    Args:
        launcher: ``'none'``, which opens nothing, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        env_cfg: The config's, with ``mp_cfg`` and ``dist_cfg``.

    Raises:
        ConfigError: The launcher did not start this process.
    """
    if launcher == 'none' or is_initialized():
        return
    check_launched(launcher)
    set_multi_processing(**(env_cfg.get('mp_cfg') or {}), distributed=True)
    if torch.cuda.is_available():
        init_dist(launcher, **(env_cfg.get('dist_cfg') or {}))
        return
    if launcher != 'pytorch':
        os.environ.setdefault('MASTER_PORT', PORT)
        names = TOLD[launcher]
        os.environ.update(RANK=os.environ[names[0]], WORLD_SIZE=os.environ[names[1]])
        local = 'SLURM_LOCALID' if launcher == 'slurm' else names[2]
        os.environ['LOCAL_RANK'] = os.environ.get(local, '0')
    init_process_group('gloo')


def check_launched(launcher: str) -> None:
    """Raise a ConfigError where this process was not started by its launcher."""
    lacking = [name for name in TOLD[launcher] if name not in os.environ]
    if lacking:
        raise ConfigError(
            f'--launcher {launcher}: {lacking[0]} is not set, as it is in processes that this '
            f'launcher starts; start it by {STARTS[launcher]}'
        )
    # Of Slurm's processes with CUDA mmengine asks Slurm for the address.
    found = launcher == 'slurm' and torch.cuda.is_available()
    if 'MASTER_ADDR' not in os.environ and not found:
        raise ConfigError(
            f'--launcher {launcher}: MASTER_ADDR is not set; set it to the name of the machine of '
            'the first process'
        )
