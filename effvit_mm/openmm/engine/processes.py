"""The group of processes that a launcher started."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from mmengine.dist import init_dist
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group, is_initialized


def open_group(launcher: str, env_cfg: Mapping) -> None:
    """Have launched processes find each other, as mmengine's runner does when it is built.

    On a machine without CUDA they are gloo's, whatever backend the config names.

    Args:
        launcher: ``'none'``, which opens nothing, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        env_cfg: The config's, with ``mp_cfg`` and ``dist_cfg``.
    """
    if launcher == 'none' or is_initialized():
        return
    set_multi_processing(**(env_cfg.get('mp_cfg') or {}), distributed=True)
    if torch.cuda.is_available():
        init_dist(launcher, **(env_cfg.get('dist_cfg') or {}))
        return
    if launcher == 'slurm':
        os.environ.setdefault('RANK', os.environ['SLURM_PROCID'])
        os.environ.setdefault('WORLD_SIZE', os.environ['SLURM_NTASKS'])
        os.environ.setdefault('LOCAL_RANK', os.environ.get('SLURM_LOCALID', '0'))
    elif launcher == 'mpi':
        for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
            os.environ.setdefault(name, os.environ[f'OMPI_COMM_WORLD_{name}'])
    init_process_group('gloo')
