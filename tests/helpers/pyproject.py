"""Our own pyproject.toml."""

from __future__ import annotations

from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings it
    import tomli as tomllib

FILE = Path(__file__).resolve().parents[2] / 'pyproject.toml'


def read_pyproject() -> dict:
    """Its tables."""
    return tomllib.loads(FILE.read_text())
