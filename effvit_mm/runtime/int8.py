"""Post-training quantisation to eight bits, by onnxruntime's own tools."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from .graph import ExportError, Size, check_target, need, replaced_when_right
from .network import DeployedNetwork
from .onnx import OPSET, ONNXSession, check_opset, export_onnx

Batch = Tensor | np.ndarray

# Layers with weights. Norms, softmax and the products within attention stay in float32: they are a
# small part of the time and lose the most.
QUANTISED = ('Conv', 'MatMul', 'Gemm')


class Quantised(NamedTuple):
    """An int8 file against the float32 file that it was made of.

    Attributes:
        calibrated, compared: Images that the ranges are of, and that the figures are of.
        deviation: Root mean square of the outputs' differences over that of the outputs.
        cosine: Mean cosine of an image's outputs, of the worst of several outputs.
        agreement: Share of the images with the same best class; None where there are no logits.
        accuracy: Top-1 of float32 and int8; None where the images have no labels.
        sizes: Of the files in bytes: float32 and int8.
    """

    calibrated: int
    compared: int
    deviation: float
    cosine: float
    agreement: float | None
    accuracy: tuple[float, float] | None
    sizes: tuple[int, int]


def export_int8(
    network: DeployedNetwork,
    path: str | Path,
    size: Size,
    calibration: Iterable[Batch],
    comparison: Iterable[tuple[Batch, Sequence[int] | None]],
    opset: int = OPSET,
) -> Quantised:
    """Write an ONNX file whose convolutions and linear layers compute in eight bits.

    Activations have one range each, 0 to 255; weights one for each channel, -64 to 64. What it
    costs in accuracy is measured: :class:`Quantised`.

    Args:
        network: What to write.
        path: ``.onnx`` file; what lies there is replaced.
        size: Height and width of the images, in pixels.
        calibration: Images to find the activations' ranges with: batches ``(B, 3, H, W)``,
            normalised, float32.
        comparison: Batches of other images to measure the cost on, with their labels or None.
        opset: Version of ONNX's operators, 18 to 23.

    Raises:
        ConfigError: An argument that cannot be used; there are no images.
        ExportError: A package is missing, the network cannot be exported so, or the outputs are not
            finite.
    """
    path = check_target(path, '.onnx')
    check_opset(opset)
    if network.preprocessing is not None:
        raise ConfigError('--preprocess: not in eight bits, whose ranges are of normalised images')
    need('onnxruntime')
    with TemporaryDirectory(prefix='effvit_mm_') as work, replaced_when_right(path) as made:
        exact = Path(work) / 'float32.onnx'
        export_onnx(network, exact, size, opset=opset)
        calibrated = quantise(exact, made, calibration)
        logits = network.outputs == 'logits'
        cost = measure_cost(exact, made, calibrated, comparison, logits)
        if not np.isfinite(cost.deviation):
            raise ExportError(f'{path}: the outputs in int8 are not finite; nothing was written')
        return cost


def quantise(exact: Path, target: Path, calibration: Iterable[Batch]) -> int:
    """Make an int8 file of a float32 file; gives the number of images that ranges are of.

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
            self.batches: Iterator[Batch] = iter(calibration)
            self.images = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            if batch is None and not self.images:
                raise ConfigError('calibration: there are no images')
            if batch is None:
                return None
            self.images += len(batch)
            return {'images': np.asarray(batch)}

    prepared, reader = exact.with_name('prepared.onnx'), Reader()
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it logs advice on the root logger
    try:
        quant_pre_process(exact, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_quantize=find_weighted(prepared),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        root.setLevel(level)
    return reader.images


def find_weighted(path: Path) -> list[str]:
    """Names of a file's convolutions and products with weights, not with other activations."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [n.name for n in graph.node if n.op_type in QUANTISED and n.input[1] in weights]


def measure_cost(
    exact: Path,
    rough: Path,
    calibrated: int,
    comparison: Iterable[tuple[Batch, Sequence[int] | None]],
    logits: bool,
) -> Quantised:
    """An int8 file against the float32 one.

    Args:
        exact, rough: The files, float32 and int8.
        calibrated: Images that the ranges are of.
        comparison: Batches of images to compare on, with their labels or None.
        logits: Whether the outputs are.
    """
    runs = [ONNXSession(path) for path in (exact, rough)]
    squares = np.zeros(2)  # of the differences, of the outputs
    cosines: list[float] = []
    same: list[bool] = []
    hits: list[np.ndarray] = []
    for images, labels in comparison:
        batch = torch.as_tensor(images)
        outputs = ([array.reshape(len(batch), -1) for array in run(batch)] for run in runs)
        pairs = list(zip(*outputs, strict=True))
        for a, b in pairs:
            squares += (np.square(a - b).sum(), np.square(a).sum())
        cosines.extend(np.min([_cosine(a, b) for a, b in pairs], axis=0))
        if logits:
            best = np.stack([array.argmax(1) for array in pairs[0]])
            same.extend(best[0] == best[1])
            if labels is not None:
                hits.extend((best == labels).T)
    if not cosines:
        raise ConfigError('comparison: there are no images')
    return Quantised(
        calibrated=calibrated,
        compared=len(cosines),
        deviation=float(np.sqrt(squares[0] / squares[1])),
        cosine=float(np.mean(cosines)),
        agreement=float(np.mean(same)) if same else None,
        accuracy=tuple(float(v) for v in np.mean(hits, axis=0)) if hits else None,
        sizes=(exact.stat().st_size, rough.stat().st_size),
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
