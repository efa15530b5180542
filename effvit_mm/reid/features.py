"""Features with their labels: made by a model, kept in a file, given to the evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import ConfigError, DataError, UserError
from ..utils.files import written_atomically

JUNK = -1  # of `pids`: nobody; never in a ranking
FORMATS = ('.npz', '.parquet')
FILE_KIND = 'effvit_mm re-ID features'
PARQUET_KEY = b'effvit_mm'
ROWS_AT_ONCE = 16384  # checked and written together


@dataclass(eq=False)
class ReIDFeatures:
    """Features of N images and whose they are.

    Attributes:
        features: (N, D) float32.
        pids: (N,) int64, the person; -1 is junk (or, in a folder without labels, not known).
        camids: (N,) int64, the camera.
        paths: N file names, or none at all.
        model: Identity of the model (:func:`model_identity`); empty where it is not known.
        source: How messages call it: the file it was read from.
        preparation: How images were prepared for the model; empty where it is not known.
    """

    features: np.ndarray
    pids: np.ndarray
    camids: np.ndarray
    paths: Sequence[str] = ()
    model: str = ''
    source: str = 'features'
    preparation: str = ''

    def __post_init__(self) -> None:
        # Writable: PyTorch warns of memory that is not, such as pyarrow's.
        self.features = np.require(self.features, np.float32, ('C', 'W'))
        self.pids = np.asarray(self.pids, dtype=np.int64)
        self.camids = np.asarray(self.camids, dtype=np.int64)
        if self.features.ndim != 2:
            raise DataError(f'{self.source}: features have shape {self.features.shape}, not (N, D)')
        count = len(self.features)
        lengths = {'pids': self.pids.shape, 'camids': self.camids.shape}
        if len(self.paths):
            lengths['paths'] = (len(self.paths),)
        for name, shape in lengths.items():
            if shape != (count,):
                raise DataError(f'{self.source}: {name} has shape {shape} for {count} features')

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """Length D of a feature."""
        return self.features.shape[1]

    def __getitem__(self, index: np.ndarray | slice) -> ReIDFeatures:
        """Some of the rows: a slice, a mask or indices."""
        paths = np.asarray(self.paths, dtype=object)[index].tolist() if len(self.paths) else ()
        return ReIDFeatures(
            self.features[index],
            self.pids[index],
            self.camids[index],
            paths,
            self.model,
            self.source,
            self.preparation,
        )

    def check_finite(self) -> None:
        """Raise :class:`DataError` for a feature that is not a number, with its row and image."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            finite = np.isfinite(self.features[start : start + ROWS_AT_ONCE])
            if not finite.all():
                row, column = (int(i) for i in np.argwhere(~finite)[0])
                row += start
                image = f' ({self.paths[row]})' if len(self.paths) else ''
                bad = int((~np.isfinite(self.features).all(axis=1)).sum())
                raise DataError(
                    f'{self.source}: feature {column} of image {row}{image} is '
                    f'{self.features[row, column]}; {bad} of {len(self)} images have such values'
                )

    def check_same_space(self, other: ReIDFeatures) -> None:
        """Raise :class:`DataError` where the two cannot be compared.

        That is with another model or width, or of images that were prepared in another way.
        """
        if self.width != other.width:
            raise DataError(
                f'{other.source} has features of width {other.width}, {self.source} of width '
                f'{self.width}: they come from different models'
            )
        if self.model and other.model and self.model != other.model:
            raise DataError(
                f'{other.source} has features of the model {other.model}, {self.source} of '
                f'{self.model}: features of different models cannot be compared'
            )
        if self.preparation and other.preparation and self.preparation != other.preparation:
            raise DataError(
                f'{other.source} has features of images prepared by {other.preparation}, '
                f'{self.source} by {self.preparation}: take the same config and options for both '
                '(--config, --cfg-options, --flip)'
            )


def model_identity(model: nn.Module, name: str | None = None) -> str:
    """A text that two models share only if they have the same weights: ``'PSLT-5f0c9a7e21d4'``.

    To be taken before ``switch_to_deploy()``, which rewrites the weights but not the features.

    Args:
        model: The network that makes the features.
        name: What stands before the digits (the SHA-256 of names, types, shapes and values);
            default: the class.
    """
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f'{key} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return f'{name or type(model).__name__}-{digest.hexdigest()[:12]}'


