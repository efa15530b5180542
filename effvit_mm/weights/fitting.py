"""Whether a checkpoint belongs to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, hub, nn

from ..errors import CheckpointError
from ..openmm.data_checks.labels import head_classes
from .checkpoint import read_checkpoint


def read_anywhere(filename: str, trust: bool) -> dict:
    """Read a file, or a web address through PyTorch's download cache."""
    if '://' not in str(filename):
        return read_checkpoint(filename, trust=trust)
    if not str(filename).startswith(('http://', 'https://')):
        raise CheckpointError(
            f'checkpoint {filename}: files and http(s) addresses can be loaded; download it first'
        )
    folder = Path(hub.get_dir()) / 'checkpoints'
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / str(filename).rsplit('/', 1)[-1]
    if not path.exists():
        try:
            hub.download_url_to_file(filename, str(path), progress=False)
        except OSError as error:
            raise CheckpointError(f'checkpoint {filename} cannot be downloaded: {error}') from error
    return read_checkpoint(path, trust=trust)


def check_classes(model: nn.Module, state: dict, source: str) -> None:
    """Say it plainly when a checkpoint's classifier has another number of classes."""
    classes = head_classes(model)
    if classes is None:
        return
    own = model.state_dict()
    differing = [
        name
        for name, value in own.items()
        if name in state and state[name].shape != value.shape and 'head' in name
    ]
    for name in differing:
        theirs, ours = state[name].shape, own[name].shape
        if theirs[1:] == ours[1:] and ours and math.prod(ours) and ours[0] % classes == 0:
            scale = ours[0] // classes
            raise CheckpointError(
                f'{source} was trained for {theirs[0] // scale} classes, the model (key '
                f'model.head.num_classes) has {classes}'
            )


def check_same_model(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise unless a checkpoint has just the model's tensors, of the same shapes."""
    own = model.state_dict()
    differing = [
        f'{name} is {tuple(state[name].shape)} there and {tuple(value.shape)} here'
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    missing = [f'{name} is not in it' for name in own if name not in state]
    unknown = [f'{name} is not in the model' for name in state if name not in own]
    if faults := differing + missing + unknown:
        raise CheckpointError(
            f'{source} is of another model and cannot be resumed: {"; ".join(faults[:3])}'
            f'{f" and {len(faults) - 3} more differences" if len(faults) > 3 else ""}'
        )
