"""Reading weights safely and loading them with a count of what matched.

PyTorch's default of a silent partial load hides the commonest mistake of transfer learning
(nothing matched, training starts from noise), and a plain ``torch.load`` runs whatever code the
file carries. Here a file is read as data only, and a load reports what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import CheckpointError

# Where frameworks keep the weights in a checkpoint: mmengine, the authors' code, timm.
STATE_DICT_KEYS = ('state_dict', 'model', 'model_state', 'module')


def _history_method(owner: type, name: str) -> Callable:
    """Stands for ``getattr`` when a checkpoint is read: mmengine's log history, nothing else."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise CheckpointError(f'weights_only: GLOBAL getattr({owner}, {name!r}) is refused')
    return getattr(HistoryBuffer, name)


def _mmengine_globals() -> list:
    """What mmengine's own checkpoints hold besides tensors: log history and numpy values."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    core = getattr(np, '_core', None) or np.core
    dtypes = [
        type(np.dtype(name)) for name in ('f8', 'f4', 'i8', 'i4', 'u1', '?', 'U1') if np.dtype(name)
    ]
    return [
        HistoryBuffer,
        (_history_method, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        core.multiarray._reconstruct,
        core.multiarray.scalar,
        (core.multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
        (core.multiarray.scalar, 'numpy.core.multiarray.scalar'),
        *dtypes,
    ]


@contextmanager
def safe_unpickling() -> Iterator[None]:
    """Let ``torch.load(weights_only=True)`` read the log history in mmengine's checkpoints."""
    with torch.serialization.safe_globals(_mmengine_globals()):
        yield


def read_checkpoint(path: str | Path, *, trust: bool = False, map_location: str = 'cpu') -> dict:
    """Read a checkpoint file (``.pth``, ``.pt``, ``.bin`` or ``.safetensors``) as data.

    Args:
        path: The file.
        trust: Unpickle whatever the file holds. This can run code: only for files whose origin
            you know.
        map_location: Where the tensors go.

    Returns:
        The content; for safetensors ``{'state_dict': {...}}``.

    Raises:
        CheckpointError: The file is missing, is no checkpoint, is cut short, or holds objects
            that are refused without ``trust``.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path}: no such file')
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return {'state_dict': load_file(path, device=str(map_location))}
        with safe_unpickling():
            content = torch.load(path, map_location=map_location, weights_only=not trust)
    except Exception as error:
        reason = str(error).strip().split('\n')[0]
        if 'weights_only' in str(error) or 'Unsupported global' in str(error):
            raise CheckpointError(
                f'checkpoint {path} holds more than weights and could run code when read, so it '
                f'was refused ({_refused_class(error)}). If you trust its origin, ask for it '
                'explicitly: `trust=True` in Python, `--trust-checkpoint` for the tools.'
            ) from error
        raise CheckpointError(f'checkpoint {path} cannot be read: {reason}') from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f'checkpoint {path} holds a {type(content).__name__}, not a dict')
    return content


def _refused_class(error: Exception) -> str:
    """The class name that PyTorch's safe unpickler stumbled over, out of its long message."""
    text = str(error)
    mark = 'GLOBAL '
    return text.split(mark, 1)[1].split()[0] if mark in text else 'unknown class'


def get_state_dict(content: Mapping, source: str = 'checkpoint') -> dict[str, Tensor]:
    """The weights inside a checkpoint's content: ``{name: tensor}``, wrappers' prefixes gone."""
    for key in STATE_DICT_KEYS:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ', '.join(map(str, list(content)[:5])) or 'nothing'
        raise CheckpointError(f'{source} holds no weights (its keys: {keys})')
    prefix = 'module.'
    if all(name.startswith(prefix) for name in state):
        state = {name[len(prefix) :]: value for name, value in state.items()}
    return state


@dataclass
class LoadReport:
    """What a load did: names of tensors, as the model calls them."""

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        text = f'loaded {len(self.loaded)} of {total} tensors from {self.source}'
        for label, names in (
            ('not in the file', self.missing),
            ('of another shape', self.mismatched),
            ('in the file but not in the model', self.unexpected),
        ):
            if names:
                more = ', ...' if len(names) > 3 else ''
                text += f'; {len(names)} {label}: {", ".join(names[:3])}{more}'
        return text


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str = 'checkpoint',
    prefix: str = '',
    strict: bool = False,
) -> LoadReport:
    """Load what matches by name and shape, and say how much that was.

    Args:
        model: Receives the weights. A module with ``prepare_state_dict(state, prefix)`` may adapt
            them first: position embeddings of another image size, say.
        state: ``{name: tensor}``.
        source: How messages call the weights, usually the file.
        prefix: Take only names with this prefix, and drop it (``'backbone.'``).
        strict: Everything must match, in both directions.

    Raises:
        CheckpointError: Nothing matched, or ``strict`` and not everything did.
    """
    if prefix:
        chosen = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        if not chosen:
            raise CheckpointError(f'{source}: no tensor name starts with {prefix!r}')
        state = chosen
    for name, module in model.named_modules():
        if hasattr(module, 'prepare_state_dict'):
            state = module.prepare_state_dict(state, prefix=f'{name}.' if name else '')

    own = model.state_dict()
    report = LoadReport(source)
    for name, value in own.items():
        if name not in state:
            report.missing.append(name)
        elif state[name].shape != value.shape:
            report.mismatched.append(
                f'{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}'
            )
        else:
            report.loaded.append(name)
    report.unexpected = [name for name in state if name not in own]

    # Counters of batch norms are in every network: they do not make a checkpoint the right one.
    if not any(not name.endswith('num_batches_tracked') for name in report.loaded):
        theirs, ours = next(iter(state), '-'), next(iter(own), '-')
        raise CheckpointError(
            f'{source}: none of its {len(state)} tensors fits the model (the file has names like '
            f'{theirs!r}, the model like {ours!r}); is it a checkpoint of another model? Published '
            'names are changed with tools/model_converters/convert.py.'
        )
    if strict and (report.missing or report.unexpected or report.mismatched):
        raise CheckpointError(str(report))
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    return report
