"""ONNX files, and running them with onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from . import suppression
from .graph import (
    AXES,
    Checked,
    ExportError,
    Run,
    Shapes,
    Size,
    check_target,
    compare,
    find_shapes,
    need,
    replaced_when_right,
    trace,
)
from .network import DeployedNetwork

# onnxruntime 1.17 reads it; PyTorch's own choice.
OPSET, OPSETS = 20, range(18, 24)
INT64 = 7


def export_onnx(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    any_size: bool = False,
    opset: int = OPSET,
) -> list[Checked]:
    """Write an ONNX file for any batch, once onnxruntime has given PyTorch's numbers with it.

    Args:
        network: What to write.
        path: ``.onnx`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.
        opset: Version of ONNX's operators, 18 to 23.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: A package is missing, the network cannot be exported so, or the file's numbers
            are not PyTorch's.
    """
    path = check_target(path, '.onnx')
    check_opset(opset)
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        need(package)
    shapes = find_shapes(network, size, any_size)
    program = to_onnx(network, shapes, opset)
    with replaced_when_right(path) as made:
        program.save(made, external_data=False)
        return compare(onnx_session(made), network, shapes)


def check_opset(opset: int) -> None:
    """Raise where PyTorch's exporter and onnxruntime do not both know this version."""
    if opset not in OPSETS:
        raise ConfigError(f'--opset {opset}: allowed are {OPSETS[0]} to {OPSETS[-1]}')


def to_onnx(network: DeployedNetwork, shapes: Shapes, opset: int) -> torch.onnx.ONNXProgram:
    """A network in ONNX's operators.

    Raises:
        ExportError: There is no graph of it, or an operator that ONNX does not have.
    """
    graph = trace(network, shapes)
    names = {axis: name for axis, name in AXES.items() if axis == 0 or shapes.least is not None}
    try:
        program = torch.onnx.export(
            graph,
            input_names=['images'],
            output_names=network.output_names(len(graph.graph_signature.user_outputs)),
            opset_version=opset,
            dynamic_shapes=(names,),  # names alone: the graph has its open axes already
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = error
        while cause.__cause__ is not None:  # the outer ones point to a stack trace
            cause = cause.__cause__
        reason = f'{type(cause).__name__}: {str(cause).strip()}'.split('\n')[0]
        raise ExportError(f'torch.onnx cannot write this network: {reason}') from error
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


def onnx_session(path: str | Path, threads: int = 0) -> Run:
    """An ONNX file on the CPU, as a function of images; ``threads`` 0 is onnxruntime's choice."""
    runtime = need('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    # Else its threads go on waiting in a loop, when others have work for the processor.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])

    def run(images: Tensor) -> list[np.ndarray]:
        return session.run(None, {'images': images.numpy()})

    return run
