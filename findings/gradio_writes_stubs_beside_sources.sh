#!/usr/bin/env bash
# gradio 6.31.0, Python 3.11, 2026-11-30.
#
# A class that inherits from one of gradio's components makes gradio write a file beside the source it
# stands in, as soon as it is defined: page.pyi beside page.py, a copy of the module with stubs in the
# class. Nothing says so; in a checkout it is an untracked file. Of what is written into the module
# later, only the class is brought up to date there, and type checkers and editors read page.pyi in the
# place of page.py: for them a new function is not there.
#
# Seen:
#   before: page.py
#   after: page.py page.pyi
#   a new function is in page.py: True, in page.pyi: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q gradio==6.31.0 >/dev/null 2>&1
mkdir "$work/project"
cd "$work/project"
export GRADIO_ANALYTICS_ENABLED=False
cat > page.py <<'PY'
import gradio


class Upload(gradio.Image):
    def preprocess(self, payload):
        return payload.path


def main():
    print('main')
PY
echo before: * | tee ../seen
PYTHONDONTWRITEBYTECODE=1 ../venv/bin/python -c 'import page'
echo after: * | tee -a ../seen
printf '\n\ndef later():\n    pass\n' >> page.py
PYTHONDONTWRITEBYTECODE=1 ../venv/bin/python -c 'import page'
../venv/bin/python - <<'PY' | tee -a ../seen
from pathlib import Path

inside = ['def later' in Path(name).read_text() for name in ('page.py', 'page.pyi')]
print(f'a new function is in page.py: {inside[0]}, in page.pyi: {inside[1]}')
PY
diff ../seen - <<'SEEN'
before: page.py
after: page.py page.pyi
a new function is in page.py: True, in page.pyi: False
SEEN
