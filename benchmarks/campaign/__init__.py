"""Faults by the hundred: kills, wrong configs, broken files and long runs; see docs/reliability.md.

Its small data sets and models are those of the tests.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tests' / 'helpers'))
