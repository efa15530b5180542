"""Packages of AOTInductor: machine code, for machines like this one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
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
from .layout import NORMALISED, PIXELS
from .network import DeployedNetwork
from .pixels import METADATA_KEY
from .sessions import check_further, check_images, reading

COMPILERS = ('g++', 'clang++')
# In a package's metadata: height and width that it was made for, what the network says of itself,
# what it takes behind images.
SIDES, ABOUT, FURTHER = 'sides', 'about', 'further'


def export_package(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    any_size: bool = False,
    single: bool = False,
) -> list[Checked]:
    """Write a package of AOTInductor.

    ``torch._inductor.aoti_load_package(path)`` loads it, in C++
    ``torch::inductor::AOTIModelPackageLoader``.

    Args:
        network: What to write.
        path: ``.pt2`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.
        single: A graph of one image instead of any batch.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: There is no C++ compiler, the network cannot be exported so, or the file's
            numbers are not PyTorch's.
    """
    from torch._inductor import aoti_compile_and_package

    path = check_target(path, '.pt2')
    check_compiler()
    shapes = find_shapes(network, size, any_size)._replace(single=single)
    graph = trace(network, shapes)
    with replaced_when_right(path) as made:
        sides = list(shapes.size) if shapes.least is None else [None, None]
        entries = {
            SIDES: sides,
            ABOUT: network.metadata(shapes.least),
            FURTHER: list(network.further_inputs(1)),
        }
        metadata = {key: json.dumps(value) for key, value in entries.items()}
        aoti_compile_and_package(
            graph,
            package_path=str(made),
            inductor_configs={'aot_inductor.metadata': metadata},
        )
        session = PackageSession(made)
        return compare(session if single else session.run_batch, network, shapes)


class PackageSession:
    """A package on the CPU: images to a list of arrays.

    Args:
        path: ``.pt2`` file that :func:`export_package` wrote. It holds machine code: open files of
            your own.
        precision: ``'fp32'``.
        **options: None; threads are PyTorch's.

    Raises:
        ConfigError: There are options; at call time, images that the file was not made for.
        ExportError: The file cannot be read.
    """

    def __init__(self, path: str | Path, precision: str = 'fp32', **options: Any) -> None:
        from torch._inductor import aoti_load_package

        self.checked(precision, options)
        self.path = Path(path)
        with reading(path):
            self.package = aoti_load_package(str(path))
            metadata = self.package.get_metadata()
            keys = SIDES, ABOUT, FURTHER
            self.sides, self.about, self.further = (json.loads(metadata[key]) for key in keys)
        self.layout = PIXELS if METADATA_KEY in self.about else NORMALISED

    @staticmethod
    def checked(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """No options: there are none."""
        if options:
            raise ConfigError(f'option {next(iter(options))}: inductor takes none')
        return {}

    def __call__(self, images: Tensor, *further: Tensor) -> list[np.ndarray]:
        # The package itself looks at no size.
        check_images(images, self.layout, self.sides, self.path)
        check_further(further, self.further, len(images), self.path)
        each = zip(*(tensor.split(1) for tensor in (images, *further)), strict=True)
        with torch.no_grad():
            parts = [self.package(*inputs) for inputs in each]
        return [torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True)]

    def run_batch(self, *inputs: Tensor) -> list[np.ndarray]:
        """The same by one run of a graph for any batch."""
        with torch.no_grad():
            return [tensor.numpy() for tensor in self.package(*inputs)]


def check_compiler() -> None:
    """Raise where AOTInductor has no C++ compiler to call."""
    named = os.environ.get('CXX')
    if not any(map(shutil.which, [named] if named else COMPILERS)):
        sought = f'CXX={named}' if named else ' or '.join(COMPILERS)
        raise ExportError(
            f'AOTInductor needs a C++ compiler, and {sought} was not found: install g++ (apt-get '
            'install g++), or name one in the environment variable CXX'
        )
