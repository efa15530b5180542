"""What ``tools/test.py`` does beyond mmengine's test loop: tables, pictures, speed."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook

from ...backbones import Deployable
from ...deploy import switch_modules
from ...errors import ConfigError
from ...evaluation.coco import read_figures
from ...evaluation.voc import VocFigures
from ...utils.distributed import on_main_process
from ...utils.drawn_files import note_drawn, remove_drawn
from ...visualization.pictures import contact_sheet, read_rgb, save_png
from ..compiling import compile_model
from ..config.preparing import FEATURE_SUFFIXES, is_reid
from ..pictures import draw_detection, draw_prediction, load_truth, read_image
from ..registry import HOOKS
from .class_report import ClassFiguresHook, ClassReport, class_table, has_single_labels
from .predictions import PredictionWriter
from .reid_testing import FIGURES, keep_features, report_reid
from .report import coco_table, format_duration, format_metrics, format_table, voc_table


def run_test(runner, args: argparse.Namespace, compiled: Mapping[str, Any]) -> dict:
    """Test, write what was asked for, print tables; ``compiled`` are arguments of
    :func:`compile_model`, none for PyTorch."""
    evaluator = runner.test_evaluator
    reid = is_reid(runner.cfg)
    classes = _meta(runner.test_dataloader.dataset).get('classes')
    writer = PredictionWriter(args.out, classes) if args.out is not None and not reid else None
    usual = type(evaluator) is Evaluator  # another may pass over a metric that it did not build
    if writer is not None:
        if not usual:
            raise ConfigError(
                f'--out {args.out}: test_evaluator.type={type(evaluator).__name__!r} judges with '
                'its own metrics alone; give test_evaluator one metric, and test_dataloader its set'
            )
        evaluator.metrics.append(writer)
    report = None
    if usual and not reid and has_single_labels(runner.bare_model, evaluator.metrics):
        report = ClassReport(classes, args.show_dir is not None)
        evaluator.metrics.append(report)
        runner.register_hook(ClassFiguresHook(report))
    if args.deploy or compiled:
        runner.register_hook(DeployHook(compiled))
    if args.show_dir is not None:
        runner.register_hook(ClearPicturesHook(args.show_dir))
    timer = ForwardTimer()
    runner.register_hook(timer)
    try:
        metrics = runner.test()
    except BaseException:  # a broken image, a signal
        if args.out is not None and is_main_process():
            _keep(runner, writer, args.out)
        raise
    if is_main_process():
        coco, voc = evaluations_of(evaluator)
        tables = [coco_table(read_figures(evaluation)) for evaluation in coco]
        tables += [voc_table(figures, classes) for figures in voc]
        in_tables = tuple(f'{evaluation.params.iouType}_mAP' for evaluation in coco)
        if report is not None and report.figures is not None:
            tables.append(class_table(report.figures, report.names))
        if reid:
            tables.append(report_reid(runner, args))
            in_tables += FIGURES
        shown = {k: v for k, v in metrics.items() if not k.split('/')[-1].startswith(in_tables)}
        rows = _rows(shown, timer, len(runner.test_dataloader.dataset), args)
        runner.logger.info(''.join([*tables, format_table(f'test of {args.checkpoint}', rows)]))
        if args.show_dir is not None and report is not None and report.figures is not None:
            report.save_pictures(args.show_dir)
    return metrics


def _keep(runner, writer: PredictionWriter | None, out: str) -> None:
    """What a test that ends early has come to: hours of work may be in it."""
    size = len(runner.test_dataloader.dataset)
    files = keep_features(runner, out, size) if writer is None else writer.keep(size)
    if files:
        names = ', '.join(map(str, files))
        runner.logger.info(f'the test was cut short; what it had up to there is in {names}')


def evaluations_of(evaluator) -> tuple[list, list[VocFigures]]:
    """What COCO's and VOC's metrics kept of the last evaluation."""
    kept = [getattr(metric, 'evaluations', ()) for metric in evaluator.metrics]
    coco = [e for part in kept if isinstance(part, dict) for e in part.values()]
    return coco, [e for part in kept if not isinstance(part, dict) for e in part]


def _meta(dataset) -> dict:
    """Classes and colours, as far as a data set knows them."""
    return getattr(dataset, 'metainfo', None) or {}


def _rows(
    metrics: dict, timer: ForwardTimer, count: int, args: argparse.Namespace
) -> list[tuple[str, str]]:
    """The table's lines for any kind of model."""
    rows = [(name, format_metrics({'': value}).strip()) for name, value in metrics.items()] + [
        ('form', _form(args)),
        ('images', str(count)),
        ('speed', f'{count / timer.seconds:.1f} images/s ({format_duration(timer.seconds)})'),
        ('model alone', f'{count / timer.forward_seconds:.1f} images/s'),
    ]
    if args.out is not None:
        rows.append(
            ('features' if args.out.endswith(FEATURE_SUFFIXES) else 'predictions', args.out)
        )
    if args.show_dir is not None:
        rows.append(('pictures', args.show_dir))
    return rows


