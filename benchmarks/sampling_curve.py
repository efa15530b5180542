"""Accuracy against computation of token sampling, put on a trained model without training.

Example: ``python -m benchmarks.sampling_curve
configs/castling/deit-tiny_fashion-mnist.py work_dirs/deit-tiny_fashion-mnist/epoch_5.pth
--sampled-blocks 1 2 3 --num-samples 4 8 16 32 49 --show curve.png``
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_common_arguments

    parser = Parser(prog='python -m benchmarks.sampling_curve', description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of a classifier with a VisionTransformer')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument(
        '--num-samples',
        type=int,
        nargs='+',
        default=[196, 147, 98, 49],
        metavar='K',
        help='sample points to try; no sampling at all is measured besides',
    )
    parser.add_argument(
        '--sampled-blocks',
        type=int,
        nargs='+',
        metavar='I',
        help="blocks that drop tokens, from 0; default: the config's, or all",
    )
    parser.add_argument('--show', default='sampling_curve.png', help='picture to draw (.png)')
    parser.set_defaults(out=None, show_dir=None, tta=False, rerank=False)
    add_common_arguments(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    from benchmarks.measure.report import markdown_table
    from benchmarks.measure.sampling import measure_sampling, use_sampling
    from benchmarks.measure.tradeoff import Point, draw_tradeoff
    from effvit_mm.errors import ConfigError
    from effvit_mm.openmm.config.preparing import prepare_testing
    from effvit_mm.openmm.engine.runner import build_runner

    if min(args.num_samples) < 1:
        raise ConfigError(f'--num-samples {args.num_samples}: 1 or more is needed')
    session.cfg = prepare_testing(args)
    use_sampling(session.cfg, args.sampled_blocks)
    session.runner = build_runner(session.cfg)
    settings = [None, *sorted(args.num_samples, reverse=True)]
    results = measure_sampling(session.runner, settings)

    whole, *sampled = results
    panels = {}
    for title, cost in (
        ('multiply-adds of an image, M', lambda r: r.multiply_adds / 1e6),
        ('images a second', lambda r: r.images_per_second),
    ):
        panels[title] = {
            'sampled': [Point(cost(r), r.accuracy, str(r.num_samples)) for r in sampled],
            'all tokens': [Point(cost(whole), whole.accuracy, '')],
        }
    draw_tradeoff(panels, Path(args.show))
    rows = [
        [
            str(r.num_samples or 'none'), '' if r.num_samples is None else f'{r.kept:.1f}',
            f'{r.multiply_adds / 1e6:.2f} M', f'{1 - r.multiply_adds / whole.multiply_adds:.1%}',
            f'{r.accuracy:.2f}', f'{r.images_per_second:.0f}',
        ]
        for r in results
    ]  # fmt: skip
    header = ['num_samples', 'tokens left', 'multiply-adds', 'saved', 'top-1', 'images/s']
    print(f'\n{markdown_table(header, rows)}', end='')
    print(f'\nwrote {args.show}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
