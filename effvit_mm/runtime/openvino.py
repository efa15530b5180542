"""OpenVINO's format, by its own converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from .graph import Checked, Run, Size, check_target, compare, find_shapes, need, replaced_when_right
from .network import DeployedNetwork
from .onnx import OPSET, to_onnx


def export_openvino(
    network: DeployedNetwork, path: str | Path, size: Size, any_size: bool = False
) -> list[Checked]:
    """Write an ``.xml`` file for OpenVINO, and its weights beside it as ``.bin``, in float32.

    ``openvino.convert_model`` reads the network as ONNX: it takes PyTorch's programs too, but knows
    fewer of their operators.

    Args:
        network: What to write.
        path: ``.xml`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        any_size: Let them vary, where the network allows it; ``size`` is an example then.

    Raises:
        ConfigError: An argument that cannot be used.
        ExportError: A package is missing, the network cannot be exported so, or the file's numbers
            are not PyTorch's.
    """
    path = check_target(path, '.xml')
    for package in ('openvino', 'onnx', 'onnxscript'):
        need(package)
    import openvino

    shapes = find_shapes(network, size, any_size)
    program = to_onnx(network, shapes, OPSET)
    with replaced_when_right(path, '.bin') as made:
        onnx = made.with_suffix('.onnx')
        program.save(onnx, external_data=False)
        model = openvino.convert_model(onnx)
        openvino.save_model(model, made, compress_to_fp16=False)
        return compare(openvino_session(made), network, shapes)


def openvino_session(path: str | Path) -> Run:
    """OpenVINO's or an ONNX file on the CPU in float32, as a function of images."""
    openvino = need('openvino')
    # Its CPU plugin would compute in bfloat16 where the processor can.
    precision = {'INFERENCE_PRECISION_HINT': 'f32'}
    model = openvino.Core().compile_model(path, 'CPU', precision)

    def run(images: Tensor) -> list[np.ndarray]:
        return [np.array(array) for array in model([images.numpy()]).to_tuple()]

    return run
