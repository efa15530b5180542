"""Files of predictions: what ``tools/test.py --out`` writes, and reading them again."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.structures import BaseDataElement

from ...errors import DataError
from ...utils.files import written_atomically
from ...utils.masks import encode_masks

PICKLES = ('.pkl', '.pickle')
# The truth of a detection set stands in its annotation file, many times smaller than masks here.
LEFT_OUT = ('gt_instances', 'ignored_instances', 'instances')


class PredictionWriter(BaseMetric):
    """Collect predictions of all ranks and write them as pickle or JSON.

    JSON holds a list with a dict for each image; pickle the same with tensors. Masks are COCO's
    compressed run lengths in both. Beside a classifier's ``pred_label`` and ``gt_label`` stand
    ``pred_class`` and ``gt_class``.

    Args:
        path: The file.
        classes: Names of the classes.
    """

    default_prefix = 'predictions'  # gives no metric; mmengine warns of metrics without a prefix

    def __init__(self, path: str, classes: Sequence[str] | None = None) -> None:
        super().__init__(collect_device='cpu')
        self.path, self.classes = Path(path), classes

    def process(self, data_batch: Any, data_samples: Sequence) -> None:
        self.results.extend(_with_classes(_plain(sample), self.classes) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict:
        self._write(results, self.path)
        return {}

    def keep(self, size: int) -> tuple[Path, ...]:
        """Write what this process has of ``size`` predictions when a test is cut short.

        Returns:
            The file: where all are to go, or another beside it where some are missing; none without
            any.
        """
        if not self.results:
            return ()
        path = self.path if len(self.results) >= size else partial_path(self.path)
        self._write(self.results[:size], path)
        return (path,)

    @staticmethod
    def _write(results: list, path: Path) -> None:
        with written_atomically(path) as temporary:
            if path.suffix == '.json':
                temporary.write_text(json.dumps(_lists(results)))
            else:
                temporary.write_bytes(pickle.dumps(results))


def partial_path(path: Path) -> Path:
    """Where results go that are not all: ``found.json`` to ``found_partial.json``."""
    return path.with_stem(f'{path.stem}_partial')


def _with_classes(sample: dict, classes: Sequence[str] | None) -> dict:
    """The sample with the names of its labels; of several a list."""
    for kind in ('pred', 'gt'):
        label = sample.get(f'{kind}_label')
        if classes and label is not None:
            names = [classes[int(number)] for number in torch.as_tensor(label).reshape(-1)]
            sample[f'{kind}_class'] = names[0] if len(names) == 1 else names
    return sample


def _plain(value: Any) -> Any:
    """Data samples as dicts of CPU tensors, so that reading them needs no OpenMMLab."""
    if isinstance(value, BaseDataElement):
        return _plain(value.to_dict())
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in LEFT_OUT}
        return {key: encode_masks(v) if key == 'masks' else _plain(v) for key, v in kept.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value


def _lists(value: Any) -> Any:
    """The same as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _lists(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lists(item) for item in value]
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def read_predictions(path: str | Path, trust: bool = False) -> list[dict]:
    """Read what :class:`PredictionWriter` wrote, or a COCO results file.

    Args:
        path: A ``.json`` or pickle file.
        trust: Unpickle the file; this can run code that it carries.

    Returns:
        A dict for each image, or for each detection (COCO results).

    Raises:
        DataError: The file is missing, broken, of another form, or a pickle without ``trust``.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f'predictions {path}: no such file')
    if path.suffix in PICKLES and not trust:
        raise DataError(
            f'predictions {path}: a pickle can run code when it is read, so it was refused; write '
            '.json with test.py --out, or add --trust-pickle if you know where it comes from'
        )
    try:
        if path.suffix in PICKLES:
            content = pickle.loads(path.read_bytes())
        else:
            content = json.loads(path.read_text(encoding='utf-8'))
    except Exception as error:  # a pickle can raise anything
        reason = ' '.join(str(error).split())
        raise DataError(f'predictions {path} cannot be read: {reason}') from error
    if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
        raise DataError(
            f'predictions {path}: a list of dicts is needed, as test.py --out writes it'
        )
    return content
