#!/usr/bin/env python
"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``."""

import os
import sys
from pathlib import Path

# Before torch is loaded. Compute threads that spin while they wait for each other hold the cores
# that the data loader's workers need: each step then takes up to fifty times as long.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')


def main(argv: list[str] | None = None) -> int:
    """Run the test; returns the exit code."""
    from effvit_mm.engine.cli import test

    return test(argv)


if __name__ == '__main__':
    # At the end: an installed effvit_mm is preferred, and tools/ cannot shadow any module.
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
