"""Deployed networks as files for other runtimes, each compared with PyTorch before it is written.

Neither configs nor OpenMMLab are needed; :mod:`effvit_mm.inference.export` makes a network of a
config and a checkpoint.
"""

from .aoti import export_package
from .formats import FORMATS, Format
from .graph import Checked, ExportError, check_target, find_shapes
from .int8 import Quantised, export_int8
from .network import DeployedNetwork
from .onnx import check_opset, export_onnx, onnx_session
from .openvino import export_openvino, openvino_session
from .program import export_program

__all__ = [
    'FORMATS',
    'Checked',
    'DeployedNetwork',
    'ExportError',
    'Format',
    'Quantised',
    'check_opset',
    'check_target',
    'export_int8',
    'export_onnx',
    'export_openvino',
    'export_package',
    'export_program',
    'find_shapes',
    'onnx_session',
    'openvino_session',
]
