"""Reading checkpoints as data, and the weights inside them.

A plain ``torch.load`` runs whatever code the file carries; here such a file is refused unless its
reader says that it is trusted. What could not be read safely is never read in another way.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from .download import download, is_address

# Where frameworks keep the weights in a checkpoint: mmengine, the authors' code, timm.
STATE_DICT_KEYS = ('state_dict', 'model', 'model_state', 'module')
# Where they keep running averages of them: timm, the authors' code, others.
AVERAGED_KEYS = ('state_dict_ema', 'model_ema', 'ema_state_dict')
# What DDP and torch.compile put into names, before or within them.
WRAPPERS = ('module', '_orig_mod')
# Before it a prepared file could run code in ``torch.load(weights_only=True)`` too: CVE-2025-32434
# (before 2.6), CVE-2026-24747 (before 2.10).
SAFE_TORCH = '2.10'
# Set to 1, it has older ones read such files all the same, as weights alone.
OWN_FILES = 'EFFVIT_MM_OWN_CHECKPOINTS'
SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors')
BEGINNINGS = (b'PK', b'\x80')  # of a ZIP archive, and of a pickle as older PyTorch wrote it
EXPORTED = ('.onnx', '.xml')
CUT_SHORT = 'failed reading zip archive'  # whose directory is at its end
LONGEST_NAME = 4096  # bytes of a path
MOST_NAMED = 3  # of the checkpoints that are there, where the one that is asked for is not
# PyTorch's own switch: ``torch.load`` reads weights alone, whatever its caller asks for.
FORCED = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
UNFORCED = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
_switch = SimpleNamespace(ours=False)


class LogHistory:
    """Stands for mmengine's ``HistoryBuffer`` where mmengine was not imported: holds, does nothing.

    The weights of a checkpoint with a training's log can so be read without mmengine.
    """


def _history_class() -> type:
    logging = sys.modules.get('mmengine.logging')
    return LogHistory if logging is None else logging.HistoryBuffer


def _history_method(owner: type, name: str) -> Callable | None:
    """Stands for ``getattr`` when a checkpoint is read: mmengine's log history, nothing else."""
    if owner is not _history_class() or name not in ('min', 'max', 'current', 'mean'):
        raise CheckpointError(f'weights_only: GLOBAL getattr({owner}, {name!r}) is refused')
    return getattr(owner, name, None)


