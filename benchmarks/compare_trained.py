"""Trained models side by side, in a Markdown table: accuracy, multiply-adds, speed.

All are tested and timed in their deployed form. Example:
``python -m benchmarks.compare_trained --model CONFIG CHECKPOINT CHECKPOINT --model CONFIG
CHECKPOINT``; several checkpoints of a classifier's config are its seeds, and the attention of the
others is compared with that of the first. Of detectors and re-ID models, one checkpoint each, the
table has COCO's figures or those of the ranking.
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import mean

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_common_arguments

    parser = Parser(prog='python -m benchmarks.compare_trained', description=__doc__.split('\n')[0])
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
    parser.set_defaults(out=None, show_dir=None, tta=False, rerank=False)
    add_common_arguments(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    from benchmarks.measure.arguments import check_positive
    from effvit_mm.errors import ConfigError

    check_positive(args, 'batch_size', 'repeats')
    for files in args.model:
        if len(files) < 2:
            raise ConfigError(f'--model {files[0]}: a config and a checkpoint are needed')

    runners = [[build(args, session, *pair) for pair in pairs(files)] for files in args.model]
    kinds = {kind_of(one.cfg) for seeds in runners for one in seeds}
    if len(kinds) > 1:
        raise ConfigError(f'--model: models of one kind are needed, these are {sorted(kinds)}')
    names = [Path(files[0]).stem for files in args.model]
    compare = {
        'classifiers': compare_classifiers,
        'detectors': compare_detectors,
        're-ID models': compare_reid,
    }
    compare[kinds.pop()](list(zip(names, runners, strict=True)), args)


def kind_of(cfg) -> str:
    """What a config's model is."""
    from effvit_mm.openmm.config.preparing import is_reid

    if is_reid(cfg):
        return 're-ID models'
    return 'detectors' if cfg.get('default_scope') == 'mmdet' else 'classifiers'


def pairs(files: list[str]) -> list[tuple[str, str, int]]:
    """Config, checkpoint and number of each seed."""
    return [(files[0], checkpoint, number) for number, checkpoint in enumerate(files[1:])]


def build(args: argparse.Namespace, session, config: str, checkpoint: str, number: int):
    """A runner that can test the checkpoint."""
    from effvit_mm.openmm.config.preparing import prepare_testing
    from effvit_mm.openmm.engine.runner import build_runner

    work_dir = Path(args.work_dir or 'work_dirs/compare_trained')
    folder = str(work_dir / f'{Path(config).stem}_{number}')
    options = {'config': config, 'checkpoint': checkpoint, 'work_dir': folder}
    session.cfg = prepare_testing(argparse.Namespace(**{**vars(args), **options}))
    # One model after another is tested: workers that wait for more would disturb the timing.
    session.cfg.test_dataloader.persistent_workers = False
    session.runner = build_runner(session.cfg)
    return session.runner


def compare_classifiers(runners: list[tuple[str, list]], args: argparse.Namespace) -> None:
    """Print the table of classifiers."""
    from benchmarks.measure.trained import images_per_second, measure_trained

    trained = [measure_trained(name, seeds, args.batch_size) for name, seeds in runners]
    rows, baseline = [], trained[0].cost.mechanism
    for one, speed in zip(trained, images_per_second(trained, args.repeats), strict=True):
        accuracy = ', '.join(f'{value:.2f}' for value in one.figures)
        if len(one.figures) > 1:
            accuracy = f'**{mean(one.figures):.2f}** ({accuracy})'
        change = '' if one is trained[0] else f' ({one.cost.mechanism / baseline - 1:+.0%})'
        rows.append([
            one.name, accuracy, f'{one.parameters / 1e3:,.0f} k', f'{one.cost.model / 1e6:.2f} M',
            f'{one.cost.mechanism / 1e6:.2f} M{change}', f'{speed:.0f}',
        ])  # fmt: skip
    header = ['config', 'top-1', 'parameters', 'multiply-adds', 'in the attention', 'images/s']
    print_table(f'batches of {args.batch_size}', header, rows, args.repeats)


def compare_detectors(runners: list[tuple[str, list]], args: argparse.Namespace) -> None:
    """Print the table of detectors; images a second from the preprocessed batch to boxes."""
    from benchmarks.measure.trained import images_per_second, measure_detector

    trained = [measure_detector(name, runner) for name, runner in single(runners, 'detector')]
    rows = []
    for one, speed in zip(trained, images_per_second(trained, args.repeats), strict=True):
        whole, *sizes = one.figures.sizes
        values = (whole.ap, whole.ap50, whole.ap75, *(size.ap for size in sizes))
        figures = [f'{100 * value:.1f}' for value in values]
        rows.append([
            one.name, *figures, f'{one.parameters / 1e6:.2f} M', f'{one.cost / 1e9:.2f} G',
            f'{speed:.1f}',
        ])  # fmt: skip
    shapes = sorted({tuple(one.deployed.x.shape) for one in trained})
    batches = ', '.join(' x '.join(map(str, shape)) for shape in shapes)
    header = ['config', 'AP', 'AP50', 'AP75', 'APs', 'APm', 'APl']
    header += ['parameters', 'multiply-adds', 'images/s']
    print_table(f'batches {batches}', header, rows, args.repeats)


def compare_reid(runners: list[tuple[str, list]], args: argparse.Namespace) -> None:
    """Print the table of re-ID models; images a second from the preprocessed batch to features."""
    from benchmarks.measure.trained import images_per_second, measure_reid

    trained = [
        measure_reid(name, runner, args.batch_size)
        for name, runner in single(runners, 're-ID model')
    ]
    rows = []
    for one, speed in zip(trained, images_per_second(trained, args.repeats), strict=True):
        values = (one.figures.mAP, one.figures.rank(1), one.figures.mINP)
        figures = [f'{100 * value:.1f}' for value in values]
        rows.append([
            one.name, *figures, f'{one.parameters / 1e6:.2f} M', f'{one.cost / 1e9:.3f} G',
            f'{speed:.0f}',
        ])  # fmt: skip
    header = ['config', 'mAP', 'rank-1', 'mINP', 'parameters', 'multiply-adds', 'images/s']
    print_table(f'batches of {args.batch_size}', header, rows, args.repeats)


def print_table(batches: str, header: list[str], rows: list[list[str]], repeats: int) -> None:
    """Print a table below the machine and how the speed was measured."""
    from benchmarks.measure.report import describe_machine, markdown_table

    print(f'\n{describe_machine()}; {batches}, medians of {repeats}\n')
    print(markdown_table(header, rows), end='')


def single(runners: list[tuple[str, list]], kind: str) -> list[tuple]:
    """Names with their only runner each."""
    from effvit_mm.errors import ConfigError

    for name, seeds in runners:
        if len(seeds) > 1:
            raise ConfigError(f'--model {name}: of a {kind} one checkpoint is needed')
    return [(name, seeds[0]) for name, seeds in runners]


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
