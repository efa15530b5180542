"""Set a config's COCO metric beside pycocotools on the same predictions, to the last digit.

Exit code 0: equal to --tolerance; 1: not; 2: the command cannot be run. Example:
``python tools/test.py CONFIG CHECKPOINT --out predictions.json``, then
``python -m benchmarks.compare_pycocotools CONFIG predictions.json``
"""

import argparse
import sys


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    parser = Parser(
        prog='python -m benchmarks.compare_pycocotools', description=__doc__.split('\n')[0]
    )
    parser.add_argument('config', help='config of a detector with a CocoMetric')
    parser.add_argument('predictions', help='what test.py --out wrote, .json or .pkl')
    parser.add_argument('--tolerance', type=float, default=1e-6, help='default: 1e-6')
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='read a .pkl, which can run code that it carries',
    )
    add_cfg_options(parser)
    return parser


def build_metric(cfg, classes: tuple[str, ...]):
    """The config's metric, alone."""
    from mmdet.evaluation import CocoMetric
    from mmengine.logging import MMLogger
    from mmengine.registry import METRICS, init_default_scope

    from effvit_mm.errors import ConfigError

    MMLogger.get_instance('compare_pycocotools', log_level='ERROR')  # the metric's own lines
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    evaluators = cfg.test_evaluator
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    metrics = [METRICS.build(evaluator) for evaluator in evaluators]
    metrics = [metric for metric in metrics if isinstance(metric, CocoMetric)]
    if len(metrics) != 1:
        raise ConfigError(f'test_evaluator: one CocoMetric is needed, found {len(metrics)}')
    metrics[0].dataset_meta = {'classes': classes}
    return metrics[0]


def work(args: argparse.Namespace, session) -> int:
    """Print both columns; 1 where they are not equal."""
    from benchmarks.measure.coco_comparison import (
        compare,
        largest_difference,
        run_metric,
        run_pycocotools,
    )
    from effvit_mm.errors import DataError
    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.config.preparing import use_coco_limits
    from effvit_mm.openmm.data_checks.tested_set import find_tested_set
    from effvit_mm.openmm.engine.predictions import read_predictions
    from effvit_mm.openmm.engine.report import format_grid

    predictions = read_predictions(args.predictions, args.trust_pickle)
    if not any('pred_instances' in image for image in predictions):
        raise DataError(f'predictions {args.predictions}: what test.py --out writes is needed')
    if not any(len(image['pred_instances']['scores']) for image in predictions):
        raise DataError(f'predictions {args.predictions}: nothing was predicted')
    cfg = session.cfg = load_config(args.config, args.cfg_options)
    use_coco_limits(cfg)
    tested = find_tested_set(cfg)
    metric = build_metric(cfg, tested.classes)
    theirs = {
        kind: run_pycocotools(tested.file, predictions, tested.category_ids, kind)
        for kind in metric.metrics
    }
    equal = True
    for kind, ours in run_metric(metric, predictions).items():
        rows = compare(ours, theirs[kind])
        difference = largest_difference(rows)
        equal = equal and difference <= args.tolerance
        cells = [(name, *(f'{value:.10f}' for value in values)) for name, *values in rows]
        backend = f'{type(metric).__name__}, {type(ours).__module__}'
        title = f'{kind}: largest difference {difference:.2e}'
        print(format_grid(title, ('', backend, 'pycocotools'), cells, (12,)))
    return int(not equal)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
