"""ONNX files, and running them with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from . import suppression
from .external_data import check_weights_inside
from .graph import (
    Checked,
    ExportError,
    Shapes,
    Size,
    axis_names,
    check_target,
    compare,
    find_shapes,
    need,
    replaced_when_right,
    trace,
)
from .layout import NORMALISED, PIXELS
from .network import DeployedNetwork
from .sessions import check_further, check_images, each_image, reading, reason, writing

# onnxruntime 1.17 reads it; PyTorch's own choice.
OPSET, OPSETS = 20, range(18, 24)
INT64 = 7

PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')


def export_onnx(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    any_size: bool = False,
    opset: int = OPSET,
    single: bool = False,
) -> list[Checked]:
    """Write an ONNX file, once onnxruntime has given PyTorch's numbers with it.

    Args:
        network: What to write.
        path: ``.onnx`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.
        opset: Version of ONNX's operators, 18 to 23.
        single: A graph of one image instead of any batch: it is made in half the time.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: A package is missing, the network cannot be exported so, or the file's numbers
            are not PyTorch's.
    """
    path = check_target(path, '.onnx')
    check_opset(opset)
    for package in PACKAGES:
        need(package)
    shapes = find_shapes(network, size, any_size)._replace(single=single)
    program = to_onnx(network, shapes, opset)
    with replaced_when_right(path) as made:
        with writing(path):
            program.save(made, external_data=False)
        session = ONNXSession(made)
        return compare(session if single else session.run_batch, network, shapes)


def check_opset(opset: int) -> None:
    """Raise where PyTorch's exporter and onnxruntime do not both know this version."""
    if opset not in OPSETS:
        raise ConfigError(f'--opset {opset}: allowed are {OPSETS[0]} to {OPSETS[-1]}')


def to_onnx(network: DeployedNetwork, shapes: Shapes, opset: int) -> torch.onnx.ONNXProgram:
    """A network in ONNX's operators.

    Raises:
        ExportError: There is no graph of it, or an operator that ONNX does not have.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript.optimizer import fold_constants

    graph = trace(network, shapes)
    axes = axis_names(network, shapes)
    try:
        program = torch.onnx.export(
            graph,
            input_names=list(axes),
            output_names=network.output_names(len(graph.graph_signature.user_outputs)),
            opset_version=opset,
            # Names alone: the graph has its open axes already.
            dynamic_shapes=tuple(axes.values()),
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
            # Its search for patterns takes minutes; onnxruntime has its own when it reads a file.
            optimize=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = error
        while cause.__cause__ is not None:  # the outer ones point to a stack trace
            cause = cause.__cause__
        reason = f'{type(cause).__name__}: {str(cause).strip()}'.split('\n')[0]
        raise ExportError(f'torch.onnx cannot write this network: {reason}') from error
    fold_constants(program.model)
    RemoveUnusedNodesPass()(program.model)
    program.model.metadata_props.update(network.metadata(shapes.least))
    return program


def translations() -> dict[Callable, Callable]:
    """Operators that PyTorch's exporter lacks."""
    from onnxscript import opset18 as op

    def searchsorted(sorted_sequence, values, out_int32=False, right=False, side=None, sorter=None):
        """How many of the ascending ``(B, N)`` are below each of ``(B, K)``."""
        below = op.Less(op.Unsqueeze(sorted_sequence, [-2]), op.Unsqueeze(values, [-1]))
        return op.ReduceSum(op.Cast(below, to=INT64), [-1], keepdims=0)

    def stable_sort(values, stable=True, dim=-1, descending=False):
        """TopK of all: it takes the first of equal ones first."""
        count = op.Gather(op.Shape(values), [dim])
        return op.TopK(values, count, axis=dim, largest=int(descending), sorted=1)

    return {
        torch.ops.aten.searchsorted.Tensor: searchsorted,
        torch.ops.aten.sort.stable: stable_sort,
        **suppression.onnx_translation(),
    }


class ONNXSession:
    """A file on the CPU: images to a list of arrays.

    One image runs on all threads, several at the same time on a thread each.

    Args:
        path: ``.onnx`` file.
        precision: ``'fp32'``.
        **options: Attributes of onnxruntime's ``SessionOptions`` by their own names:
            ``intra_op_num_threads`` (PyTorch's number of threads), ``enable_cpu_mem_arena`` ...

    Raises:
        ConfigError: An option that onnxruntime does not have, or a value that it does not take; at
            call time, images that the file was not made for.
        ExportError: onnxruntime is missing, or the file cannot be read.
    """

    def __init__(self, path: str | Path, precision: str = 'fp32', **options: Any) -> None:
        self.options, self.path = self.checked(precision, options), Path(path)
        self.threads = self.options['intra_op_num_threads'] or torch.get_num_threads()
        with reading(path):
            check_weights_inside(path)
            self.session = self._open(self.options)
        images, *further = self.session.get_inputs()
        self.further = [one.name for one in further]
        self.layout = PIXELS if images.type == 'tensor(uint8)' else NORMALISED
        sides = self.layout.sides(images.shape)
        self.sides = [side if isinstance(side, int) else None for side in sides]
        self.about = self.session.get_modelmeta().custom_metadata_map

    @staticmethod
    def checked(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options, each tried on an empty ``SessionOptions``."""
        chosen = need('onnxruntime').SessionOptions()
        for name, value in options.items():
            try:
                getattr(chosen, name)
                setattr(chosen, name, value)
            except (AttributeError, TypeError) as error:
                raise ConfigError(f'option {name}={value!r}: {reason(error)}') from error
        return {'intra_op_num_threads': torch.get_num_threads(), **options}

    def _open(self, options: Mapping[str, Any]) -> Any:
        import onnxruntime

        chosen = onnxruntime.SessionOptions()
        # Else its threads go on waiting in a loop, when others have work for the processor.
        chosen.add_session_config_entry('session.force_spinning_stop', '1')
        chosen.log_severity_level = 3
        for name, value in options.items():
            setattr(chosen, name, value)
        providers = ['CPUExecutionProvider']
        return onnxruntime.InferenceSession(str(self.path), chosen, providers=providers)

    @cached_property
    def single_thread(self) -> Any:
        """The file on one thread, for several images at a time."""
        return self._open({**self.options, 'intra_op_num_threads': 1})

    def run_batch(self, *inputs: Tensor) -> list[np.ndarray]:
        """The same by one run of a graph for any batch, as other programs use the file."""
        return self._run(self.session, [tensor.numpy() for tensor in inputs])

    def _run(self, session: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return session.run(None, dict(zip(['images', *self.further], arrays, strict=True)))

    def __call__(self, images: Tensor, *further: Tensor) -> list[np.ndarray]:
        check_images(images, self.layout, self.sides, self.path)
        check_further(further, self.further, len(images), self.path)
        parts = list(each_image(images, *further))
        session = self.session if len(parts) == 1 else self.single_thread
        with ThreadPoolExecutor(min(self.threads, len(parts))) as pool:
            results = list(pool.map(partial(self._run, session), parts))
        return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]
