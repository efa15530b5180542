"""OpenVINO's format, by its own converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from .graph import Checked, Run, Size, check_target, compare, find_shapes, need, replaced_when_right
from .onnx import OPSET, to_onnx
from .source import Source


def export_openvino(
    source: Source, path: str | Path, size: Size, any_size: bool = False
) -> list[Checked]:
    """Write an ``.xml`` file for OpenVINO, and its weights beside it as ``.bin``, in float32.

    ``openvino.convert_model`` reads the network as ONNX: it takes PyTorch's programs too, but knows
    fewer of their operators. Arguments and errors are those of :func:`export_onnx`.
    """
    path = check_target(path, '.xml')
    for package in ('openvino', 'onnx', 'onnxscript'):
        need(package)
    import openvino

    shapes = find_shapes(source.network, size, any_size)
    program = to_onnx(source, shapes, OPSET)
    with replaced_when_right(path, '.bin') as made:
        onnx = made.with_suffix('.onnx')
        program.save(onnx, external_data=False)
        model = openvino.convert_model(onnx)
        openvino.save_model(model, made, compress_to_fp16=False)
        return compare(openvino_session(made), source.network, shapes)


def openvino_session(path: str | Path) -> Run:
    """OpenVINO's or an ONNX file on the CPU in float32, as a function of images."""
    openvino = need('openvino')
    # Its CPU plugin would compute in bfloat16 where the processor can.
    precision = {'INFERENCE_PRECISION_HINT': 'f32'}
    model = openvino.Core().compile_model(path, 'CPU', precision)

    def run(images: Tensor) -> list[np.ndarray]:
        return [np.array(array) for array in model([images.numpy()]).to_tuple()]

    return run
