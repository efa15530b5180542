#!/usr/bin/env bash
# onedl-mmengine 0.10.12, yapf 0.43.0, torch 2.13.0, Python 3.11, 2026-11-29.
#
# Config.pretty_text formats its text by yapf within a bare `except:`, which raises SyntaxError for
# whatever happens, KeyboardInterrupt and a signal handler's own exception included: the user reads
# that the config has a syntax error, with all of its text, and the exit code is 1. It is no rare
# moment: CheckpointHook writes pretty_text into every checkpoint, and formatting can take longer than
# saving a small model, so Ctrl-C in a short training hits it often
# (2 of 4 tries). What was meant is in the error's __context__.
#
# Seen (an exception of a signal's handler while pretty_text is formatted):
#   KeyboardInterrupt: SyntaxError: Failed to format the config file, in handling KeyboardInterrupt
#   SystemExit: SyntaxError: Failed to format the config file, in handling SystemExit
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 onedl-mmengine==0.10.12 yapf==0.43.0 numpy==2.3.5 \
    >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import signal

from mmengine.config import Config

layers = [{'type': 'Conv2d', 'in_channels': n, 'out_channels': n} for n in range(400)]
config = Config({'model': {'layers': layers}})
for kind in (KeyboardInterrupt, SystemExit):

    def handler(number, frame, kind=kind):
        raise kind

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        config.pretty_text
        seen = 'nothing: it was formatted before the signal came'
    except BaseException as error:
        start = str(error).split(',')[0]
        behind = type(error.__context__).__name__
        seen = f'{type(error).__name__}: {start}, in handling {behind}'
    print(f'{kind.__name__}: {seen}')
PY
venv/bin/python look.py | tee seen
diff seen - <<'SEEN'
KeyboardInterrupt: SyntaxError: Failed to format the config file, in handling KeyboardInterrupt
SystemExit: SyntaxError: Failed to format the config file, in handling SystemExit
SEEN