def _mmengine_globals() -> list:
    """What mmengine's own checkpoints hold besides tensors: log history and numpy values."""
    core = getattr(np, '_core', None) or np.core
    dtypes = [type(np.dtype(name)) for name in ('f8', 'f4', 'i8', 'i4', 'u1', '?', 'U1')]
    return [
        (_history_class(), 'mmengine.logging.history_buffer.HistoryBuffer'),
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
    allowed = set(torch.serialization.get_safe_globals())
    # Leaving, PyTorch takes away what it was given here, though it had been allowed for good.
    missing = [item for item in _mmengine_globals() if item not in allowed]
    with torch.serialization.safe_globals(missing):
        yield


def allow_training_logs() -> None:
    """The same for the whole process, for other libraries' readers: nothing that could run code."""
    torch.serialization.add_safe_globals(_mmengine_globals())


@contextmanager
def unpickling_nothing() -> Iterator[None]:
    """Let no library of this process or of those it starts unpickle anything by ``torch.load``.

    mmengine's reader, for one, tries again without ``weights_only`` what it could not read with it.
    Only :func:`read_checkpoint` still does so, for a reader's ``trust``. A user's own setting of
    PyTorch's switches stays.
    """
    if FORCED in os.environ or UNFORCED in os.environ:
        yield
        return
    _switch.ours, os.environ[FORCED] = True, '1'
    try:
        yield
    finally:
        _switch.ours = False
        os.environ.pop(FORCED, None)


@contextmanager
def _unpickling() -> Iterator[None]:
    """Take back what :func:`unpickling_nothing` did, if it did it."""
    if not _switch.ours:
        yield
        return
    del os.environ[FORCED]
    try:
        yield
    finally:
        os.environ[FORCED] = '1'


def _check_torch(source: str | Path) -> None:
    """Raise where this torch can be made to run code by a file that it reads as weights alone."""
    if torch.__version__ < SAFE_TORCH and os.environ.get(OWN_FILES, '0') in ('', '0'):
        raise CheckpointError(
            f'checkpoint {source}: torch {torch.__version__} can be made to run code by a prepared '
            'file even where it reads weights alone, so it was refused; install '
            f'"torch>={SAFE_TORCH}", or take a .safetensors file, or set {OWN_FILES}=1 where all '
            'such files are your own'
        )


def read_checkpoint(
    source: str | Path,
    *,
    trust: bool = False,
    own: bool = False,
    map_location: str | torch.device = 'cpu',
) -> dict:
    """Read a checkpoint (``.pth``, ``.pt``, ``.bin`` or ``.safetensors``) as data.

    Args:
        source: The file, or its http(s) address, which is downloaded once.
        trust: Unpickle whatever the file holds. This can run code: only for files whose origin
            you know.
        own: The training that asks has written the file: it is read as weights alone by any torch.
        map_location: Where the tensors go.

    Returns:
        The content; for safetensors ``{'state_dict': {...}}``.

    Raises:
        CheckpointError: The file is missing, cannot be downloaded, is no checkpoint, is cut short,
            holds objects that are refused without ``trust``, or is no ``.safetensors`` file and
            torch is older than 2.10.
    """
    if not isinstance(source, str | os.PathLike):
        raise CheckpointError(
            f'checkpoint: the name of a file or an http(s) address is needed, no '
            f'{type(source).__name__}'
        )
    path = download(str(source)) if is_address(source) else Path(source)
    if not path.is_file():
        raise CheckpointError(no_such_file(source))
    if not (trust or own or path.suffix == '.safetensors'):
        _check_torch(source)
    if path.suffix != '.safetensors':
        _check_beginning(path, source)
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            return {'state_dict': load_file(path, device=str(map_location))}
        if trust:
            with _unpickling():
                content = torch.load(path, map_location=map_location, weights_only=False)
        else:
            with safe_unpickling():
                content = torch.load(path, map_location=map_location, weights_only=True)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f'checkpoint {source} holds objects of the Python module {error.name}, which is not '
            'installed: install the package that has it'
        ) from error
    except Exception as error:
        reason = str(error).strip().split('\n')[0]
        # An archive so short that PyTorch looks for its end before its beginning.
        before = isinstance(error, OSError) and error.errno == errno.EINVAL
        if CUT_SHORT in reason or before:
            reason = 'the file is cut short or damaged'
        if 'weights_only' in str(error) or 'Unsupported global' in str(error):
            raise CheckpointError(
                f'checkpoint {source} holds more than weights and could run code when read, so it '
                f'was refused ({_refused_class(error)}). If you trust its origin, ask for it '
                'explicitly: `trust=True` in Python, `--trust-checkpoint` for the tools.'
            ) from error
        raise CheckpointError(f'checkpoint {source} cannot be read: {reason}') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'checkpoint {source} holds a {type(content).__name__}, not a dict')
    return content


def _check_beginning(path: Path, source: str | Path) -> None:
    """Raise where a file begins as none that ``torch.save`` writes; others are opened to see."""
    with path.open('rb') as file:
        text = file.read(LONGEST_NAME)
    begins = text[:4]
    if begins.startswith(BEGINNINGS):
        return
    named = text.decode('utf-8', 'replace').strip()
    if named.endswith(SUFFIXES) and '\n' not in named:  # mmengine's file last_checkpoint
        raise CheckpointError(
            f'checkpoint {source} is a text that names a checkpoint; give {named} in its place'
        )
    if path.suffix in EXPORTED:
        raise CheckpointError(
            f'checkpoint {source} is an exported network: where a tool takes it, it stands alone, '
            'without a config'
        )
    told = f'it begins with {begins!r}' if begins else 'it is empty'
    raise CheckpointError(
        f'checkpoint {source} cannot be read: it is none that PyTorch has written, {told}'
    )


