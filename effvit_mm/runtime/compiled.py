"""Networks compiled for a runtime: called as the network is, run by OpenVINO or another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..utils.files import check_writable
from .cache import default_folder, entry_key, find_or_make
from .graph import Size, check_size, find_shapes, holds_for, need, noise
from .network import DeployedNetwork
from .pixels import METADATA_KEY, Photograph, Preprocessing
from .sessions import Session, check_images
from .table import RUNTIMES

NAMES = ('torch', *RUNTIMES)
TORCH_PRECISIONS = ('fp32', 'bf16')


class CompiledNetwork(nn.Module):
    """A network that another runtime computes: for inference, on the CPU.

    Args:
        session: An opened file.
        structure: What the network returns, a ``None`` in the place of each tensor; a tuple is
            ``{'tuple': [...]}``. None alone is one tensor, or a flat tuple of as many as there are.
        runtime: Name of the runtime.

    Shapes:
        ``(B, 3, H, W)``, normalised, float32, any B, to what the network itself returns: logits, a
        tuple of maps, nested sequences of them; on the device of the images. A file with its
        preprocessing takes ``(B, H, W, 3)``, BGR, uint8: see :meth:`read`. A whole detector's takes
        ``shown`` behind them: ``(B, 2)``, height and width of what each image shows.
    """

    def __init__(self, session: Session, structure: Any, runtime: str) -> None:
        super().__init__()
        self.session, self.structure, self.runtime = session, structure, runtime

    def forward(self, images: Tensor, *further: Tensor) -> Any:
        arrays = self.session(*(t.detach().cpu().contiguous() for t in (images, *further)))
        tensors = [torch.from_numpy(array).to(images.device) for array in arrays]
        if self.structure is None:
            return tensors[0] if len(tensors) == 1 else tuple(tensors)
        return _filled(self.structure, iter(tensors))

    def read(self, photographs: Photograph | Sequence[Photograph]) -> Tensor:
        """Photographs as a file with its preprocessing takes them, as the test pipeline gives them.

        Args:
            photographs: Image files, or arrays as OpenCV reads them: ``(H, W, 3)`` uint8, BGR, of
                any size; or one of these.

        Returns:
            ``(B, H, W, 3)`` uint8, BGR.

        Raises:
            ConfigError: The file is without preprocessing, or what comes out is of several sizes.
            DataError: A photograph cannot be read.

        Example::

            network = effvit_mm.open_compiled('model.onnx')
            logits = network(network.read(['a.jpg', 'b.jpg']))
        """
        text = self.session.about.get(METADATA_KEY)
        if text is None:
            raise ConfigError(
                f'{self.session.path} takes normalised images: it was made without --preprocess'
            )
        return Preprocessing.from_json(text).read(photographs)

    def extra_repr(self) -> str:
        return f'runtime={self.runtime!r}'


class DeployedInPyTorch(nn.Module):
    """A deployed network, called as the network itself is: the runtime ``'torch'``."""

    def __init__(self, network: DeployedNetwork, precision: str) -> None:
        super().__init__()
        self.network, self.precision, self.runtime = network, precision, 'torch'

    def forward(self, images: Tensor) -> Any:
        bf16 = self.precision == 'bf16'
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            return self.network.call(images)


class CompiledBySize(nn.Module):
    """A network that is compiled for the sizes of images as they come.

    The first size gets a graph of its own; further ones share a graph for any size where the
    network allows one, else each gets its own.

    Args:
        network: In its deployed form.
        **settings: Of :func:`compile`, but for sizes.
    """

    def __init__(self, network: DeployedNetwork, **settings: Any) -> None:
        super().__init__()
        self.network, self.settings = network, settings
        self.runtime: str = settings['runtime']
        self.of_size: dict[Size, CompiledNetwork] = {}
        self.of_any: CompiledNetwork | None = None

    def forward(self, images: Tensor) -> Any:
        size = check_images(images, self.network.layout, (None, None), self.network.title)
        if size not in self.of_size:
            self.of_size[size] = self._find(size)
        return self.of_size[size](images)

    def _find(self, size: Size) -> CompiledNetwork:
        """What images of a further size are run by."""
        if not self.of_size or not holds_for(self.network, size):
            return _compiled(self.network, size, False, **self.settings)
        if self.of_any is None:
            self.of_any = _compiled(self.network, size, True, **self.settings)
        return self.of_any


def compile(
    model: nn.Module,
    runtime: str = 'openvino',
    size: Sequence[int] | None = None,
    any_size: bool = False,
    precision: str = 'fp32',
    cache: str | Path | None = None,
    **options: Any,
) -> nn.Module:
    """A network as a runtime computes it, in its deployed form: for inference on the CPU.

    What it takes to convert a network (seconds to a minute) is spent once: the compiled file is
    compared with PyTorch, kept, and found again by the network's weights, code and options, sizes,
    precision and the versions of the packages. Batches are run image by image, several at the same
    time.

    Args:
        model: Of :func:`effvit_mm.create_model` or any other that maps images to tensors; it is
            left as it is.
        runtime: ``'openvino'``, ``'onnxruntime'``, ``'inductor'`` (which needs a C++ compiler), or
            ``'torch'``, the deployed network in PyTorch itself.
        size: Height and width of the images, in pixels. None: those of the images that come, for
            which it is compiled when they do.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.
        precision: ``'fp32'``; of OpenVINO and PyTorch also ``'bf16'``.
        cache: Folder of the compiled files; None: ``$XDG_CACHE_HOME/effvit_mm/compiled``.
        **options: Of the runtime, by its own names: ``INFERENCE_NUM_THREADS``, ``NUM_STREAMS``
            (OpenVINO), ``intra_op_num_threads`` (onnxruntime) ... Threads are PyTorch's number
            otherwise.

    Returns:
        A module that is called as ``model`` is, and returns what that would.

    Raises:
        ConfigError: An argument or an option that cannot be used.
        ExportError: The runtime is not installed, it cannot run this network, or its numbers are
            not PyTorch's.
        UserError: The cache cannot be written.

    Example::

        fast = effvit_mm.compile(effvit_mm.create_model('pslt_base'), size=(224, 224))
        logits = fast(images)
    """
    check_runtime(runtime, precision, options)
    size = None if size is None else check_size(size)
    if any_size and size is None:
        raise ConfigError('any_size=True: an example is needed, size=(height, width)')
    network = model if isinstance(model, DeployedNetwork) else DeployedNetwork(deepcopy(model))
    if runtime == 'torch':
        return DeployedInPyTorch(network, precision)
    network.cpu()
    folder = default_folder() if cache is None else Path(cache)
    check_writable(folder, f'cache={str(folder)!r}')
    settings: dict[str, Any] = {
        'runtime': runtime,
        'precision': precision,
        'folder': folder,
        'options': options,
    }
    if size is None:
        return CompiledBySize(network, **settings)
    return _compiled(network, size, any_size, **settings)


def _compiled(
    network: DeployedNetwork,
    size: Size,
    any_size: bool,
    runtime: str,
    precision: str,
    folder: Path,
    options: Mapping[str, Any],
) -> CompiledNetwork:
    """A network of the cache, made where it is not there."""
    row = RUNTIMES[runtime]
    name = f'network{row.format.suffix}'
    shapes = find_shapes(network, size, any_size)
    key = entry_key(
        network, row.packages, runtime=runtime, shapes=tuple(shapes), method=network.method
    )

    def make(entry: Path) -> dict[str, Any]:
        row.format.write(network, entry / name, shapes.size, any_size=any_size, single=True)
        with torch.no_grad():
            images = noise(1, shapes.size, layout=network.layout)
            return {'structure': _structure(network.call(images))}

    entry, description = find_or_make(folder, key, make)
    session = row.session(entry / name, precision, **options)
    return CompiledNetwork(session, description['structure'], runtime)


def open_compiled(
    path: str | Path, runtime: str | None = None, precision: str = 'fp32', **options: Any
) -> CompiledNetwork:
    """An exported file as a network, without the model that it was made of.

    Args:
        path: ``.xml`` of OpenVINO, ``.onnx``, or a package of AOTInductor (``.pt2``), which is
            machine code: open files of your own.
        runtime: Name of the runtime; None: by the file's suffix (OpenVINO reads ``.onnx`` too).
        precision: ``'fp32'``; of OpenVINO also ``'bf16'``.
        **options: Of the runtime, by its own names.

    Returns:
        A module that maps images ``(B, 3, H, W)`` to a tensor, or to a tuple of them. Of a file
        with its preprocessing it takes pixels, which its ``read`` makes of photographs.

    Raises:
        ConfigError: There is no such runtime or option, or no runtime for such a file.
        ExportError: The runtime is not installed, or the file cannot be read.
    """
    by_suffix = {row.format.suffix: name for name, row in RUNTIMES.items()}
    runtime = runtime or by_suffix.get(Path(path).suffix)
    if runtime is None:
        raise ConfigError(f'{path}: a name ending in {", ".join(by_suffix)} is needed')
    check_runtime(runtime, precision, options)
    session = RUNTIMES[runtime].session(path, precision, **options)
    return CompiledNetwork(session, None, runtime)


def check_runtime(
    runtime: str, precision: str = 'fp32', options: Mapping[str, Any] | None = None
) -> None:
    """Raise where there is no such runtime, it is not installed, or does not take what is asked.

    Raises:
        ConfigError: No such runtime, precision or option.
        ExportError: It is not installed, with the line that installs it.
    """
    if runtime not in NAMES:
        raise ConfigError(f'runtime={runtime!r}: allowed are {", ".join(NAMES)}')
    allowed = TORCH_PRECISIONS if runtime == 'torch' else RUNTIMES[runtime].precisions
    if precision not in allowed:
        raise ConfigError(f'precision={precision!r}: {runtime} has {", ".join(allowed)}')
    if runtime != 'torch':
        for package in RUNTIMES[runtime].packages:
            need(package)
        RUNTIMES[runtime].session.checked(precision, options or {})
    elif options:
        raise ConfigError(f'option {next(iter(options))}: torch takes none here')


def _structure(outputs: Any) -> Any:
    """Nested outputs in JSON, with None in the place of each tensor."""
    if isinstance(outputs, Tensor):
        return None
    parts = [_structure(part) for part in outputs]
    return {'tuple': parts} if isinstance(outputs, tuple) else parts


def _filled(structure: Any, tensors: Iterator[Tensor]) -> Any:
    """Undo :func:`_structure`."""
    if structure is None:
        return next(tensors)
    if isinstance(structure, dict):
        return tuple(_filled(part, tensors) for part in structure['tuple'])
    return [_filled(part, tensors) for part in structure]
