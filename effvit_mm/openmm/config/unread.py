"""Keys at a config's top level that nothing reads: misspelt ones, and those of mmcv 1.x.

A config may define any name for its own use, so that only what can hardly be meant so is refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...errors import ConfigError
from ...utils.text import suggest
from .checks import TOP_LEVEL_KEYS
from .names import places_of
from .options import look_up
from .source import ConfigFile, read_files

# Of mmcv 1.x -> what is read in its place.
OLD_KEYS = {
    'optimizer': 'optim_wrapper.optimizer',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'fp16': 'optim_wrapper.type',
    'lr_config': 'param_scheduler',
    'momentum_config': 'param_scheduler',
    'data': 'train_dataloader, val_dataloader and test_dataloader',
    'samples_per_gpu': 'train_dataloader.batch_size',
    'workers_per_gpu': 'train_dataloader.num_workers',
    'runner': 'train_cfg',
    'total_epochs': 'train_cfg.max_epochs',
    'workflow': 'train_cfg.val_interval',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'checkpoint_config': 'default_hooks.checkpoint',
    'log_config': 'default_hooks.logger',
    'resume_from': 'load_from and resume',
    'auto_resume': 'resume',
    'seed': 'randomness.seed',
    'dist_params': 'env_cfg.dist_cfg',
    'mp_start_method': 'env_cfg.mp_cfg.mp_start_method',
    'opencv_num_threads': 'env_cfg.mp_cfg.opencv_num_threads',
}
NUMBERED = re.compile(r'_?\d+$')  # train_pipeline2 is a second one


def check_top_level(cfg: Config, path: str) -> None:
    """Refuse near misses of known keys, and keys of mmcv 1.x.

    Args:
        cfg: As its file and the command line made it.
        path: The file. A key that it or its bases read is one for their own use.

    Raises:
        ConfigError: Names the key, and the one that is read.
    """
    unread = unread_names(cfg, path)
    for key in cfg:
        meant = _meant(cfg, key)
        if not meant:
            continue
        if cfg.get(meant) is None or (key in unread and not _has(cfg[meant], cfg[key])):
            raise ConfigError(f'{key}: no such key{suggest(key, [meant])}')
    given = [key for key in OLD_KEYS if key in unread and cfg[key] is not None]
    old = [key for key in given if not _has(look_up(cfg, OLD_KEYS[key]), cfg[key])]
    if old:
        instead = ', '.join(f'{OLD_KEYS[key]} for {key}' for key in old)
        raise ConfigError(
            f'{", ".join(old)}: of mmcv 1.x, which nothing reads now; write {instead}'
        )


def unread_names(cfg: Config, path: str) -> set[str]:
    """The names of a config that no framework, no tool and no file of its own reads.

    Those that installed packages define in theirs are left out, and those whose values stand in
    what is built, as in the config that a training has written down.
    """
    root = read_files(path)
    if root is not None:
        files = list(root.files())
        names = set().union(*(file.bound for file in files if not _is_packaged(file)))
        names -= set().union(*(file.used for file in files))
    else:
        names = set() if Path(path).suffix == '.py' else set(cfg)
    built = {key: cfg[key] for key in cfg if key in TOP_LEVEL_KEYS}
    names = {name for name in names if name in cfg and name not in TOP_LEVEL_KEYS}
    return {name for name in names if not any(places_of(built, cfg[name]))}


def _is_packaged(file: ConfigFile) -> bool:
    return '.mim' in file.path.parts


def _has(node: Any, value: Any) -> bool:
    """Whether a part of a config is this already, or a dict that has it and more."""
    if isinstance(node, Mapping) and isinstance(value, Mapping):
        return all(key in node and _has(node[key], item) for key, item in value.items())
    return bool(node == value)


def _meant(cfg: Config, key: str) -> str | None:
    """The key that one is a near miss of."""
    if key in TOP_LEVEL_KEYS or NUMBERED.sub('', key) in TOP_LEVEL_KEYS:
        return None
    near = difflib.get_close_matches(key, TOP_LEVEL_KEYS, n=1, cutoff=0.9)
    near = near or [known for known in TOP_LEVEL_KEYS if sorted(known) == sorted(key)]
    if not near and not isinstance(cfg[key], Mapping):  # of a short name one letter is much
        near = [known for known in TOP_LEVEL_KEYS if _differ_in_a_letter(known, key)]
        near = [known for known in near if not isinstance(cfg.get(known), Mapping)]
    return near[0] if near else None


def _differ_in_a_letter(one: str, other: str) -> bool:
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
