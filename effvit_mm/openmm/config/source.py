"""The files that a config is made of, and reading them with names set to other values.

A name of a config file, as ``train_pipeline`` or ``image_size``, is used up when the file is read:
what was made with it stays as it is when the name is changed afterwards. So the files are read
again, with the other value behind the assignment.
"""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config


class Edit(NamedTuple):
    """A statement that goes behind the assignments of a name in a file."""

    name: str
    statement: str
    # Behind the last assignment alone: what changes a part needs the whole.
    last: bool


@dataclass
class ConfigFile:
    """A config file and those it is derived from.

    ``bound`` are the names that it assigns, ``used`` those it reads, of its bases as well.
    """

    path: Path
    tree: ast.Module
    bases: list[ConfigFile | str]
    bound: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def files(self) -> Iterator[ConfigFile]:
        """This file and all below it."""
        yield self
        for base in self.bases:
            if isinstance(base, ConfigFile):
                yield from base.files()

    def assignments(self, name: str, used_above: bool = False) -> Iterator[ConfigFile]:
        """The files whose assignments of a name tell what is made with it, the nearest first.

        A file that reads what it assigns speaks for itself; where it does not, and none that is
        derived from it does, the assignment can only be meant for its bases.
        """
        used = used_above or name in self.used
        if name in self.bound:
            yield self
            if used:
                return
        for base in self.bases:
            if isinstance(base, ConfigFile):
                yield from base.assignments(name, used)


def read_files(path: str | Path) -> ConfigFile | None:
    """The files of a config that is Python all through its own folders; None of another.

    Bases of packages (``mmdet::...``) and in other formats are left as names.
    """
    path = Path(os.path.abspath(path))
    if path.suffix != '.py':
        return None
    text = path.read_text(encoding='utf-8')
    for name, value in (
        ('fileDirname', path.parent),
        ('fileBasename', path.name),
        ('fileBasenameNoExtension', path.stem),
        ('fileExtname', path.suffix),
    ):
        text = re.sub(r'\{\{\s*' + name + r'\s*\}\}', lambda _, v=value: str(v), text)
    tree = ast.parse(text)
    try:
        bases = [_read_base(path, base) for base in _bases(tree)]
    except ValueError:  # a base that is computed
        return None
    file = ConfigFile(path, tree, bases)
    for statement in tree.body:
        file.bound |= _bound(statement)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            file.used.add(node.id)
        elif isinstance(node, ast.Attribute) and getattr(node.value, 'id', None) == '_base_':
            file.used.add(node.attr)
    return file


def _read_base(path: Path, base: str) -> ConfigFile | str:
    if '::' in base:
        return base
    return read_files(path.parent / base) or str((path.parent / base).absolute())


def _bases(tree: ast.Module) -> list[str]:
    """Paths, relative to the file's folder or absolute, or names within packages."""
    for node in tree.body:
        if _is_base(node):
            value = ast.literal_eval(node.value)
            return [value] if isinstance(value, str) else list(value)
    return [
        '../' * (line.level - 1) + (line.module or '').replace('.', '/') + '.py'
        for line in _read_base_lines(tree)
    ]


def _is_base(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == '_base_'


def _read_base_lines(tree: ast.Module) -> list[ast.ImportFrom]:
    """``from .file import *`` below ``with read_base():``, packages' files left out."""
    blocks = [node for node in tree.body if isinstance(node, ast.With)]
    lines = [line for block in blocks for line in block.body]
    return [line for line in lines if isinstance(line, ast.ImportFrom) and line.level]


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef) or _is_base(statement):
        return set()
    names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def read_edited(root: ConfigFile, edits: Sequence[tuple[ConfigFile, Edit]]) -> Config:
    """The config with statements behind assignments of its files.

    Raises whatever the files raise with them.
    """
    with tempfile.TemporaryDirectory() as folder:
        name = _write(root, Path(folder), edits, 0)[0]
        cfg = Config.fromfile(str(Path(folder) / name))
    object.__setattr__(cfg, '_filename', str(root.path))  # a Config's attributes are its keys
    return cfg


def _write(
    file: ConfigFile, folder: Path, edits: Sequence[tuple[ConfigFile, Edit]], count: int
) -> tuple[str, int]:
    """Write a file and its bases beside each other; gives its name and how many there are."""
    name, count = f'file_{count}.py', count + 1
    bases = []
    for base in file.bases:
        if isinstance(base, ConfigFile):
            base, count = _write(base, folder, edits, count)
        bases.append(base)
    tree = ast.parse(ast.unparse(file.tree))  # a copy
    for node in tree.body:
        if _is_base(node):
            node.value = ast.List([ast.Constant(base) for base in bases], ast.Load())
    for line, base in zip(_read_base_lines(tree), bases, strict=False):
        line.level, line.module = 1, Path(base).stem
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == '__file__':
            node.id = repr(str(file.path))  # written as it is
    for edit in (edit for owner, edit in edits if owner is file):
        _insert(tree, edit)
    (folder / name).write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding='utf-8')
    return name, count


def _insert(tree: ast.Module, edit: Edit) -> None:
    """Put the statement behind those that assign the name, and behind edits made before."""
    places = [index for index, node in enumerate(tree.body) if edit.name in _bound(node)]
    for index in reversed(places[-1:] if edit.last else places):
        while (
            index + 1 < len(tree.body) and getattr(tree.body[index + 1], 'edited', '') == edit.name
        ):
            index += 1
        for node in ast.parse(edit.statement).body:
            node.edited = edit.name
            tree.body.insert(index + 1, node)
