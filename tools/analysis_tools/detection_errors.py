#!/usr/bin/env python
"""Say why a detector loses average precision, with pictures: errors by cause and what each costs.

Draws confusion.png, precision_recall.png and errors.png. Example:
``python tools/test.py CONFIG CHECKPOINT --out predictions.json``, then
``python tools/analysis_tools/detection_errors.py CONFIG predictions.json --out errors``
"""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    parser = Parser(prog='detection_errors.py', description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of a detector that tests on a COCO-style set')
    parser.add_argument('predictions', help='what test.py --out wrote, or COCO results as .json')
    parser.add_argument('--out', required=True, help='folder of the pictures')
    parser.add_argument('--masks', action='store_true', help='judge masks instead of boxes')
    parser.add_argument(
        '--min-score',
        type=float,
        default=0.3,
        help='of predictions that count in the confusion matrix; default: 0.3',
    )
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='read a .pkl, which can run code that it carries',
    )
    add_cfg_options(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Analyse, print a table, draw."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.evaluation.coco_results import collect, to_coco_results
    from effvit_mm.evaluation.detection_errors import analyse
    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.data_checks.tested_set import find_tested_set
    from effvit_mm.openmm.engine.predictions import read_predictions
    from effvit_mm.utils.files import check_writable
    from effvit_mm.visualization.detection_errors import draw_analysis

    if not 0 <= args.min_score <= 1:
        raise ConfigError(f'--min-score {args.min_score}: between 0 and 1')
    check_writable(args.out, f'--out {args.out}')
    predictions = read_predictions(args.predictions, args.trust_pickle)
    cfg = session.cfg = load_config(args.config, args.cfg_options)
    tested = find_tested_set(cfg)
    kind = 'segm' if args.masks else 'bbox'
    results = to_coco_results(predictions, tested.category_ids, kind)
    images = collect(tested.data, results, tested.category_ids, kind)
    analysis = analyse(images, len(tested.classes), args.min_score)
    print(format_analysis(analysis, tested.classes, args.masks))
    for file in draw_analysis(analysis, tested.classes, Path(args.out)):
        print(f'wrote {file}')


def format_analysis(analysis, classes, masks: bool) -> str:
    """Average precision by class, and the errors by cause."""
    from effvit_mm.evaluation.detection_errors import CAUSES
    from effvit_mm.openmm.engine.report import format_figure, format_grid

    columns = [analysis.average_precision(iou) for iou in analysis.curves]
    seen = analysis.counts > 0
    means = [values[seen].mean() if seen.any() else float('nan') for values in columns]
    rows = [('all', *map(format_figure, means), str(analysis.counts.sum()))]
    for label, name in enumerate(classes):
        figures = (format_figure(values[label]) for values in columns)
        rows.append((name, *figures, str(analysis.counts[label])))
    what = 'masks' if masks else 'boxes'
    precision = format_grid(f'{what}, COCO', ('', 'AP50', 'AP75', 'objects'), rows, (1,))
    rows = [
        (
            cause,
            str(analysis.errors[cause]),
            str(analysis.confident[cause]),
            format_figure(analysis.costs[cause]),
        )
        for cause in CAUSES
    ]
    headers = ('', 'errors', f'score >= {analysis.min_score:g}', 'cost in AP50')
    return precision + format_grid('errors by cause', headers, rows)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
