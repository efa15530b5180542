"""The table of runtimes: a further one is a file with its writer and session, and a row here."""

from __future__ import annotations

from typing import NamedTuple

from .aoti import PackageSession
from .formats import FORMATS, Format
from .onnx import ONNXSession
from .openvino import OpenVINOSession
from .sessions import Session


class Runtime(NamedTuple):
    """What runs a compiled network.

    Attributes:
        format: Of its files.
        session: Opens a file: ``session(path, precision, **options)``.
        packages: Names of the distributions whose versions a file depends on.
        precisions: That it computes in.
    """

    format: Format
    session: type[Session]
    packages: tuple[str, ...]
    precisions: tuple[str, ...] = ('fp32',)


RUNTIMES = {
    'openvino': Runtime(
        FORMATS['openvino'], OpenVINOSession, ('torch', 'openvino'), ('fp32', 'bf16')
    ),
    'onnxruntime': Runtime(FORMATS['onnx'], ONNXSession, ('torch', 'onnxscript', 'onnxruntime')),
    'inductor': Runtime(FORMATS['aoti'], PackageSession, ('torch',)),
}
