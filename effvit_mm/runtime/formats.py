"""The table of formats: a further one is a file with its writer and a row here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .aoti import export_package
from .onnx import PACKAGES as ONNX
from .onnx import export_onnx
from .onnx_int8 import export_onnx_int8
from .openvino import PACKAGES as OPENVINO
from .openvino import export_openvino
from .openvino_int8 import PACKAGES as OPENVINO_INT8
from .openvino_int8 import export_openvino_int8
from .program import export_program


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: Of the file's name.
        write: ``write(network, path, size, **options)`` writes it when it is right.
        options: Names of what ``write`` takes besides.
        packages: What it needs, beside torch.
    """

    suffix: str
    write: Callable
    options: tuple[str, ...]
    packages: tuple[str, ...] = ()


FORMATS = {
    'onnx': Format('.onnx', export_onnx, ('any_size', 'opset'), ONNX),
    'torch': Format('.pt2', export_program, ('any_size',)),
    'aoti': Format('.pt2', export_package, ('any_size',)),
    'openvino': Format('.xml', export_openvino, ('any_size',), OPENVINO),
    'onnx-int8': Format('.onnx', export_onnx_int8, ('calibration', 'comparison', 'opset'), ONNX),
    'openvino-int8': Format(
        '.xml', export_openvino_int8, ('calibration', 'comparison'), OPENVINO_INT8
    ),
}
