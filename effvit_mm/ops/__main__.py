"""``python -m effvit_mm.ops``: which backend serves which of mmcv's operators."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

from ..utils.closed_output import until_closed
from . import finder
from .finder import EXTENSION, REMEDY

COMPILED, MISSING = 'compiled mmcv', 'not available'


class Row(NamedTuple):
    """Operators of one file of ``mmcv.ops`` that one backend serves."""

    module: str
    operators: list[str]
    backend: str


def wanted_operators() -> dict[str, list[str]]:
    """Names that each file of ``mmcv.ops`` asks the compiled module for, read from its source.

    Raises:
        ModuleNotFoundError: if mmcv is not installed.
    """
    spec = importlib.util.find_spec('mmcv')
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError('mmcv is not installed', name='mmcv')
    folder = Path(next(iter(spec.submodule_search_locations)), 'ops')
    return {path.stem: names for path in sorted(folder.glob('*.py')) if (names := _asked_by(path))}


def rows() -> list[Row]:
    """The table, one row a file and backend."""
    spec = importlib.util.find_spec(EXTENSION)
    if spec is not None and spec.origin == finder.__name__:
        from .operators import OPERATORS

        backends = {name: operator.backend for name, operator in OPERATORS.items()}
    else:
        compiled = importlib.import_module(EXTENSION)
        backends = dict.fromkeys(dir(compiled), COMPILED)
    table = []
    for module, names in wanted_operators().items():
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(backends.get(name, MISSING), []).append(name)
        table += [Row(module, operators, backend) for backend, operators in groups.items()]
    return table


def main() -> int:
    """Print versions, table and remedy; the exit code."""
    print('  '.join(f'{name} {_version(*of)}' for name, of in _DISTRIBUTIONS.items()))
    try:
        table = rows()
    except ModuleNotFoundError as error:
        if error.name != 'mmcv':
            raise
        print("mmcv is not installed, so nothing asks for its operators: 'pip install onedl-mmcv'.")
        return 0
    table.sort(key=lambda row: (row.backend == MISSING, row.module))
    _show(table)
    if any(row.backend == MISSING for row in table):
        print(f'\n{MISSING}: raises NotImplementedError when called. {REMEDY}')
    return 0


_DISTRIBUTIONS = {
    'torch': ('torch',),
    'torchvision': ('torchvision',),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
}


def _version(*distributions: str) -> str:
    """Version of the first distribution that is installed."""
    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return '(not installed)'


def _asked_by(path: Path) -> list[str]:
    """The names in the calls ``load_ext('_ext', [...])`` of a source file."""
    return [
        name
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', None) == 'load_ext'
        for name in ast.literal_eval(node.args[1])
    ]


def _show(table: list[Row]) -> None:
    """Print the table, with rich if it is there."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ModuleNotFoundError:
        for row in table:
            print(f'{row.module:24} {row.backend:14} {", ".join(row.operators)}')
        return
    view = Table('mmcv.ops', 'backend')
    view.add_column('operators', overflow='fold')
    for module, operators, backend in table:
        view.add_row(module, backend, ', '.join(operators))
    Console().print(view)


if __name__ == '__main__':
    sys.exit(until_closed(main))
