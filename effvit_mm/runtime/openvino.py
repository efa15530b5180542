"""OpenVINO: its format by its own converter, and running files with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from ..errors import ConfigError
from ..utils.silence import silent_logging
from . import suppression
from .external_data import check_weights_inside
from .graph import (
    Checked,
    ExportError,
    Shapes,
    Size,
    check_target,
    compare,
    find_shapes,
    need,
    replaced_when_right,
    trace_for,
)
from .graph_form import Rules
from .layout import NORMALISED, PIXELS
from .network import DeployedNetwork
from .openvino_core import core
from .openvino_heads import tell_heads_from_tokens
from .sessions import check_further, check_images, each_image, reading, reason, writing
from .winograd import winograd_convolution

SIZES = 4  # of a graph for any size that get a compiled model of their own
OWN_CHOICE = {'NUM_STREAMS', 'PERFORMANCE_HINT'}  # options that leave no streams to choose here
SECTION = 'effvit_mm'  # of a file's metadata
PRECISIONS = {'fp32': 'f32', 'bf16': 'bf16'}

PACKAGES = ('openvino',)


def export_openvino(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    any_size: bool = False,
    single: bool = False,
    winograd: bool = True,
) -> list[Checked]:
    """Write an ``.xml`` file for OpenVINO, and its weights beside it as ``.bin``, in float32.

    Args:
        network: What to write.
        path: ``.xml`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.
        single: A graph of one image instead of any batch: it is made in half the time.
        winograd: Write wide 3x3 convolutions of a fixed size as :mod:`.winograd` has them.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: A package is missing, the network cannot be exported so, or the file's numbers
            are not PyTorch's.
    """
    path = check_target(path, '.xml')
    for package in PACKAGES:
        need(package)
    shapes = find_shapes(network, size, any_size)._replace(single=single)
    model = to_openvino(network, shapes, winograd)
    import openvino

    with replaced_when_right(path, '.bin') as made:
        with writing(path):
            openvino.save_model(model, made, compress_to_fp16=False)
        session = OpenVINOSession(made)
        return compare(session if single else session.run_batch, network, shapes)


def to_openvino(network: DeployedNetwork, shapes: Shapes, winograd: bool = True) -> Any:
    """A network as an ``openvino.Model``.

    Raises:
        ExportError: There is no graph of it, or an operator that OpenVINO does not have.
    """
    openvino = need('openvino')
    fixed = shapes.least is None
    rules: Rules = {nn.Conv2d: winograd_convolution} if winograd and fixed else {}
    try:
        model = openvino.convert_model(
            _decoder(network, shapes, rules), extension=[suppression.openvino_extension()]
        )
    except RuntimeError as error:
        raise ExportError(f'OpenVINO cannot convert this network: {reason(error)}') from error
    # The converter opens all of a program's sizes.
    sides = shapes.size if shapes.least is None else (-1, -1)
    batch, further = 1 if shapes.single else -1, network.further_inputs(1)
    rests = (list(example.shape[1:]) for example in further.values())
    _reshape(model, network.layout.shape(batch, sides), *([batch, *rest] for rest in rests))
    tell_heads_from_tokens(model)
    for given, name in zip(model.inputs, ('images', *further), strict=True):
        given.set_names({name})
    for output, name in zip(model.outputs, network.output_names(len(model.outputs)), strict=True):
        output.set_names({name})
    for key, value in network.metadata(shapes.least).items():
        model.set_rt_info(value, [SECTION, key])
    return model


def _decoder(network: DeployedNetwork, shapes: Shapes, rules: Rules) -> Any:
    """What OpenVINO makes of a program by itself, but with constants as constants."""
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder as Decoder

    def convert(program: ExportedProgram) -> fx.GraphModule:
        with silent_logging():  # of operators that PyTorch's table lacks, with tracebacks
            return Decoder.from_exported_program(program).pt_module

    return Decoder(trace_for(convert, network, shapes, rules), dynamic_shapes=True)


class OpenVINOSession:
    """A file on the CPU: images to a list of arrays.

    Images are requests of their own, of a fixed size, which OpenVINO runs far faster than open
    batches: one image on all threads, several at the same time in streams of one thread each. Of a
    graph for any size the first four sizes get a compiled model of their own; further ones share
    one that is slower.

    Args:
        path: ``.xml`` or ``.onnx`` file.
        precision: ``'fp32'``, or ``'bf16'`` for what the processor computes faster in it. Left to
            itself OpenVINO takes bfloat16 where it can.
        **options: Properties of OpenVINO's CPU device by its own names: ``INFERENCE_NUM_THREADS``
            (PyTorch's number of threads), ``NUM_STREAMS`` and ``PERFORMANCE_HINT`` (chosen for each
            batch), ``CACHE_DIR`` ...

    Raises:
        ConfigError: An option that OpenVINO does not have, or a value that it does not take; at
            call time, images that the file was not made for.
        ExportError: OpenVINO is missing, or the file cannot be read.
    """

    def __init__(self, path: str | Path, precision: str = 'fp32', **options: Any) -> None:
        self.options = self.checked(precision, options)
        openvino = need('openvino')
        self.path = Path(path)
        with reading(path):
            if self.path.suffix == '.onnx':
                check_weights_inside(path)
            self.model = core().read_model(path)
            tell_heads_from_tokens(self.model)  # of files of others, and of .onnx
            images, *further = self.model.inputs
        self.further = [one.any_name for one in further]
        self.layout = PIXELS if images.element_type == openvino.Type.u8 else NORMALISED
        sides = self.layout.sides(images.partial_shape)
        self.sides = [side.get_length() if side.is_static else None for side in sides]
        self.about = _about(self.model)
        self.requests: dict[tuple[Size | None, int], _Requests] = {}

    @staticmethod
    def checked(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options with those of a precision, each tried on a model of one number."""
        openvino = need('openvino')
        if 'INFERENCE_PRECISION_HINT' in options:
            raise ConfigError('option INFERENCE_PRECISION_HINT: give precision= instead')
        able = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
        if precision == 'bf16' and 'BF16' not in able:
            raise ConfigError("precision='bf16': this processor has no bfloat16 instructions")
        number = openvino.opset13.parameter([1], openvino.Type.f32)
        tiny = openvino.Model([openvino.opset13.relu(number)], [number])
        for name, value in options.items():
            try:
                core().compile_model(tiny, 'CPU', {name: value})
            except (RuntimeError, TypeError) as error:
                raise ConfigError(f'option {name}={value!r}: {reason(error)}') from error
        return {
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
            'INFERENCE_PRECISION_HINT': PRECISIONS[precision],
            **options,
        }

    def __call__(self, images: Tensor, *further: Tensor) -> list[np.ndarray]:
        size = check_images(images, self.layout, self.sides, self.path)
        check_further(further, self.further, len(images), self.path)
        threads = int(self.options['INFERENCE_NUM_THREADS']) or torch.get_num_threads()
        streams = 1 << (min(len(images), threads).bit_length() - 1)
        streams = 0 if OWN_CHOICE & self.options.keys() else streams
        return self._of_size(size, streams)(list(each_image(images, *further)))

    def run_batch(self, *inputs: Tensor) -> list[np.ndarray]:
        """The same by one run of a graph for any batch, as other programs use the file."""
        results = self._any_batch([one.numpy() for one in inputs])
        return [np.array(array) for array in results.to_tuple()]

    @cached_property
    def _any_batch(self) -> Any:
        """The file's own graph, compiled."""
        return core().compile_model(self.model, 'CPU', self.options)

    def _of_size(self, size: Size, streams: int) -> _Requests:
        """What runs images of a size in so many streams; 0 is OpenVINO's choice."""
        known = {sides for sides, _ in self.requests if sides is not None}
        own = size in known or len(known) < SIZES
        key = (size if own else None, streams)
        if key not in self.requests:
            model = self.model.clone()
            further = ([1, *list(given.partial_shape)[1:]] for given in model.inputs[1:])
            _reshape(model, self.layout.shape(1, size if own else (-1, -1)), *further)
            hints = {1: {'PERFORMANCE_HINT': 'LATENCY'}, 0: {}}
            chosen = hints.get(streams, {'NUM_STREAMS': streams})
            compiled = core().compile_model(model, 'CPU', {**chosen, **self.options})
            self.requests[key] = _Requests(compiled)
        return self.requests[key]


def _reshape(model: Any, *shapes: list[int]) -> None:
    """Give a model's inputs these shapes."""
    model.reshape(dict(zip(model.inputs, shapes, strict=True)))


def _about(model: Any) -> dict[str, str]:
    """What a file says of itself; OpenVINO puts an ``.onnx`` file's under ``framework``."""
    section = next((name for name in (SECTION, 'framework') if model.has_rt_info(name)), None)
    entries = {} if section is None else model.get_rt_info(section).value
    return dict(entries)


class _Requests:
    """A compiled model of one image, for any number of them, each a list of its inputs."""

    def __init__(self, compiled: Any) -> None:
        count = compiled.get_property('OPTIMAL_NUMBER_OF_INFER_REQUESTS')
        self.pool = [compiled.create_infer_request() for _ in range(count)]

    def __call__(self, images: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
        results: list[list[np.ndarray]] = []
        count = len(self.pool)
        for i in range(len(images) + count):
            request = self.pool[i % count]
            if count <= i and len(results) < len(images):
                request.wait()
                results.append([np.array(tensor.data) for tensor in request.output_tensors])
            if i < len(images):
                request.start_async(dict(enumerate(images[i])))
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]
