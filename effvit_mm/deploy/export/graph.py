"""A network as a graph of PyTorch, and whether what was made of it gives the same numbers."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ...attention.sizes import is_open
from ...engine.files import check_writable, written_atomically
from ...errors import ConfigError, UserError

# Largest difference of an output's values from PyTorch's, over its largest value.
TOLERANCE = 1e-4
LEAST_SIDE = 32
AXES = {0: 'batch', 2: 'height', 3: 'width'}  # those of the images that may vary
PIP = "pip install 'effvit-mm[export]'"

Size = tuple[int, int]
Run = Callable[[Tensor], Sequence[np.ndarray]]


class ExportError(UserError):
    """A network cannot be exported as asked, or what came out is wrong."""


class Checked(NamedTuple):
    """A comparison with PyTorch.

    Attributes:
        batch, size: Of the images.
        difference: Largest difference, over the largest value, of the worst of the outputs.
    """

    batch: int
    size: Size
    difference: float


def need(name: str) -> ModuleType:
    """A package of the extra ``export``.

    Raises:
        ExportError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(f'the package {name} is missing ({error}): {PIP}') from error


def check_target(path: str | Path, suffix: str) -> Path:
    """The file to write, its folder made.

    Raises:
        ConfigError: It has another suffix, or the folder cannot be written.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ConfigError(f'--out {path}: a name ending in {suffix} is needed')
    if path.is_dir():
        raise ConfigError(f'--out {path}: it is a folder')
    check_writable(path.parent, f'--out {path}')
    return path


def check_size(size: Sequence[int]) -> Size:
    """(H, W) in pixels.

    Raises:
        ConfigError: They are not two sides of 32 pixels or more.
    """
    if len(size) != 2 or not all(isinstance(n, int) and n >= LEAST_SIDE for n in size):
        text = ' '.join(map(str, size))
        raise ConfigError(f'--shape {text}: height and width of {LEAST_SIDE} or more are needed')
    return size[0], size[1]


@contextmanager
def replaced_when_right(path: Path) -> Iterator[Path]:
    """Give a file of this name in a folder of its own; where the block ends well it moves here.

    Libraries insist on their suffix, which a temporary name beside the target would not have.
    """
    with TemporaryDirectory(prefix='effvit_mm_') as folder:
        made = Path(folder) / path.name
        yield made
        with written_atomically(path) as temporary:
            shutil.move(made, temporary)


def trace(network: nn.Module, size: Size, any_size: bool = False) -> ExportedProgram:
    """The graph of a network for any batch, and with ``any_size`` for images of any size.

    Raises:
        ExportError: The network takes no images of this size, or its graph holds for one alone.
    """
    if any_size and (parts := one_size_parts(network)):
        raise ExportError(
            f'a graph of {" and ".join(parts)} holds for one image size alone: give it with '
            '--shape and leave out --any-size'
        )
    # A batch of two: sizes of one are special to torch.export.
    images = noise(2, size)
    try:
        with torch.no_grad():
            network(images)
    except ValueError as error:  # of the network, which knows what it can take
        raise ExportError(f'--shape {size[0]} {size[1]}: {error}') from error
    open_sizes = {0: Dim(AXES[0])}
    if any_size:
        least = least_side(network, size)
        if min(size) < least:
            raise ExportError(
                f'--shape {size[0]} {size[1]}: with --any-size {least} or more pixels are needed: '
                'no map of the network may be a single cell wide'
            )
        open_sizes |= {axis: Dim(AXES[axis], min=least) for axis in (2, 3)}
    try:
        with torch.no_grad():
            return torch.export.export(
                network,
                (images,),
                dynamic_shapes=(open_sizes,),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # of many kinds, where a network chooses its way by the size
        if not any_size:
            raise
        line = str(error).strip().split('\n')[0]
        raise ExportError(
            'the graph of this network holds for one image size alone: give it with --shape and '
            f'leave out --any-size ({type(error).__name__}: {line})'
        ) from error


def open_axes(graph: ExportedProgram) -> dict[int, str]:
    """Names of the axes of the images that vary."""
    (name,) = graph.graph_signature.user_inputs
    (images,) = (node.meta['val'] for node in graph.graph.nodes if node.name == name)
    return {axis: text for axis, text in AXES.items() if is_open(images.shape[axis])}


def least_side(network: nn.Module, size: Size) -> int:
    """The smallest image side of a graph for any size, in pixels.

    To torch.export sizes of one are special: all maps need two cells a side. Sizes of maps round
    up, but for strides of no whole number of pixels (CrossViT), which round either way.
    """
    with torch.no_grad():
        maps = [found for found in network(noise(1, size)) if found.ndim == 4]
    strides = [
        -(-side // cells) for m in maps for side, cells in zip(size, m.shape[2:], strict=True)
    ]
    for module in network.modules():
        strides += getattr(module, 'stage_strides', ())
    least = [getattr(module, 'min_size', 0) for module in network.modules()]
    two_cells = [int(n) + 1 if n == int(n) else 2 * (int(n) + 1) for n in strides]
    return max(LEAST_SIDE, *least, *two_cells)


def one_size_parts(network: nn.Module) -> list[str]:
    """Classes of the parts whose graphs hold for one image size alone."""
    parts = (m for m in network.modules() if not getattr(m, 'traces_any_size', True))
    return sorted({type(part).__name__ for part in parts})


def noise(batch: int, size: Size, seed: int = 0) -> Tensor:
    """Images of normalised noise: ``(batch, 3, H, W)``."""
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def compare(run: Run, network: nn.Module, size: Size, any_size: bool = False) -> list[Checked]:
    """Differences between what was written and the network, at other batches and sizes too.

    Args:
        run: Runs what was written.
        network: The deployed network.
        size: Height and width that it was traced with.
        any_size: It is to hold for others: one larger and one smaller are tried, and 224 x 224, at
            which position tables are no longer interpolated.

    Raises:
        ExportError: A difference is above 1e-4.
    """
    height, width = size
    cases = [(2, size), (1, size), (3, size)]
    if any_size:
        smaller = max(least_side(network, size), width * 3 // 4 - 5)
        cases += [(2, (height * 5 // 4 + 3, width)), (1, (height, smaller)), (1, (224, 224))]
    found = []
    for batch, pixels in cases:
        images = noise(batch, pixels, seed=1)
        with torch.no_grad():
            want = [tensor.numpy() for tensor in network(images)]
        found.append(Checked(batch, pixels, difference(run(images), want)))
        if not found[-1].difference <= TOLERANCE:
            raise ExportError(
                f'what was made differs from PyTorch by {found[-1].difference:.1e} of the largest '
                f'value ({TOLERANCE:g} is allowed) for a batch of {batch} at {pixels[0]} x '
                f'{pixels[1]} pixels; nothing was written'
            )
    return found


def difference(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Largest difference over the largest value, of the worst pair; infinite for other shapes."""
    if [a.shape for a in found] != [b.shape for b in wanted]:
        return float('inf')
    pairs = zip(found, wanted, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
