"""A network as a graph of PyTorch, and whether what was made of it gives the same numbers."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from ..errors import ConfigError, UserError
from ..utils.files import check_writable, written_atomically
from .constants import fold_constants
from .graph_form import NO_RULES, Rules, graph_form
from .layout import NORMALISED, Layout
from .open_sizes import least_sides, one_size_parts

if TYPE_CHECKING:
    from .network import DeployedNetwork

# Largest difference of an output's values from PyTorch's, over its largest value.
TOLERANCE = 1e-4
LEAST_SIDE = 32  # of graphs for any size, where no backbone says what it needs
PIP = "pip install 'effvit-mm[export]'"

BATCH, *SIDES = 'batch', 'height', 'width'  # names of axes that may vary

Size = tuple[int, int]
Run = Callable[..., Sequence[np.ndarray]]  # images, and what a network takes besides


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


class Shapes(NamedTuple):
    """Sizes of images, in pixels.

    Attributes:
        size: Height and width that a graph is made with.
        least: It is to hold for all sizes from this side on; None where for ``size`` alone.
        single: It is for one image; else for any batch.
    """

    size: Size
    least: int | None
    single: bool = False


def check_size(size: Sequence[int] | None) -> Size:
    """Height and width of images, in pixels.

    Raises:
        ConfigError: They are not two sides in pixels.
    """
    if size is None or not isinstance(size, Sequence):
        given = '' if size is None else f'={size!r}'
        raise ConfigError(f'size{given}: height and width of the images are needed')
    if len(size) != 2 or not all(isinstance(n, int) and n >= 1 for n in size):
        text = ' '.join(map(str, size))
        raise ConfigError(f'size {text}: height and width of 1 or more are needed')
    return size[0], size[1]


def find_shapes(network: DeployedNetwork, size: Sequence[int], any_size: bool) -> Shapes:
    """The sizes of a graph; with ``any_size`` the given one is but an example.

    Raises:
        ConfigError: ``size`` is not two sides in pixels, or not what the preprocessing makes.
        ExportError: The network takes no images of this size, or its graphs hold for one alone.
    """
    size = check_size(size)
    place = next(network.parameters(), torch.empty(0)).device
    if place.type != 'cpu':
        raise ConfigError(f'{network.title} is on {place}: graphs are made on the CPU, model.cpu()')
    made = network.preprocessing and network.preprocessing.size
    if made and made != size and not any_size:
        raise ConfigError(
            f'size {size[0]} {size[1]}: the preprocessing makes images of {made[0]} x {made[1]}'
        )
    try:
        with torch.no_grad():
            outputs = network(noise(1, size, layout=network.layout))
    except (ValueError, RuntimeError) as error:  # the network, or PyTorch, knows what it can take
        raise ExportError(f'size {size[0]} {size[1]}: {error}') from error
    if not any_size:
        return Shapes(size, None)
    if parts := one_size_parts(network):
        raise ExportError(
            f'a graph of {" and ".join(parts)} holds for one image size alone: give that size, not '
            'any size'
        )
    # Backbones know what they need; of what lies behind them, maps must have two cells a side.
    own = least_sides(network)
    maps = [zip(size, m.shape[2:], strict=True) for m in outputs if m.ndim == 4]
    two_cells = (-(-side // cells) + 1 for sides in maps for side, cells in sides)
    least = max([*(own or [LEAST_SIDE]), *two_cells])
    return Shapes((max(size[0], least), max(size[1], least)), least)


def holds_for(network: DeployedNetwork, size: Size) -> bool:
    """Whether a graph of a network for any size would hold for this one."""
    if one_size_parts(network):
        return False
    return find_shapes(network, size, True).size == tuple(size)


@contextmanager
def replaced_when_right(path: Path, *suffixes: str) -> Iterator[Path]:
    """Give a file of this name in a folder of its own; where the block ends well it moves here.

    Libraries insist on their suffix, which a temporary name beside the target would not have.

    Args:
        path: The target.
        suffixes: Of files that are written with it, and move before it.
    """
    with TemporaryDirectory(prefix='effvit_mm_') as folder:
        made = Path(folder) / path.name
        yield made
        for suffix in (*suffixes, path.suffix):
            with written_atomically(path.with_suffix(suffix)) as temporary:
                shutil.move(made.with_suffix(suffix), temporary)


def trace(network: DeployedNetwork, shapes: Shapes) -> ExportedProgram:
    """The graph of a network; what depends on size and weights alone is a constant in it.

    Args:
        network: Deployed.
        shapes: What it is to hold for.

    Raises:
        ExportError: It cannot hold for the sizes that were asked for.
    """
    with _told(shapes):
        program = _first_program(network, shapes, NO_RULES)
        folded = fold_constants(program.module(check_guards=False))
        inputs = example(network, 1 if shapes.single else 2, shapes.size)
        return _export(folded, inputs, _open_axes(network, shapes))


def trace_for(
    convert: Callable[[ExportedProgram], fx.GraphModule],
    network: DeployedNetwork,
    shapes: Shapes,
    further: Rules,
) -> fx.GraphModule:
    """The same as a module of a converter's own operators, by a tracing less.

    Args:
        convert: What the converter makes of a program before anything else.
        network, shapes: As of :func:`trace`.
        further: Of :func:`graph_form`.

    Raises:
        ExportError: It cannot hold for the sizes that were asked for.
    """
    with _told(shapes):
        return fold_constants(convert(_first_program(network, shapes, further)))


@contextmanager
def _told(shapes: Shapes) -> Iterator[None]:
    """What cannot be traced as one line, without gradients."""
    try:
        with torch.no_grad():
            yield
    except Exception as error:  # of many kinds, where a network chooses its way by what it sees
        line = f'{type(error).__name__}: {str(error).strip()}'.split('\n')[0]
        if shapes.least is None:
            raise ExportError(f'torch.export cannot trace this network: {line}') from error
        raise ExportError(
            'the graph of this network holds for one image size alone: give that size, not any '
            f'size ({line})'
        ) from error


def _first_program(network: DeployedNetwork, shapes: Shapes, further: Rules) -> ExportedProgram:
    """The graph with all that depends on nothing but size and weights."""
    images, *rest = _open_axes(network, shapes)
    # What lies behind the images is one argument of the network's, `*further`.
    grouped = (images, tuple(rest)) if rest else (images,)
    # To torch.export, open sizes of one are special.
    inputs = example(network, 1 if shapes.single else 2, shapes.size)
    return _export(graph_form(network, further), inputs, grouped)


def _open_axes(network: DeployedNetwork, shapes: Shapes) -> tuple[dict[int, Dim], ...]:
    """The axes that may vary, of each input."""
    dims = {BATCH: Dim(BATCH), **{side: Dim(side, min=shapes.least) for side in SIDES}}
    return tuple(
        {axis: dims[name] for axis, name in names.items()}
        for names in axis_names(network, shapes).values()
    )


def axis_names(network: DeployedNetwork, shapes: Shapes) -> dict[str, dict[int, str]]:
    """Names of the axes that may vary, of each of a graph's inputs by its name."""
    batch = {} if shapes.single else {0: BATCH}
    sides = {}
    if shapes.least is not None:
        sides = dict(zip(network.layout.side_axes, SIDES, strict=True))
    return {'images': batch | sides, **dict.fromkeys(network.further_inputs(1), batch)}


