"""Files that take pixels, in a process of their own.

Behind them mmdet's test loop was seen to crash Python, for a reason that is not found yet.
"""

import subprocess
import sys
from pathlib import Path


def test_in_a_process_of_its_own():
    checks = Path(__file__).parent / 'helpers' / 'preprocess_checks.py'
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', str(checks)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and ' passed' in done.stdout, done.stdout[-3000:]
