#!/usr/bin/env python
"""Judge tracks by HOTA, MOTA and IDF1 against truth in MOT17's layout; several ways side by side.

``python tools/analysis_tools/evaluate_tracks.py MOT17/train tracks joined``: folders with a text
for each sequence, as tools/track.py writes them; with one sequence's folder, for it alone.
"""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='evaluate_tracks.py', description=__doc__.split('\n')[0])
    parser.add_argument('truth', help='folder with <sequence>/gt/gt.txt, or a sequence')
    parser.add_argument('tracks', nargs='+', help='folders with <sequence>.txt')
    parser.add_argument('--out', metavar='JSON', help='write the figures to this file')
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Evaluate and print a table."""
    import json

    from effvit_mm.tracking.metrics import as_table, evaluate_tracks, find_truths
    from effvit_mm.utils.files import write_text

    truths = find_truths(args.truth)
    results = {folder: evaluate_tracks(truths, folder) for folder in args.tracks}
    print(as_table(results))
    if args.out is not None:
        plain = {
            way: {name: figures._asdict() for name, figures in found.items()}
            for way, found in results.items()
        }
        write_text(args.out, json.dumps(plain, indent=1))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