def example(network: DeployedNetwork, batch: int, size: Size, seed: int = 0) -> tuple[Tensor, ...]:
    """All inputs of a network: images of noise, and what it takes besides."""
    further = network.further_inputs(batch, seed).values()
    return noise(batch, size, seed, network.layout), *further


def _export(module: nn.Module, inputs: tuple[Tensor, ...], open_axes: tuple) -> ExportedProgram:
    return torch.export.export(
        module,
        inputs,
        dynamic_shapes=open_axes,
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    )


def noise(batch: int, size: Sequence[int], seed: int = 0, layout: Layout = NORMALISED) -> Tensor:
    """Images of noise: normal, or pixels from 0 to 255."""
    shape, generator = layout.shape(batch, size), torch.Generator().manual_seed(seed)
    if layout == NORMALISED:
        return torch.randn(shape, generator=generator)
    return torch.randint(0, 256, shape, generator=generator, dtype=layout.dtype)


def compare(run: Run, network: DeployedNetwork, shapes: Shapes) -> list[Checked]:
    """Differences between what was written and the network, at other batches and sizes too.

    Of sizes one larger and one smaller are tried, and 224 x 224 (448 x 448 where that is too
    small), at which nothing is padded and position tables are not interpolated. Of a network that
    drops tokens some images may differ: see :attr:`DeployedNetwork.draws`.

    Args:
        run: Runs what was written.
        network: The deployed network.
        shapes: What it is to hold for.

    Raises:
        ExportError: A difference is above 1e-4.
    """
    (height, width), least, _ = shapes
    cases = [(2, shapes.size), (1, shapes.size), (3, shapes.size)]
    if least is not None:
        smaller, round_ = max(least, width * 3 // 4 - 5), 224 if least <= 224 else 448
        cases += [(2, (height * 5 // 4 + 3, width)), (1, (height, smaller)), (1, (round_, round_))]
    checks = []
    for batch, pixels in cases:
        check = Checked(batch, pixels, _largest_difference(run, network, batch, pixels))
        checks.append(check)
        if not check.difference <= TOLERANCE:
            raise ExportError(
                f'what was made differs from PyTorch by {check.difference:.1e} of the largest '
                f'value ({TOLERANCE:g} is allowed) for a batch of {batch} at {pixels[0]} x '
                f'{pixels[1]} pixels; nothing was written'
            )
    return checks


def _largest_difference(run: Run, network: DeployedNetwork, batch: int, pixels: Size) -> float:
    """Of images of noise; where several draws are allowed, of each place's best in the batch."""
    best = np.array(np.inf)
    for seed in range(1, 1 + network.draws):
        inputs = example(network, batch, pixels, seed)
        with torch.no_grad():
            want = [tensor.numpy() for tensor in network(*inputs)]
        got = run(*inputs)
        if network.draws == 1:
            return network.difference(got, want)
        places = [slice(place, place + 1) for place in range(batch)]
        pairs = [[[part[place] for part in side] for side in (got, want)] for place in places]
        best = np.minimum(best, [network.difference(*pair) for pair in pairs])
        if best.max() <= TOLERANCE:
            break
    return float(best.max())


def difference(actual: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Largest difference over the largest value, of the worst pair; infinite for other shapes."""
    if [a.shape for a in actual] != [b.shape for b in wanted]:
        return float('inf')
    pairs = zip(actual, wanted, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)
