"""Code of documentation pages and notebooks, run in the order in which a reader runs it.

The rule, as docs/index.md has it: a block titled ``Run by the tests`` is run; one titled ``Not run:
<why>`` is not; one without a title is read alone. Tools are called within this process, so that
the libraries are loaded once.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from programs import load_tool
from trainer import REPOSITORY, forget_runs

FENCE = re.compile(r'^( *)```(\w*) *([^\n`]*)\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
RUN = 'Run by the tests'
TITLE = re.compile(r'title="([^"]*)"')


class Block(NamedTuple):
    """A fenced block: its language, title (empty without one), text, and the line it begins on."""

    language: str
    title: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        title = TITLE.search(match[3])
        line = text.count('\n', 0, match.start()) + 1
        body = match[4].replace('\n' + match[1], '\n').removeprefix(match[1])
        found.append(Block(match[2], title[1] if title else '', body, line))
    return found


def cells_of(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(notebook.read_text())['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def commands_of(text: str) -> list[str]:
    """Command lines of a shell block, continued ones joined, without comments."""
    lines = text.replace('\\\n', ' ').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith('#')]


def run_python(text: str, names: dict, where: str) -> None:
    """Run a block among the names of those before it; the last line may be an expression."""
    tree = ast.parse(text, where)
    exec(compile(tree, where, 'exec'), names)


def run_shell(text: str, setenv: Callable[[str, str], None]) -> None:
    """Run a block of ``export A=b`` and ``python tools/x.py ...``, as bash splits its words."""
    for command in commands_of(text):
        if command.startswith('export '):
            for word in shlex.split(command)[1:]:
                setenv(*word.split('=', 1))
            continue
        expanded = subprocess.run(
            ['bash', '-c', f'printf "%s\\0" {command}'], capture_output=True, text=True, check=True
        )
        program, *words = expanded.stdout.split('\0')[:-1]
        assert program == 'python' and words[0].startswith('tools/'), command
        forget_runs()
        tool = load_tool(words[0].removeprefix('tools/').removesuffix('.py'))
        code = tool.main(words[1:])
        assert not code, f'{command} ended with exit code {code}'


def make_place(folder: Path) -> Path:
    """A folder that looks like the repository's, in which pages may leave data and runs."""
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(REPOSITORY / name)
    return folder


def run_page(page: Path, setenv: Callable[[str, str], None]) -> int:
    """Run a page's blocks; ``setenv`` gets what it exports. Returns how many were run."""
    names: dict = {'__name__': page.stem}
    chosen = [block for block in blocks_of(page) if block.title == RUN]
    for block in chosen:
        where = f'{page.name}:{block.line}'
        if block.language == 'python':
            run_python(block.text, names, where)
        else:
            assert block.language == 'bash', f'{where}: {block.language} cannot be run'
            run_shell(block.text, setenv)
    return len(chosen)
