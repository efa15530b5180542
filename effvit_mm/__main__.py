"""``python -m effvit_mm`` is the command ``effvit-mm``."""

from __future__ import annotations

import os
import sys

if __name__ == '__main__':
    # Anew: some tools set what torch reads when it is loaded, and with the package it was.
    os.execv(sys.executable, [sys.executable, '-m', 'effvit_mm_command', *sys.argv[1:]])
