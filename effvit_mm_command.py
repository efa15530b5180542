"""The command ``effvit-mm``: ``effvit-mm train CONFIG`` is ``python tools/train.py CONFIG``.

Its commands are the programs in ``tools/``, found by their files. It stands outside the package and
imports nothing of it: some tools set up the environment that torch reads when it is loaded.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import runpy
import sys
from pathlib import Path

SHORT = {'search': 'person-search'}
USAGE = 'usage: effvit-mm COMMAND ...    (effvit-mm COMMAND --help: its arguments)'
EXIT_USER_ERROR = 2
running = ''  # what the program's help calls it, as 'effvit-mm train'


def package_folder() -> Path:
    """The folder of the package, which is not imported."""
    spec = importlib.util.find_spec('effvit_mm')
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'effvit_mm'", name='effvit_mm')
    return Path(spec.origin).parent


def tools_folder() -> Path:
    """Where the tools are: in the installed package, or beside it in a checkout."""
    package = package_folder()
    inside = package / '.mim' / 'tools'
    return inside if inside.is_dir() else package.parent / 'tools'


def commands(folder: Path) -> dict[str, Path]:
    """``{'train': .../train.py, 'get-flops': .../analysis_tools/get_flops.py, ...}``.

    Where two have a name, their folders' first words are added: ``convert-dataset``.
    """
    files = [*sorted(folder.glob('*.py')), *sorted(folder.glob('*/*.py'))]
    stems = [file.stem for file in files]
    table = {}
    for file in files:
        twice = stems.count(file.stem) > 1
        name = f'{file.stem}_{file.parent.name.split("_")[0]}' if twice else file.stem
        table[name.replace('_', '-')] = file
    return table


def describe(table: dict[str, Path]) -> str:
    """The help: each command and the first line of its program."""
    width = max(map(len, table))
    lines = [USAGE, '']
    for name, file in table.items():
        text = ast.get_docstring(ast.parse(file.read_text(encoding='utf-8'))) or ''
        short = ''.join(f' (or: {key})' for key, value in SHORT.items() if value == name)
        lines.append(f'  {name:{width}}  {text.partition(chr(10))[0].partition(": ``")[0]}{short}')
    return '\n'.join([*lines, '', '  --version  print the version'])


def version() -> str:
    """The version of the package that is run."""
    text = (package_folder() / 'version.py').read_text(encoding='utf-8')
    return text.split("'")[1]


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code, or leaves as its program does."""
    argv = sys.argv[1:] if argv is None else argv
    table = commands(tools_folder())
    if not argv or argv[0] in ('-h', '--help', 'help'):
        print(describe(table))
        return 0 if argv else EXIT_USER_ERROR
    if argv[0] == '--version':
        print(f'effvit-mm {version()}')
        return 0
    name = SHORT.get(argv[0], argv[0]).replace('_', '-')
    if name not in table:
        near = difflib.get_close_matches(name, [*table, *SHORT], n=1)
        hint = f'did you mean {near[0]!r}?' if near else 'effvit-mm --help lists all'
        print(f'error: effvit-mm has no command {argv[0]!r}; {hint}', file=sys.stderr)
        return EXIT_USER_ERROR
    global running
    running = f'effvit-mm {name}'
    # As `python FILE`: the program takes what follows, and its own folder off the path.
    sys.argv = [str(table[name]), *argv[1:]]
    sys.path.insert(0, str(table[name].parent))
    runpy.run_path(str(table[name]), run_name='__main__')
    return 0


if __name__ == '__main__':
    sys.modules['effvit_mm_command'] = sys.modules['__main__']
    sys.exit(main())
