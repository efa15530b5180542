"""Packages of AOTInductor: machine code, for machines like this one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .graph import (
    Checked,
    ExportError,
    Size,
    check_target,
    compare,
    find_shapes,
    replaced_when_right,
    trace,
)
from .network import DeployedNetwork
from .program import as_run

COMPILERS = ('g++', 'clang++')


def export_package(
    network: DeployedNetwork, path: str | Path, size: Size, any_size: bool = False
) -> list[Checked]:
    """Write a package of AOTInductor.

    ``torch._inductor.aoti_load_package(path)`` loads it, in C++
    ``torch::inductor::AOTIModelPackageLoader``.

    Args:
        network: What to write.
        path: ``.pt2`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: There is no C++ compiler, the network cannot be exported so, or the file's
            numbers are not PyTorch's.
    """
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    path = check_target(path, '.pt2')
    check_compiler()
    shapes = find_shapes(network, size, any_size)
    graph = trace(network, shapes)
    with replaced_when_right(path) as made:
        aoti_compile_and_package(graph, package_path=str(made))
        return compare(as_run(aoti_load_package(str(made))), network, shapes)


def check_compiler() -> None:
    """Raise where AOTInductor has no C++ compiler to call."""
    named = os.environ.get('CXX')
    if not any(map(shutil.which, [named] if named else COMPILERS)):
        sought = f'CXX={named}' if named else ' or '.join(COMPILERS)
        raise ExportError(
            f'AOTInductor needs a C++ compiler, and {sought} was not found: install g++ (apt-get '
            'install g++), or name one in the environment variable CXX'
        )
