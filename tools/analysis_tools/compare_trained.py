#!/usr/bin/env python
"""Trained classifiers side by side, in a Markdown table: accuracy, multiply-adds, speed.

All are tested and timed in their deployed form. Example: ``python
tools/analysis_tools/compare_trained.py --model CONFIG CHECKPOINT CHECKPOINT --model CONFIG
CHECKPOINT``; several checkpoints of a config are its seeds. The attention of the others is compared
with that of the first.
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import mean

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.engine.cli import Parser, add_common_arguments

    parser = Parser(prog='compare_trained.py', description=__doc__.split('\n')[0])
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar='FILE',
        help='config and its checkpoints, one a seed; repeat for each model',
    )
    parser.add_argument('--batch-size', type=int, default=128, help='images of a timed batch')
    parser.add_argument('--repeats', type=int, default=20, help='timed passes of each model')
    parser.set_defaults(out=None, show_dir=None, tta=False)
    add_common_arguments(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    from effvit_mm.analysis import describe_machine
    from effvit_mm.analysis.trained import images_per_second, measure_trained
    from effvit_mm.engine.configure import build_runner, prepare_testing
    from effvit_mm.errors import ConfigError

    for name in ('batch_size', 'repeats'):
        if getattr(args, name) < 1:
            raise ConfigError(f'--{name.replace("_", "-")} {getattr(args, name)}: 1 or more')
    for files in args.model:
        if len(files) < 2:
            raise ConfigError(f'--model {files[0]}: a config and a checkpoint are needed')

    trained = []
    for config, *checkpoints in args.model:
        runners = []
        for number, checkpoint in enumerate(checkpoints):
            work_dir = Path(args.work_dir or 'work_dirs/compare_trained')
            folder = str(work_dir / f'{Path(config).stem}_{number}')
            options = {'config': config, 'checkpoint': checkpoint, 'work_dir': folder}
            session.cfg = prepare_testing(argparse.Namespace(**{**vars(args), **options}))
            session.runner = build_runner(session.cfg)
            runners.append(session.runner)
        trained.append(measure_trained(Path(config).stem, runners, args.batch_size))
    speeds = images_per_second(trained, args.repeats)

    print(f'\n{describe_machine()}; batches of {args.batch_size}, medians of {args.repeats}\n')
    print('| config | top-1 | parameters | multiply-adds | in the attention | images/s |')
    print('| :-- | --: | --: | --: | --: | --: |')
    baseline = trained[0].cost.mechanism
    for one, speed in zip(trained, speeds, strict=True):
        accuracy = ', '.join(f'{value:.2f}' for value in one.accuracy)
        if len(one.accuracy) > 1:
            accuracy = f'**{mean(one.accuracy):.2f}** ({accuracy})'
        change = '' if one is trained[0] else f' ({one.cost.mechanism / baseline - 1:+.0%})'
        print(
            f'| {one.name} | {accuracy} | {one.parameters / 1e3:,.0f} k '
            f'| {one.cost.model / 1e6:.2f} M | {one.cost.mechanism / 1e6:.2f} M{change} '
            f'| {speed:.0f} |'
        )


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.engine.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
