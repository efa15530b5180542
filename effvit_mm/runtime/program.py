"""PyTorch's own formats: programs of ``torch.export`` and packages of AOTInductor."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .graph import (
    Checked,
    ExportError,
    Run,
    Size,
    check_target,
    compare,
    find_shapes,
    replaced_when_right,
    trace,
)
from .source import Source

COMPILERS = ('g++', 'clang++')


def export_program(
    source: Source, path: str | Path, size: Size, any_size: bool = False
) -> list[Checked]:
    """Write a program of ``torch.export``; ``torch.export.load(path).module()`` runs it.

    Arguments and errors are those of :func:`export_onnx`; the file's suffix is ``.pt2``.
    """
    path = check_target(path, '.pt2')
    shapes = find_shapes(source.network, size, any_size)
    graph = trace(source.network, shapes)
    with replaced_when_right(path) as made:
        torch.export.save(graph, made, extra_files=source.metadata(shapes.least))
        return compare(_runner(torch.export.load(made).module()), source.network, shapes)


def export_package(
    source: Source, path: str | Path, size: Size, any_size: bool = False
) -> list[Checked]:
    """Write a package of AOTInductor: machine code, for machines like this one.

    ``torch._inductor.aoti_load_package(path)`` loads it, in C++
    ``torch::inductor::AOTIModelPackageLoader``. Arguments and errors are those of
    :func:`export_onnx`; the file's suffix is ``.pt2``.

    Raises:
        ExportError: Also where there is no C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    path = check_target(path, '.pt2')
    check_compiler()
    shapes = find_shapes(source.network, size, any_size)
    graph = trace(source.network, shapes)
    with replaced_when_right(path) as made:
        aoti_compile_and_package(graph, package_path=str(made))
        return compare(_runner(aoti_load_package(str(made))), source.network, shapes)


def check_compiler() -> None:
    """Raise where AOTInductor has no C++ compiler to call."""
    named = os.environ.get('CXX')
    if not any(map(shutil.which, [named] if named else COMPILERS)):
        sought = f'CXX={named}' if named else ' or '.join(COMPILERS)
        raise ExportError(
            f'AOTInductor needs a C++ compiler, and {sought} was not found: install g++ (apt-get '
            'install g++), or name one in the environment variable CXX'
        )


def _runner(module: nn.Module) -> Run:
    def run(images: Tensor) -> list[np.ndarray]:
        with torch.no_grad():
            return [tensor.numpy() for tensor in module(images)]

    return run
