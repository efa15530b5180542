"""Networks as files for other runtimes, each compared with PyTorch before it takes its place.

Not imported by :mod:`effvit_mm.deploy`, which the backbones need: this needs all of them.
"""

from .graph import Checked, ExportError, check_target, find_shapes
from .int8 import Quantised, export_int8
from .onnx import export_onnx, onnx_session
from .openvino import export_openvino
from .program import export_package, export_program
from .source import Source, load_source, source_of

# By the names that tools/deployment/export.py gives them.
SUFFIXES = {'onnx': '.onnx', 'torch': '.pt2', 'aoti': '.pt2', 'openvino': '.xml', 'int8': '.onnx'}
WRITERS = {
    'onnx': export_onnx,
    'torch': export_program,
    'aoti': export_package,
    'openvino': export_openvino,
}

__all__ = [
    'SUFFIXES',
    'WRITERS',
    'Checked',
    'ExportError',
    'Quantised',
    'Source',
    'check_target',
    'export_int8',
    'export_onnx',
    'export_openvino',
    'export_package',
    'export_program',
    'find_shapes',
    'load_source',
    'onnx_session',
    'source_of',
]
