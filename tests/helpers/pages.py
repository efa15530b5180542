"""Tables of the documentation, each row of which names what a test holds it to."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
DOCS = TESTS.parent / 'docs'


def table_rows(page: str, section: str) -> list[str]:
    """The first column of the table in a section of ``docs/<page>``."""
    text = (DOCS / page).read_text().partition(f'\n## {section}\n')[2].partition('\n## ')[0]
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [line.split('|')[1].strip() for line in lines[2:]]


def absent_tests(names: Iterable[str]) -> list[str]:
    """Those of ``test_file::test_name`` that there are not."""
    known = {}
    for name in names:
        file = name.partition('::')[0]
        if file not in known:
            path = TESTS / f'{file}.py'
            tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
            known[file] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    return [name for name in names if name.partition('::')[2] not in known[name.partition('::')[0]]]
