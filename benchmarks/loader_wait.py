#!/usr/bin/env python
"""Print which share of a training's time its steps waited for data, epoch by epoch.

Example: ``python tools/analysis_tools/loader_wait.py work_dirs/pslt-tiny_fashion-mnist``
"""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='loader_wait.py', description=__doc__.split('\n')[0])
    parser.add_argument('work_dir', help='of a training; the newest log in it is read')
    return parser


def work(args: argparse.Namespace, session) -> None:
    from benchmarks.measure.loader_wait import find_log, read_waits
    from benchmarks.measure.tables import markdown_table

    log = find_log(args.work_dir)
    rows = [
        [str(w.epoch), f'{1000 * w.data_time:.1f} ms', f'{1000 * w.time:.1f} ms', f'{w.share:.1%}']
        for w in read_waits(log)
    ]
    print(f'{log}\n\n{markdown_table(["epoch", "waiting", "step", "share"], rows)}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