def _form(args: argparse.Namespace) -> str:
    if args.runtime is not None:
        return f'deployed, by {args.runtime} in {args.precision}'
    return 'deployed' if args.deploy else 'as trained'


class DeployHook(Hook):
    """Test a copy of the model in its deployed form, or as a runtime computes that.

    Args:
        compiled: Arguments of :func:`compile_model`; none for the deployed form in PyTorch.

    It is made last before the test: an EMAHook has put the averaged weights into the model by then
    and wants its own tensors back afterwards.
    """

    priority = 'VERY_LOW'

    def __init__(self, compiled: Mapping[str, Any] | None = None) -> None:
        self.compiled = compiled or {}

    def before_test_epoch(self, runner) -> None:
        model = runner.bare_model
        if not self.compiled and not any(
            isinstance(module, Deployable) for module in model.modules()
        ):
            raise ConfigError(f'--deploy: no part of {type(model).__name__} has a deployed form')
        self.trained = runner.model
        runner.model = copy.deepcopy(model).eval()
        if self.compiled:
            compile_model(runner.model, **self.compiled)
        else:
            switch_modules(runner.model)

    def after_test_epoch(self, runner, metrics=None) -> None:
        runner.model = self.trained


class ClearPicturesHook(Hook):
    """Remove what an earlier test has drawn into a folder, once this one is about to draw."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def before_test_epoch(self, runner) -> None:
        on_main_process(lambda: remove_drawn(self.folder))


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


@HOOKS.register_module()
class DrawPredictionsHook(Hook):
    """Draw tested images with what was predicted and what is true.

    Args:
        folder: Where the pictures go: ``<number>_<file name>.png``, those of a classifier with
            ``right_`` or ``wrong_`` before it. The number is the image's place in the data set.
        number: Draw as many, evenly spaced in the data set, and all of them on one ``sheet.png``.
            None: draw all images, and no sheet.
    """

    def __init__(self, folder: str, number: int | None = None) -> None:
        self.folder = Path(folder)
        self.number = number

    def before_test_epoch(self, runner) -> None:
        count = len(runner.test_dataloader.dataset)
        number = count if self.number is None else self.number
        self.wanted = set(np.linspace(0, count - 1, number).round().astype(int).tolist())
        self.drawn: dict[int, str] = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        rank, world_size = get_dist_info()
        size = runner.test_dataloader.batch_size or len(outputs)
        for index, sample in enumerate(outputs):
            # Several ranks get the first images again where the number does not divide: such a
            # place is behind the last image.
            number = (batch_idx * size + index) * world_size + rank
            if number not in self.wanted:
                continue
            image = read_image(sample, data_batch, index)
            verdict, picture = self._draw(runner.test_dataloader.dataset, number, image, sample)
            stem = Path(str(sample.get('img_path') or 'image')).stem
            self.drawn[number] = f'{verdict}{number:06d}_{stem}.png'
            save_png(picture, note_drawn(self.folder / self.drawn[number]))

    def _draw(self, dataset, number: int, image: np.ndarray, sample) -> tuple[str, np.ndarray]:
        """What to put before the file's name, and the picture."""
        if 'pred_instances' in sample:
            truth = load_truth(dataset, number, 'masks' in sample.pred_instances)
            return '', draw_detection(image, sample, _meta(dataset), truth)
        right, picture = draw_prediction(image, sample, _meta(dataset).get('classes'))
        return 'right_' if right else 'wrong_', picture

    def after_test_epoch(self, runner, metrics=None) -> None:
        if self.number is None:
            return
        names = {n: name for part in all_gather_object(self.drawn) for n, name in part.items()}
        if is_main_process():
            pictures = [read_rgb(self.folder / names[number]) for number in sorted(names)]
            save_png(contact_sheet(pictures), note_drawn(self.folder / 'sheet.png'))
