"""What ``tools/test.py`` says of a classifier's classes: figures, a table, pictures."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook, LoggerHook

from ...evaluation.classification import ClassFigures, count_predictions
from ...utils.drawn_files import note_drawn
from ...utils.files import written_atomically
from ...visualization.pictures import read_rgb, shrink
from ..pictures import read_image
from .report import format_figure, format_grid

MAX_ROWS, WORST = 100, 20  # classes of a table; those that are left where there are more
MAX_MISTAKES, MAX_SIDE = 24, 480  # of a sheet; pixels of its images
MULTI_LABEL = {'MultiLabelClsHead', 'MultiLabelMetric'}  # mmpretrain's, and what builds on them


@dataclass(slots=True)
class Prediction:
    """Of an image; ``image`` is kept of mistakes without a file."""

    true: int
    predicted: int
    score: float
    classes: int
    path: str | None
    image: np.ndarray | None = None


class ClassReport(BaseMetric):
    """Collects what precision, recall, F1 and images of each class are computed of.

    ``figures`` stay None where images do not have one true and one predicted label each.

    Args:
        names: Of the classes; their numbers without them.
        keep_mistakes: For :meth:`save_pictures`.

    Attributes:
        figures: After an evaluation, in the main process.
        names: As many as there are classes.
    """

    default_prefix = 'classes'  # gives no metric; mmengine warns of metrics without a prefix

    def __init__(self, names: Sequence[str] | None = None, keep_mistakes: bool = False) -> None:
        super().__init__(collect_device='cpu')
        self.names = [str(name) for name in names or ()]
        self.figures: ClassFigures | None = None
        self.mistakes: list[Prediction] = []
        self._keep_mistakes = keep_mistakes
        self._imageless: list[tuple[float, int]] = []  # a heap of mistakes whose image is kept

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for index, sample in enumerate(data_samples):
            self.results.append(prediction := _read(sample))
            if self._keep_mistakes and prediction is not None and _is_wrong(prediction):
                self._keep_image(prediction, sample, data_batch, index)

    def _keep_image(self, prediction: Prediction, sample: dict, batch: Any, index: int) -> None:
        """Of the surest mistakes only: a set may have more images than there is memory."""
        if prediction.path is not None:
            return
        prediction.image = read_image(sample, batch, index)
        heapq.heappush(self._imageless, (-_doubt(prediction), len(self.results) - 1))
        if len(self._imageless) > MAX_MISTAKES:
            self.results[heapq.heappop(self._imageless)[1]].image = None

    def compute_metrics(self, results: list[Prediction | None]) -> dict:
        """Set the figures; gives no metric: a line of thousands would be logged."""
        if not results or None in results:
            return {}
        true, predicted = ([getattr(r, key) for r in results] for key in ('true', 'predicted'))
        count = max(len(self.names), *(r.classes for r in results))
        self.names += map(str, range(len(self.names), count))
        self.figures = count_predictions(true, predicted, count)
        wrong = [r for r in results if _is_wrong(r) and (r.path or r.image is not None)]
        self.mistakes = heapq.nsmallest(MAX_MISTAKES, wrong, key=_doubt)
        return {}

    def by_name(self) -> dict[str, float]:
        """The figures as ``classes/<name>_precision``, ``_recall``, ``_f1`` (0 to 1) and
        ``_images``; none before an evaluation."""
        if self.figures is None:
            return {}
        columns = {
            'precision': self.figures.precision,
            'recall': self.figures.recall,
            'f1': self.figures.f1,
            'images': self.figures.counts,
        }
        return {
            f'classes/{name}_{what}': values[label].item()
            for label, name in enumerate(self.names)
            for what, values in columns.items()
        }

    def save_pictures(self, folder: str | Path) -> None:
        """Draw ``confusion_matrix.png`` and, where there are mistakes, ``worst_mistakes.png``."""
        from ...visualization.class_errors import Mistake, save_confusion, save_mistakes

        folder = Path(folder)
        save_confusion(self.figures, self.names, note_drawn(folder / 'confusion_matrix.png'))
        if not self.mistakes:
            return
        mistakes = []
        for r in self.mistakes:
            image = shrink(read_rgb(r.path) if r.image is None else r.image, MAX_SIDE)
            mistakes.append(Mistake(image, r.true, r.predicted, r.score))
        save_mistakes(mistakes, self.names, note_drawn(folder / 'worst_mistakes.png'))


class ClassFiguresHook(Hook):
    """Puts the figures by class into the JSON file that the logger's hook has written."""

    priority = 'LOWEST'

    def __init__(self, report: ClassReport) -> None:
        self.report = report

    def after_test_epoch(self, runner, metrics=None) -> None:
        figures = self.report.by_name()
        for hook in runner.hooks if figures else ():
            if isinstance(hook, LoggerHook):
                path = Path(runner.log_dir) / hook.json_log_path
                written = json.loads(path.read_text(encoding='utf-8'))
                with written_atomically(path) as temporary:
                    temporary.write_text(json.dumps({**written, **figures}), encoding='utf-8')


def has_single_labels(model: torch.nn.Module, metrics: Sequence) -> bool:
    """Whether a model, or its wrapper, is not one of several labels an image."""
    head = getattr(getattr(model, 'module', model), 'head', None)
    kinds = {kind.__name__ for part in (head, *metrics) for kind in type(part).__mro__}
    return not kinds & MULTI_LABEL


def class_table(figures: ClassFigures, names: Sequence[str]) -> str:
    """The figures by class, or of the worst classes where there are many."""
    columns = (figures.precision, figures.recall, figures.f1)
    shares = figures.counts / max(figures.counts.sum(), 1)
    total = str(figures.counts.sum())
    means = [
        (name, *(format_figure(float(weigh(values))) for values in columns), total)
        for name, weigh in (('mean of classes', np.mean), ('mean of images', shares.dot))
    ]
    many = len(names) > MAX_ROWS
    labels = figures.worst(WORST) if many else range(len(names))
    rows = [
        (names[n], *(format_figure(values[n]) for values in columns), str(figures.counts[n]))
        for n in labels
    ]
    table = format_grid(
        'by class', ('', 'precision', 'recall', 'F1', 'images'), [*means, *rows], (len(means),)
    )
    if many:
        table += f'\nthe {WORST} worst of {len(names)} classes by F1'
    return table


def _read(sample: dict) -> Prediction | None:
    """What a sample says; None without one true and one predicted label."""
    labels = [torch.as_tensor(sample.get(f'{kind}_label', ())) for kind in ('gt', 'pred')]
    if any(label.numel() != 1 or int(label) < 0 for label in labels):
        return None
    true, predicted = map(int, labels)
    scores = sample.get('pred_score')
    scores = torch.empty(0) if scores is None else torch.as_tensor(scores).reshape(-1)
    score = float(scores[predicted]) if predicted < len(scores) else math.nan
    path = sample.get('img_path')
    path = str(path) if path and Path(path).is_file() else None
    return Prediction(true, predicted, score, max(len(scores), true + 1, predicted + 1), path)


def _is_wrong(prediction: Prediction) -> bool:
    return prediction.true != prediction.predicted


def _doubt(prediction: Prediction) -> float:
    """Less for a higher score; without one, most."""
    return math.inf if math.isnan(prediction.score) else -prediction.score
