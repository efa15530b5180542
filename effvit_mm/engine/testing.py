"""What ``tools/test.py`` does beyond mmengine's test loop: predictions, pictures, speed."""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement

from ..deploy import Deployable, switch_modules
from ..errors import ConfigError
from ..registry import HOOKS
from .files import written_atomically
from .report import format_duration, format_metrics, format_table

LINE_HEIGHT, MIN_WIDTH = 18, 224


def run_test(runner, args: argparse.Namespace) -> dict:
    """Test, write what was asked for, print a table."""
    evaluator = runner.test_evaluator
    if args.out is not None:
        evaluator.metrics.append(PredictionWriter(args.out))
    if args.deploy:
        runner.register_hook(DeployHook())
    timer = ForwardTimer()
    runner.register_hook(timer)
    metrics = runner.test()
    if is_main_process():
        count = len(runner.test_dataloader.dataset)
        rows = [(name, format_metrics({'': value}).strip()) for name, value in metrics.items()] + [
            ('form', 'deployed' if args.deploy else 'as trained'),
            ('images', str(count)),
            ('speed', f'{count / timer.seconds:.1f} images/s ({format_duration(timer.seconds)})'),
            ('model alone', f'{count / timer.forward_seconds:.1f} images/s'),
        ]
        if args.out is not None:
            rows.append(('predictions', args.out))
        if args.show_dir is not None:
            rows.append(('pictures', args.show_dir))
        runner.logger.info(format_table(f'test of {args.checkpoint}', rows))
    return metrics


class DeployHook(Hook):
    """Test a copy of the model in its deployed form.

    It is made last before the test: an EMAHook has put the averaged weights into the model by then
    and wants its own tensors back afterwards.
    """

    priority = 'VERY_LOW'

    def before_test_epoch(self, runner) -> None:
        model = runner.bare_model
        if not any(isinstance(module, Deployable) for module in model.modules()):
            raise ConfigError(f'--deploy: no part of {type(model).__name__} has a deployed form')
        self.trained = runner.model
        runner.model = copy.deepcopy(model).eval()
        switch_modules(runner.model)

    def after_test_epoch(self, runner, metrics=None) -> None:
        runner.model = self.trained


class ForwardTimer(Hook):
    """Seconds of a test: from the first batch wanted to the last one predicted, loading included,
    and those of the model alone."""

    seconds = forward_seconds = float('nan')

    def before_test_epoch(self, runner) -> None:
        self.start, self.forward_seconds = time.perf_counter(), 0.0

    def before_test_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.batch_start = time.perf_counter()

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        now = time.perf_counter()
        self.seconds = now - self.start
        self.forward_seconds += now - self.batch_start


class PredictionWriter(BaseMetric):
    """Collect predictions of all ranks and write them as pickle or JSON.

    JSON holds a list with a dict for each image; pickle the same with tensors.
    """

    def __init__(self, path: str) -> None:
        super().__init__(collect_device='cpu')
        self.path = Path(path)

    def process(self, data_batch: Any, data_samples: Sequence) -> None:
        self.results.extend(_plain(sample) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict:
        with written_atomically(self.path) as temporary:
            if self.path.suffix == '.json':
                temporary.write_text(json.dumps(_lists(results)))
            else:
                temporary.write_bytes(pickle.dumps(results))
        return {}


def _plain(value: Any) -> Any:
    """Data samples as dicts of CPU tensors, so that reading them needs no OpenMMLab."""
    if isinstance(value, BaseDataElement):
        return _plain(value.to_dict())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
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


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draw each tested picture with its predicted and its true class below.

    Args:
        folder: Where the pictures go: ``<right|wrong>_<number>_<file name>.png``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        import cv2
        from mmengine.dist import get_dist_info

        rank, world_size = get_dist_info()
        names = (runner.visualizer.dataset_meta or {}).get('classes')
        size = runner.test_dataloader.batch_size or len(outputs)
        for index, sample in enumerate(outputs):
            number = (batch_idx * size + index) * world_size + rank
            image = _read_image(sample, data_batch, index)
            predicted, true = _label(sample, 'pred_label'), _label(sample, 'gt_label')
            verdict = 'right' if predicted == true else 'wrong'
            lines = [
                f'predicted: {_name(predicted, names)} {_score(sample, predicted)}',
                f'true: {_name(true, names)}',
            ]
            stem = Path(str(sample.get('img_path', 'image'))).stem
            path = self.folder / f'{verdict}_{number:06d}_{stem}.png'
            cv2.imwrite(str(path), _with_text(image, lines, verdict == 'right'))


def _read_image(sample: BaseDataElement, data_batch: Any, index: int) -> np.ndarray:
    """The file as it is where there is one, else what the network was given: (H, W, 3), BGR."""
    path = sample.get('img_path')
    if path and Path(path).is_file():
        from ..datasets.loading import load_image

        return load_image(path)
    inputs = data_batch['inputs'][index]
    inputs = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
    array = inputs.detach().cpu().float().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(np.clip(array, 0, 255).astype(np.uint8))


def _label(sample: BaseDataElement, key: str) -> int | None:
    value = sample.get(key)
    return None if value is None else int(torch.as_tensor(value).reshape(-1)[0])


def _name(label: int | None, names: Sequence[str] | None) -> str:
    if label is None:
        return 'unknown'
    return str(names[label]) if names and label < len(names) else str(label)


def _score(sample: BaseDataElement, label: int | None) -> str:
    scores = sample.get('pred_score')
    return '' if scores is None or label is None else f'({float(scores[label]):.2f})'


def _with_text(image: np.ndarray, lines: Sequence[str], right: bool) -> np.ndarray:
    """The picture, enlarged where it is tiny, with lines of text on a band below."""
    import cv2

    scale = max(1, round(MIN_WIDTH / image.shape[1]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    band = np.full((LINE_HEIGHT * len(lines) + 8, image.shape[1], 3), 255, np.uint8)
    color = (0, 120, 0) if right else (0, 0, 200)
    for row, line in enumerate(lines, start=1):
        place = (6, LINE_HEIGHT * row)
        cv2.putText(band, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)
    return np.concatenate([image, band])
