"""What an inferencer is made of: a config and a checkpoint, or an exported file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..runtime.exported_detector import is_exported
from ..weights.checkpoint import SUFFIXES


def check_model(
    config: str | Path,
    checkpoint: str | Path | None,
    cfg_options: Sequence[str],
    device: str | None,
) -> bool:
    """Whether a model is an exported file rather than a config.

    Raises:
        ConfigError: It is a file and something was given that it has no use for, or a config
            and a checkpoint, one without the other.
    """
    if not is_exported(config):
        if checkpoint is None and Path(config).suffix in SUFFIXES:
            raise ConfigError(f'config is missing: {config} is a checkpoint without a config')
        if checkpoint is None:
            raise ConfigError(f'checkpoint is missing: {config} is a config without weights')
        return False
    told = {'checkpoint': checkpoint, 'cfg_options': cfg_options, 'device': device}
    for name, value in told.items():
        if value and value != 'cpu':
            raise ConfigError(f'{name}={value!r}: {config} is a file and takes none')
    return True


def split_model(model: str, inputs: Sequence[str]) -> tuple[str | None, list[str | int]]:
    """A command line's checkpoint and inputs: an exported file needs no checkpoint.

    A number is that of a camera, where there is no such file.

    Raises:
        ConfigError: Behind a config and its checkpoint there is no input, or no such file is there.
    """
    if is_exported(model):
        if not Path(model).is_file():  # before a word of the inputs
            raise ConfigError(f'{model}: there is no such file')
        return None, [_numbered(name) for name in inputs]
    checkpoint, *rest = inputs
    if Path(model).suffix in SUFFIXES:
        raise ConfigError(f'config is missing: {model} is a checkpoint, before which its config is')
    if not rest:
        raise ConfigError(
            f'{checkpoint}: behind a config and its checkpoint images, folders or videos are needed'
        )
    return checkpoint, [_numbered(name) for name in rest]


def named_model(flag: str, files: Sequence[str]) -> tuple[str, str | None]:
    """Config and checkpoint, or an exported file and None, of a flag that takes one or two files.

    Raises:
        ConfigError: There are more.
    """
    if len(files) > 2:
        raise ConfigError(f'{flag}: {len(files)} files: a config and weights')
    return files[0], files[1] if len(files) > 1 else None


def _numbered(name: str) -> str | int:
    return int(name) if name.isdecimal() and not Path(name).exists() else name
