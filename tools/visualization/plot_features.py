#!/usr/bin/env python
"""Draw re-ID features in the plane, by PCA or t-SNE: ``plot_features.py features_gallery.npz``."""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='plot_features.py', description=__doc__.split('\n')[0])
    parser.add_argument('features', nargs='+', help='files that test.py --out wrote')
    parser.add_argument('--out', required=True, metavar='PNG', help='the picture')
    parser.add_argument('--method', choices=('pca', 'tsne'), default='tsne', help='(tsne)')
    parser.add_argument(
        '--people', type=int, default=15, help='draw the N persons with most images (15)'
    )
    parser.add_argument('--seed', type=int, default=0, help='of t-SNE (0)')
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Read, choose, project, draw."""
    import numpy as np

    from effvit_mm.errors import ConfigError, DataError
    from effvit_mm.reid.features import load_features
    from effvit_mm.utils.files import check_writable
    from effvit_mm.visualization.feature_plot import draw_features, most_seen, project

    if args.people < 1:
        raise ConfigError(f'--people {args.people}: 1 or more is needed')
    if not args.out.endswith('.png'):
        raise ConfigError(f'--out {args.out}: a name ending in .png is needed')
    check_writable(Path(args.out).parent, f'--out {args.out}')
    parts = [load_features(path) for path in args.features]
    for part in parts[1:]:
        parts[0].check_same_space(part)
    pids = np.concatenate([part.pids for part in parts])
    rows = most_seen(pids, args.people)
    if not len(rows):
        raise DataError(f'{args.features[0]}: no image whose person is known')
    features = np.concatenate([part.features for part in parts])[rows]
    camids = np.concatenate([part.camids for part in parts])[rows]
    points = project(features, args.method, args.seed)
    title = f'{"PCA" if args.method == "pca" else "t-SNE"} of {len(rows)} images'
    draw_features(points, pids[rows], camids, title, args.out)
    print(f'{len(rows)} images of {len(np.unique(pids[rows]))} persons; wrote {args.out}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
