#!/usr/bin/env python
"""Convert a detection set between COCO's, VOC's and YOLO's layouts, with all of its boxes.

Examples: ``python tools/dataset_converters/convert.py 'yolo/data.yaml#train' coco --to coco``,
``python tools/dataset_converters/convert.py annotations/val.json yolo --images images --to yolo``,
``python tools/dataset_converters/convert.py VOC2007/ImageSets/Main/test.txt yolo --to yolo``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

FORMATS = ('coco', 'voc', 'yolo')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='convert.py', description=__doc__.split('\n')[0])
    parser.add_argument('source', help="train.json, ImageSets/Main/train.txt or 'data.yaml#train'")
    parser.add_argument('target', type=Path, help='folder to write to')
    parser.add_argument('--from', dest='kind', choices=FORMATS, help='default: by the name')
    parser.add_argument('--to', required=True, choices=FORMATS)
    parser.add_argument(
        '--images', help='where names of images begin; VOC: the folder above JPEGImages'
    )
    parser.add_argument('--split', help='its name in the target; default: that of the source')
    parser.add_argument('--masks', action='store_true', help='to YOLO: outlines instead of boxes')
    parser.add_argument('--link', action='store_true', help='links to the images, no copies')
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Read, plan, write, say what was done and what is lost."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.openmm.datasets.conversion import PLANS, format_of, read_set
    from effvit_mm.openmm.datasets.yolo_format import SPLITS

    kind = args.kind or format_of(args.source)
    if kind == args.to:
        raise ConfigError(f'--to {args.to}: {args.source} is in that format already')
    if args.masks and args.to != 'yolo':
        raise ConfigError(f'--masks goes with --to yolo, not with --to {args.to}')
    split = args.split or args.source.rpartition('#')[2] if kind == 'yolo' else args.split
    split = split or Path(args.source).stem
    if args.to == 'yolo' and split not in SPLITS:
        raise ConfigError(f'--split {split}: YOLO has {", ".join(SPLITS)}')
    data = read_set(args.source, kind, args.images)
    plan = PLANS[args.to](data, args.target, split, args.masks)
    plan.write(args.overwrite, args.link)
    print(
        f'{len(data["images"])} images, {len(data["annotations"])} objects, '
        f'{len(data["categories"])} classes: {list(plan.texts)[-1]}'
    )
    if lost := plan.losses(args.to):
        print(lost)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
