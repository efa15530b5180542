"""The import hook that answers for ``mmcv._ext`` when no compiled one exists."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

EXTENSION = 'mmcv._ext'

REMEDY = """\
An mmcv with compiled operators has it, and effvit_mm then uses that one. First
    pip uninstall -y onedl-mmcv
then either take OneDL's wheel, if your torch and Python have one (https://mmwheels.onedl.ai):
    pip install -U onedl-mim && mim install onedl-mmcv
or compile (some 25 CPU minutes; torch below 2.13; FORCE_CUDA=1 compiles for CUDA without a GPU):
    pip install --no-build-isolation --no-binary onedl-mmcv onedl-mmcv"""


class StandInLoader(importlib.abc.Loader):
    """Fills the module ``mmcv._ext`` with the operators of :mod:`effvit_mm.ops`."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Ask for the default module object."""
        return

    def exec_module(self, module: ModuleType) -> None:
        """Set every operator; names that are not covered resolve to one that raises."""
        from .operators import OPERATORS

        module.__doc__ = "Stand-in for mmcv's compiled operators, made by effvit_mm.ops."
        for name, operator in OPERATORS.items():
            setattr(module, name, operator.function)
        module.__dict__['__getattr__'] = _uncovered


class StandInFinder(importlib.abc.MetaPathFinder):
    """Finds ``mmcv._ext`` and no other module.

    It stands last in ``sys.meta_path``, so it is asked only after the usual finders have found
    no such file.
    """

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of the stand-in if ``fullname`` is ``mmcv._ext``, else None."""
        if fullname != EXTENSION:
            return None
        return importlib.machinery.ModuleSpec(fullname, StandInLoader(), origin=__name__)


def install() -> None:
    """Make ``mmcv._ext`` importable; calling it again changes nothing."""
    if any(_is_ours(finder) for finder in sys.meta_path):
        return
    if 'mmdet.models' in sys.modules and EXTENSION not in sys.modules:
        warnings.warn(
            'mmdet was imported before effvit_mm, without a compiled mmcv: it has replaced the '
            "operators that it did not find with functions that raise. Put 'import effvit_mm' "
            'before the first import of mmdet.',
            stacklevel=2,
        )
    sys.meta_path.append(StandInFinder())


def _is_ours(finder: object) -> bool:
    """By name, so that reloading this module does not add a second finder."""
    kind = type(finder)
    return (kind.__module__, kind.__qualname__) == (__name__, StandInFinder.__qualname__)


def _uncovered(name: str) -> Callable[..., Any]:
    """Module ``__getattr__`` of the stand-in: an operator that says how to get the real one."""
    if name.startswith('_'):
        raise AttributeError(f'module {EXTENSION!r} has no attribute {name!r}')

    def operator(*args: Any, **kwargs: Any) -> None:
        raise NotImplementedError(
            f"mmcv's operator {name!r} needs compiled code: effvit_mm.ops does not cover it.\n"
            f'{REMEDY}'
        )

    operator.__name__ = operator.__qualname__ = name
    return operator
