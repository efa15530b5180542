"""Post-training quantisation of ONNX files to eight bits, by onnxruntime's own tools."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .graph import Size, check_target, need, replaced_when_right
from .network import DeployedNetwork
from .onnx import OPSET, ONNXSession, check_opset, export_onnx
from .quantised import (
    CalibrationImages,
    Labelled,
    Quantised,
    check_normalised,
    measure_cost,
    silent,
)

# Layers with weights. Norms, softmax and the products within attention stay in float32: they are a
# small part of the time and lose the most.
QUANTISED = ('Conv', 'MatMul', 'Gemm')


def export_onnx_int8(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    calibration: Labelled,
    comparison: Labelled,
    opset: int = OPSET,
) -> Quantised:
    """Write an ONNX file whose convolutions and linear layers compute in eight bits.

    Activations have one range each, 0 to 255; weights one for each channel, -64 to 64. What it
    costs in accuracy and saves in time is measured: :class:`Quantised`.

    Args:
        network: What to write.
        path: ``.onnx`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        calibration: Images to find the activations' ranges with: batches ``(B, 3, H, W)``,
            normalised, float32, each with its labels or None.
        comparison: Other images, to measure the cost on.
        opset: Version of ONNX's operators, 18 to 23.

    Raises:
        ConfigError: An argument that cannot be used; there are no images.
        ExportError: A package is missing, the network cannot be exported so, or the outputs are not
            finite.
    """
    path = check_target(path, '.onnx')
    check_opset(opset)
    check_normalised(network)
    need('onnxruntime')
    with TemporaryDirectory(prefix='effvit_mm_') as work, replaced_when_right(path) as made:
        exact = Path(work) / 'float32.onnx'
        export_onnx(network, exact, size, opset=opset)
        images = CalibrationImages(calibration)
        quantise(exact, made, images)
        logits = network.outputs == 'logits'
        return measure_cost(exact, made, ONNXSession, images.count, comparison, logits)


def quantise(exact: Path, target: Path, images: CalibrationImages) -> None:
    """Make an int8 file of a float32 file.

    Weights fill half of int8's range. x86-64 without VNNI adds products of unsigned by signed bytes
    in pairs, in 16 bits that saturate: 2 * 255 * 64 = 32640 fits, 2 * 255 * 127 does not. Signed
    activations are no way out, onnxruntime makes unsigned ones of them; unsigned weights are added
    in 32 bits everywhere, but take half as long again. See docs/export.md.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {'images': image}

    prepared = exact.with_name('prepared.onnx')
    with silent(None):  # it gives advice on the root logger
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=find_weighted(prepared),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def find_weighted(path: Path) -> list[str]:
    """Names of a file's convolutions and products with weights, not with other activations."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [n.name for n in graph.node if n.op_type in QUANTISED and n.input[1] in weights]
