"""Time and memory of large sets: to the first batch, and to judge; detection beside mmdet's own.

A COCO-sized set is made: 118,000 images and 860,000 boxes with polygons to train, 5,000 images,
36,000 boxes and 500,000 detections to judge; re-ID folders of Market-1501's and MSMT17's size, and
MSMT17's ranking by one process and by two. Each measurement has a process of its own. Example:
``python -m benchmarks.scale --folder work_dirs/scale``
"""

import argparse
import sys
from pathlib import Path

WORKS = ('start', 'validation', 'reid-start', 'reid-ranks')
HEADER = (
    'work',
    'by',
    'CPU time',
    'of mmdet',
    'peak memory',
    'of mmdet',
    'without imports',
    'of mmdet',
)


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='python -m benchmarks.scale', description=__doc__.split('\n')[0])
    parser.add_argument('--folder', required=True, help='where the sets are, or are made')
    parser.add_argument('--work', nargs='+', choices=WORKS, default=WORKS, help='default: all')
    parser.add_argument('--scale', type=float, default=1.0, help='share of images and boxes (1)')
    parser.add_argument('--masks', action='store_true', help='train with masks, too')
    parser.add_argument('--threads', type=int, help="of PyTorch; default: PyTorch's own choice")
    return parser


def plan(args: argparse.Namespace) -> list[tuple]:
    """``(work, by whom, function, arguments)`` of each measurement, mmdet's first."""
    from benchmarks.measure import scale

    planned = []
    folder = Path(args.folder) / f'{args.scale:g}'
    if 'start' in args.work:
        images, boxes = (round(count * args.scale) for count in (118_000, 860_000))
        file = scale.make_set(folder, images, boxes, 'train')
        work = f'start, {images:,} images, {boxes:,} boxes'
        for by in (scale.THEIRS, scale.OURS):
            planned.append((work, by, scale.measure_start, (by, file, args.masks)))
    if 'validation' in args.work:
        images, boxes, count = (round(n * args.scale) for n in (5_000, 36_000, 500_000))
        file = scale.make_set(folder, images, boxes, 'val')
        work = f'validation, {images:,} images, {boxes:,} boxes, {count:,} detections'
        for by in (scale.THEIRS, scale.OURS, scale.FASTER):
            planned.append((work, by, scale.measure_validation, (by, file, count)))
    return planned


def work(args: argparse.Namespace, session) -> None:
    """Make the sets, measure, print tables."""
    import torch

    from benchmarks.measure.arguments import check_positive
    from benchmarks.measure.report import describe_machine

    check_positive(args, 'scale', 'threads')
    if args.threads:
        torch.set_num_threads(args.threads)
    if set(args.work) & set(WORKS[:2]):
        _beside_mmdet(args)
    _reid(args)
    print(describe_machine())


def _reid(args: argparse.Namespace) -> None:
    """Print what re-ID sets take."""
    import torch

    from benchmarks.measure import scale_reid
    from benchmarks.measure.isolation import GB, run_isolated
    from benchmarks.measure.report import markdown_table

    rows = []
    sizes = [size.scaled(args.scale) for size in (scale_reid.MARKET, scale_reid.MSMT17)]
    for size in sizes if 'reid-start' in args.work else ():
        root = scale_reid.make_folder(Path(args.folder) / f'{args.scale:g}' / size.name, size)
        found, peak = run_isolated(scale_reid.measure_reid_start, size, root)
        images = f'{size.train:,} + {size.query:,} + {size.gallery:,} images'
        work = f'start, {size.name}, {images}'
        rows.append((work, f'{found.seconds:.1f} s', f'{peak / GB:.2f} GB', ''))
    for world in (1, 2) if 'reid-ranks' in args.work else ():
        found, peak = scale_reid.measure_ranks(sizes[1], world, torch.get_num_threads())
        figures = ', '.join(f'{name} {value:.6f}' for name, value in found.figures.items())
        work = f'{sizes[1].name}, {sizes[1].query:,} x {sizes[1].gallery:,}, processes: {world}'
        rows.append((work, f'{found.seconds:.1f} s', f'{peak / GB:.2f} GB', figures))
    if rows:
        print(markdown_table(('work', 'CPU time', 'peak memory', 'figures'), rows))


def _beside_mmdet(args: argparse.Namespace) -> None:
    """Print what detection sets take, and mmdet beside it."""
    from benchmarks.measure.isolation import GB, run_isolated
    from benchmarks.measure.report import markdown_table
    from benchmarks.measure.scale import THEIRS

    rows, figures, base = [], {}, (1.0, 1, 1)
    for name, by, function, arguments in plan(args):
        found, peak = run_isolated(function, *arguments)
        measured = found.seconds, peak, peak - found.begin
        if by == THEIRS:
            base, figures = measured, found.figures
        else:
            differing = {k: v for k, v in found.figures.items() if figures.get(k) != v}
            print(f'{name}, {by}: figures {differing or "equal"}')
        seconds, whole, above = (a / b for a, b in zip(measured, base, strict=True))
        rows.append((
            name, by, f'{found.seconds:.1f} s', f'{seconds:.2f}', f'{peak / GB:.2f} GB',
            f'{whole:.2f}', f'{measured[2] / GB:.2f} GB', f'{above:.2f}',
        ))  # fmt: skip
        print(markdown_table(HEADER, rows[-1:]), flush=True)
    print(markdown_table(HEADER, rows))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
