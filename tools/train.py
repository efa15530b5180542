#!/usr/bin/env python
"""Train a model from a config file: ``python tools/train.py configs/pslt/pslt-tiny_digits.py``."""

import os
import sys
from pathlib import Path

# Before torch is loaded. GNU OpenMP's threads wait for each other either spinning, which stops all
# of them as soon as a data loader's worker takes a core (50 times slower), or asleep, and waking up
# costs more than a small layer does. A short spin is faster than the default, without that risk.
os.environ.setdefault('GOMP_SPINCOUNT', '10000')


def main(argv: list[str] | None = None) -> int:
    """Run the training; returns the exit code."""
    from effvit_mm.openmm.cli import train

    return train(argv)


if __name__ == '__main__':
    # At the end: an installed effvit_mm is preferred, and tools/ cannot shadow any module.
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    try:
        code = main()
        from effvit_mm.openmm.ranks import leave

        leave(code)
    except KeyboardInterrupt:
        sys.exit(130)
