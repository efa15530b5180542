"""Post-training quantisation to eight bits, by onnxruntime's own tools."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from .graph import ExportError, Size, check_target, need, replaced_when_right
from .images import Images, find_calibration
from .onnx import OPSET, check_opset, export_onnx, onnx_session
from .source import Source

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
    source: Source,
    path: str | Path,
    size: Size,
    images: int = 128,
    folder: str | Path | None = None,
    opset: int = OPSET,
) -> Quantised:
    """Write an ONNX file whose convolutions and linear layers compute in eight bits.

    Activations have one range each, 0 to 255; weights one for each channel, -64 to 64. What it
    costs in accuracy is measured: :class:`Quantised`.

    Args:
        source, path, size, opset: See :func:`export_onnx`, whose file this starts from.
        images: Images to find the activations' ranges with, at most.
        folder: Images; None is the data of the source's config. See :func:`find_calibration`.

    Raises:
        ConfigError, ExportError: As :func:`export_onnx`; there are no images.
        DataError: An image cannot be read.
    """
    path = check_target(path, '.onnx')
    check_opset(opset)
    need('onnxruntime')
    known, others = find_calibration(source, size, images, folder)
    with TemporaryDirectory(prefix='effvit_mm_') as work, replaced_when_right(path) as made:
        exact = Path(work) / 'float32.onnx'
        export_onnx(source, exact, size, opset=opset)
        quantise(exact, made, known)
        found = measure_cost(exact, made, known, others, source.outputs == 'logits')
        if not np.isfinite(found.deviation):
            raise ExportError(f'{path}: the outputs in int8 are not finite; nothing was written')
        return found


def quantise(exact: Path, target: Path, images: Images) -> None:
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
            self.batches = images.batches()

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {'images': batch[0].numpy()}

    prepared = exact.with_name('prepared.onnx')
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it logs advice on the root logger
    try:
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
    finally:
        root.setLevel(level)


def find_weighted(path: Path) -> list[str]:
    """Names of a file's convolutions and products with weights, not with other activations."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [n.name for n in graph.node if n.op_type in QUANTISED and n.input[1] in weights]


def measure_cost(
    exact: Path, rough: Path, known: Images, others: Images, logits: bool
) -> Quantised:
    """An int8 file against the float32 one.

    Args:
        exact, rough: The files, float32 and int8.
        known, others: The images whose ranges were taken, and those to compare on.
        logits: Whether the outputs are.
    """
    runs = [onnx_session(path) for path in (exact, rough)]
    squares = np.zeros(2)  # of the differences, of the outputs
    cosines: list[float] = []
    same: list[bool] = []
    hits: list[np.ndarray] = []
    for batch, labels in others.batches():
        found = ([array.reshape(len(batch), -1) for array in run(batch)] for run in runs)
        pairs = list(zip(*found, strict=True))
        for a, b in pairs:
            squares += (np.square(a - b).sum(), np.square(a).sum())
        cosines.extend(np.min([_cosine(a, b) for a, b in pairs], axis=0))
        if logits:
            best = np.stack([array.argmax(1) for array in pairs[0]])
            same.extend(best[0] == best[1])
            if labels is not None:
                hits.extend((best == labels).T)
    return Quantised(
        calibrated=len(known.chosen),
        compared=len(others.chosen),
        deviation=float(np.sqrt(squares[0] / squares[1])),
        cosine=float(np.mean(cosines)),
        agreement=float(np.mean(same)) if same else None,
        accuracy=tuple(float(v) for v in np.mean(hits, axis=0)) if hits else None,
        sizes=(exact.stat().st_size, rough.stat().st_size),
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