def no_such_file(path: str | Path) -> str:
    """The message of a checkpoint that is not there: which are in its folder, the newest first."""
    if not str(path):
        return (
            "checkpoint '': the name is empty; is the variable set, and has last_checkpoint a name?"
        )
    is_folder = Path(path).is_dir()
    folder = Path(path) if is_folder else Path(path).parent
    message = f'checkpoint {path}: {"a folder, no" if is_folder else "no such"} file'
    if not folder.is_dir():
        return f'{message}; there is no folder {folder} either'
    files = [file for file in folder.iterdir() if file.suffix in SUFFIXES and file.is_file()]
    files.sort(key=lambda file: (file.stat().st_mtime, file.name), reverse=True)
    names = ', '.join(file.name for file in files[:MOST_NAMED])
    where = 'in it' if is_folder else 'in its folder'
    return f'{message}; the newest {where}: {names}' if files else message


def _refused_class(error: Exception) -> str:
    """The class name that PyTorch's safe unpickler stumbled over, out of its long message."""
    text = str(error)
    mark = 'GLOBAL '
    return text.split(mark, 1)[1].split()[0] if mark in text else 'unknown class'


def choose_weights(content: Mapping, use_ema: bool = True) -> tuple[Mapping, str]:
    """Which of a checkpoint's weights are meant, and what messages call them.

    Args:
        content: Of a checkpoint, or its weights alone.
        use_ema: Running averages where there are any. mmengine's ``EMAHook`` writes these as
            ``state_dict`` and those that were trained as ``ema_state_dict``; timm and the authors
            write averages as ``state_dict_ema`` and ``model_ema``, beside those that were trained.

    Returns:
        ``{name: tensor}``, perhaps with other things in it; ``'averaged weights, key ...'`` where
        there were two to choose from, else ``''``.

    Raises:
        CheckpointError: ``use_ema=False``, and there are averages alone.
    """
    trained = next((k for k in STATE_DICT_KEYS if isinstance(content.get(k), Mapping)), None)
    averaged = next((k for k in AVERAGED_KEYS if isinstance(content.get(k), Mapping)), None)
    if averaged is None:
        return (content if trained is None else content[trained]), ''
    if 'steps' in content[averaged]:  # mmengine's, which has them exchanged
        trained, averaged = averaged, trained
    key = averaged if use_ema and averaged else trained
    if key is None:
        raise CheckpointError(
            f'use_ema=False: the checkpoint has averaged weights alone ({averaged})'
        )
    if trained is None or averaged is None:
        return content[key], ''
    kind = 'averaged weights' if key == averaged else 'weights without averaging'
    return content[key], f'{kind}, key {key}'


def get_state_dict(
    content: Mapping, source: str = 'checkpoint', use_ema: bool = True
) -> dict[str, Tensor]:
    """The weights inside a checkpoint's content: ``{name: tensor}``, wrappers' names gone.

    Args:
        content: Of a checkpoint, or its weights alone.
        source: How messages call it.
        use_ema: Running averages where there are any, as :func:`choose_weights` finds them.

    Raises:
        CheckpointError: There are no weights in it.
    """
    weights, _ = choose_weights(content, use_ema)
    state = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    if all(name.startswith('module.') for name in state if name != 'steps'):
        state.pop('steps', None)  # mmengine's count of averages
    if not state:
        keys = ', '.join(map(str, list(weights)[:5])) or 'nothing'
        raise CheckpointError(f'{source} holds no weights (its keys: {keys})')
    names = unwrapped(state)
    return {names[name]: value for name, value in state.items()}


def unwrapped(names: Mapping[str, object]) -> dict[str, str]:
    """``{name: name}`` without the parts that DDP and ``torch.compile`` put in, wherever they are.

    Names stay as they are where two would become one.
    """
    plain = {
        name: '.'.join(part for part in name.split('.') if part not in WRAPPERS) for name in names
    }
    return plain if len(set(plain.values())) == len(plain) else {name: name for name in names}
