"""No code runs from data: every reader of files in the package and in the tools, by its calls."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    'pickle', 'cPickle', '_pickle', 'dill', 'cloudpickle', 'joblib', 'marshal', 'shelve',
)  # fmt: skip
# What runs, or can be made to run, what it reads; writers (dump, dumps, save, safe_dump) do not.
RUNS = {
    *(f'{module}.{name}' for module in MODULES for name in ('load', 'loads', 'Unpickler', 'open')),
    *(f'yaml.{name}' for name in ('load', 'load_all', 'unsafe_load', 'full_load')),
    'eval', 'exec', 'compile', '__import__', 'runpy.run_path', 'pandas.read_pickle',
    'torch.jit.load', 'torch.hub.load', 'torch.package.PackageImporter', 'torch.export.load',
    'torch._inductor.aoti_load_package', 'numpy.core.multiarray.fromstring',
    'mmengine.load', 'mmengine.fileio.load', 'mmengine.Config.fromfile',
    'mmengine.config.Config.fromfile', 'mmengine.config.Config.fromstring',
}  # fmt: skip
# Safe with this argument alone.
ASKED = {'torch.load': ('weights_only', True), 'numpy.load': ('allow_pickle', False)}
# Where one stands all the same, and why.
ALLOWED = {
    ('effvit_mm/weights/checkpoint.py', 'torch.load'): 'trust=True, --trust-checkpoint',
    ('effvit_mm/openmm/engine/predictions.py', 'pickle.loads'): '--trust-pickle',
    ('effvit_mm/openmm/config/loading.py', 'mmengine.config.Config.fromfile'): 'configs: programs',
    ('effvit_mm/openmm/config/source.py', 'mmengine.config.Config.fromfile'): 'configs: programs',
    ('effvit_mm/runtime/program.py', 'torch.export.load'): 'the file that was just written',
    ('effvit_mm/runtime/aoti.py', 'torch._inductor.aoti_load_package'): '.pt2: machine code',
    ('effvit_mm/utils/scripts.py', 'runpy.run_path'): 'a script that the user names',
}


def names_of(tree: ast.Module) -> dict[str, str]:
    """What the names of a module stand for, imports within functions too: ``np`` for ``numpy``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition('.')[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            module = '.' * node.level + (node.module or '')
            for alias in node.names:
                names[alias.asname or alias.name] = f'{module}.{alias.name}'
    return names


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an attribute; ``''`` of what is none."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ''
    return f'{inner}.{node.attr}' if inner else ''


def dangerous(source: str) -> Iterator[str]:
    """The readers that a module's source calls, or hands on, and that run what they read."""
    tree = ast.parse(source)
    names = names_of(tree)
    arguments = {id(n.func): n.keywords for n in ast.walk(tree) if isinstance(n, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        first, _, rest = dotted(node).partition('.')
        if rest and first not in names:
            continue  # a method of some object
        whole = names.get(first, first) + (f'.{rest}' if rest else '')
        if whole in RUNS:
            yield whole
        elif whole in ASKED:
            key, needed = ASKED[whole]
            given = [k.value for k in arguments.get(id(node), []) if k.arg == key]
            if not any(isinstance(v, ast.Constant) and v.value is needed for v in given):
                yield whole


def test_no_reader_runs_what_it_reads():
    found = {
        (path.relative_to(ROOT).as_posix(), call)
        for folder in ('effvit_mm', 'tools')
        for path in sorted((ROOT / folder).rglob('*.py'))
        if '.mim' not in path.parts
        for call in dangerous(path.read_text())
    }
    assert found - ALLOWED.keys() == set()
    assert ALLOWED.keys() - found == set(), 'ALLOWED is to shrink'


@pytest.mark.parametrize(
    'source',
    [
        'import pickle\npickle.loads(b"")',
        'from pickle import load as read\nread(f)',
        'def f():\n    import pickle as p\n    return p.Unpickler(f)',
        'import yaml\nyaml.load(f, Loader=yaml.SafeLoader)',
        'import torch\ntorch.load(f)',
        'import torch\ntorch.load(f, weights_only=not trust)',
        'import torch\nread = torch.load',
        'from torch import load\nload(f, weights_only=False)',
        'import numpy as np\nnp.load(f, allow_pickle=True)',
        'import numpy as np\nnp.load(f)',
        'eval(text)',
        'list(map(eval, rows))',
        'import torch.jit\ntorch.jit.load(f)',
    ],
)
def test_a_dangerous_reader_is_seen(source):
    assert list(dangerous(source))


@pytest.mark.parametrize(
    'source',
    [
        'import torch\ntorch.load(f, weights_only=True)',
        'import numpy as np\nnp.load(f, allow_pickle=False)',
        'import pickle\npickle.dumps(1)',
        'import yaml\nyaml.safe_load(f)',
        'model.eval()',
        'import re\nre.compile("")',
        'from .runtime import compile\n',
    ],
)
def test_a_safe_reader_is_passed(source):
    assert not list(dangerous(source))
