#!/usr/bin/env bash
# yapf 0.43.0 (which mmengine lays configs out with), Python 3.11, 2026-11-30.
#
# yapf keeps its grammars as pickles in the user's cache and means to write them atomically: into a
# temporary file, which then gets the final name. But the name is given before the file is closed,
# when all of the smaller one, 1.2 kB, still is in Python's buffer. So for a moment it is there, empty:
# of processes that import yapf at the same time on a machine where it was just installed (the
# package's grammar is newer then than any cache of before), some end in an EOFError, as ranks of a
# training do, or workers of a test run. A process that is killed in that moment leaves the empty
# file, and every import fails from then on, until somebody removes it.
#
# Seen:
#   bytes in the file as it gets its name: 0
#   in the end: some
#   import beside an empty one: EOFError: Ran out of input
#   once more: EOFError: Ran out of input
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q yapf==0.43.0 >/dev/null 2>&1
cd "$work"
export XDG_CACHE_HOME="$work/cache"
cat > look.py <<'PY'
import os
from pathlib import Path

rename = os.rename


def watched(source, target):
    if Path(target).name.startswith('PatternGrammar'):
        print('bytes in the file as it gets its name:', os.path.getsize(source))
    rename(source, target)


os.rename = watched
import yapf.yapflib.yapf_api  # noqa: E402, F401

(made,) = Path(os.environ['XDG_CACHE_HOME']).glob('YAPF/*/PatternGrammar*.pickle')
print('in the end:', 'some' if made.stat().st_size > 1000 else made.stat().st_size)
made.write_bytes(b'')
PY
{
    venv/bin/python look.py
    for when in 'import beside an empty one' 'once more'; do
        echo "$when: $(venv/bin/python -c 'import yapf.yapflib.yapf_api' 2>&1 | tail -1)"
    done
} | tee seen
diff seen - <<'SEEN'
bytes in the file as it gets its name: 0
in the end: some
import beside an empty one: EOFError: Ran out of input
once more: EOFError: Ran out of input
SEEN
