"""``python -m benchmarks.campaign PART --out DIR``: see docs/reliability.md."""

from __future__ import annotations

import argparse
import collections
import importlib
import sys
from pathlib import Path

from .trials import campaign, read

# Part -> trials of a whole campaign.
PARTS = {'configs': 2000, 'files': 2000, 'kills': 100, 'soak': 2}


def main(argv: list[str] | None = None) -> int:
    """Run a part, or all of them, and print what came out; exits with 1 where a fault was found."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.campaign', description=__doc__, allow_abbrev=False
    )
    parser.add_argument('part', choices=[*PARTS, 'all'])
    parser.add_argument('--out', type=Path, required=True, help='folder of the trials')
    parser.add_argument('--count', type=int, help='trials in all; default: the whole campaign')
    parser.add_argument('--seconds', type=float, default=float('inf'), help='end after so many')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    faults = 0
    for part in PARTS if args.part == 'all' else [args.part]:
        path = args.out.absolute() / f'{part}.jsonl'
        run = importlib.import_module(f'.{part}', __package__).Part(
            args.out.absolute() / part, args.seed
        )
        count = PARTS[part] if args.count is None else args.count
        for trial in campaign(path, args.seed, count, args.seconds, run):
            if not trial.good:
                print(f'{part} {trial.index} {trial.verdict}: {trial.case}: {trial.said}')
                sys.stdout.flush()
        done = read(path)
        faults += sum(not trial.good for trial in done)
        counted = collections.Counter(trial.verdict for trial in done)
        print(f'{part}: {len(done)} trials: {dict(counted)}')
    return min(faults, 1)


if __name__ == '__main__':
    sys.exit(main())
