#!/usr/bin/env python
"""Draw what a config's data set gives to the network: after the pipeline, with labels or boxes.

What the data preprocessor does to whole batches (normalisation, Mixup, CutMix) comes later and is
not seen. Examples: ``python tools/analysis_tools/browse_dataset.py CONFIG --out sheet.png``,
``... --split val --number 100 --out folder``
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/train.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    parser = Parser(prog='browse_dataset.py', description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of a classifier or a detector')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--number', type=int, default=16, help='samples, evenly spaced')
    parser.add_argument('--seed', type=int, default=0, help='of the augmentation')
    parser.add_argument(
        '--out', default='samples.png', help='a .png file for one sheet, or a folder'
    )
    add_cfg_options(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Draw samples into a file or a folder."""
    import numpy as np
    from mmengine.registry import DATASETS, init_default_scope
    from mmengine.runner import set_random_seed

    from effvit_mm.errors import ConfigError, DataError
    from effvit_mm.openmm.config.building import building
    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.pictures import draw_samples
    from effvit_mm.utils.files import check_writable
    from effvit_mm.visualization.pictures import contact_sheet, save_png

    if args.number < 1:
        raise ConfigError(f'--number {args.number}: 1 or more is needed')
    one_sheet = args.out.endswith('.png')
    check_writable(Path(args.out).parent if one_sheet else args.out, f'--out {args.out}')
    cfg = session.cfg = load_config(args.config, args.cfg_options)
    key = f'{args.split}_dataloader'
    if not cfg.get(key):
        raise ConfigError(f'config {args.config} has no {key}')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with building(cfg, key):
        dataset = DATASETS.build(cfg[key].dataset)
    if len(dataset) == 0:
        raise DataError(f'{key}.dataset is empty')
    set_random_seed(args.seed)
    indices = np.unique(np.linspace(0, len(dataset) - 1, args.number).round().astype(int))
    drawn = list(draw_samples(dataset, indices.tolist()))
    files = {Path(args.out, f'{name}.png'): picture for name, picture in drawn}
    if one_sheet:
        files = {Path(args.out): contact_sheet([picture for _, picture in drawn])}
    for file, picture in files.items():
        save_png(picture, file)
    print(f'wrote {len(drawn)} of {len(dataset)} samples to {args.out}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