def save_features(features: ReIDFeatures, path: str | Path) -> None:
    """Write a ``.npz`` (read by numpy alone) or ``.parquet`` file, atomically.

    Raises:
        ConfigError: Another suffix, or pyarrow is missing.
        DataError: A feature is not a finite number.
        UserError: The file cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    features.check_finite()
    write = {'.npz': _write_npz, '.parquet': _write_parquet}[path.suffix]
    if path.suffix == '.parquet':
        import_pyarrow()
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(path) as temporary:
        write(features, temporary)


def load_features(path: str | Path, *, model: str = '', width: int | None = None) -> ReIDFeatures:
    """Read what :func:`save_features` wrote; nothing in the file is run.

    Args:
        path: The file.
        model: Refuse features of a model with another identity.
        width: Refuse features of another width.

    Raises:
        ConfigError: The suffix is neither, or pyarrow is missing.
        DataError: No such file, cut short, of another kind, of another model or width, or with
            features that are not finite; the message names the file and what it found.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise DataError(f'feature file {path}: no such file')
    source = f'feature file {path}'
    read = _read_npz if path.suffix == '.npz' else _read_parquet
    try:
        content = read(path, source)
        for name, kinds in (('features', 'f'), ('pids', 'iu'), ('camids', 'iu')):
            if content[name].dtype.kind not in kinds:  # else they would become others
                raise DataError(f'{source} has {name} of {content[name].dtype}')
        features = ReIDFeatures(**content, source=source)
    except UserError:
        raise
    except Exception as error:  # of a broken file NumPy, zipfile and pyarrow raise anything
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise DataError(f'{source} cannot be read (cut short?): {reason}') from error
    if width is not None and features.width != width:
        raise DataError(f'{source} has features of width {features.width}, expected {width}')
    if model and features.model != model:
        theirs = f'the model {features.model}' if features.model else 'an unnamed model'
        raise DataError(f'{source} has features of {theirs}, not of {model}')
    features.check_finite()
    return features


def import_pyarrow() -> ModuleType:
    """pyarrow with its parquet module, or :class:`ConfigError` that says how to get it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            ".parquet files need pyarrow: `pip install 'effvit-mm[reid]'`, or use a .npz file"
        ) from error
    return pyarrow


def _check_suffix(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise ConfigError(f'feature file {path}: the suffix must be one of {", ".join(FORMATS)}')


def _header(features: ReIDFeatures) -> str:
    known = {name: getattr(features, name) for name in ('model', 'width', 'preparation')}
    return json.dumps({'kind': FILE_KIND, **known})


def _read_header(text: str, source: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, Mapping) or header.get('kind') != FILE_KIND:
        raise DataError(f'{source} was not written by effvit_mm: its header is {text[:60]!r}')
    return dict(header)


def _write_npz(features: ReIDFeatures, path: Path) -> None:
    with path.open('wb') as file:
        np.savez(
            file,
            header=np.array(_header(features)),
            features=features.features,
            pids=features.pids,
            camids=features.camids,
            paths=np.array(list(features.paths), dtype=str),
        )


def _read_npz(path: Path, source: str) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as content:
        if not isinstance(content, Mapping):
            raise DataError(f'{source} holds a single array, not features with labels')
        names = ('header', 'features', 'pids', 'camids', 'paths')
        if missing := [name for name in names if name not in content]:
            raise DataError(f'{source} has no {", ".join(missing)}')
        header = _read_header(str(content['header']), source)
        return {
            **{name: content[name] for name in ('features', 'pids', 'camids')},
            'paths': content['paths'].tolist(),
            'model': str(header.get('model', '')),
            'preparation': str(header.get('preparation', '')),
        }


def _write_parquet(features: ReIDFeatures, path: Path) -> None:
    pa = import_pyarrow()
    paths: list[str | None] = [*features.paths] or [None] * len(features)
    columns = {
        'path': pa.array(paths, pa.string()),
        'pid': pa.array(features.pids),
        'camid': pa.array(features.camids),
        'feature': pa.FixedSizeListArray.from_arrays(
            pa.array(features.features.reshape(-1)), features.width
        ),
    }
    table = pa.table(columns).replace_schema_metadata({PARQUET_KEY: _header(features)})
    pa.parquet.write_table(table, path, row_group_size=ROWS_AT_ONCE)


def _read_parquet(path: Path, source: str) -> dict[str, Any]:
    table = import_pyarrow().parquet.read_table(path)
    metadata = (table.schema.metadata or {}).get(PARQUET_KEY, b'')
    header = _read_header(metadata.decode(), source)
    names = ('path', 'pid', 'camid', 'feature')
    if missing := [name for name in names if name not in table.column_names]:
        raise DataError(f'{source} has no column {", ".join(missing)}')
    values = table['feature'].combine_chunks().flatten().to_numpy()
    paths = table['path'].to_pylist()
    return {
        'features': values.reshape(table.num_rows, int(header['width'])),
        'pids': table['pid'].to_numpy(),
        'camids': table['camid'].to_numpy(),
        'paths': [] if None in paths else paths,
        'model': str(header.get('model', '')),
        'preparation': str(header.get('preparation', '')),
    }
