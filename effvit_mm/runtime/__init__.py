"""Deployed networks as files for other runtimes, each compared with PyTorch before it is written.

Neither configs nor OpenMMLab are needed; :mod:`effvit_mm.inference.export` makes a network of a
config and a checkpoint.
"""

from .aoti import export_package
from .formats import FORMATS, Format
from .graph import Checked, ExportError, check_target, find_shapes
from .network import DeployedNetwork
from .onnx import check_opset, export_onnx, onnx_session
from .onnx_int8 import export_onnx_int8
from .openvino import export_openvino, openvino_session
from .openvino_int8 import export_openvino_int8
from .program import export_program
from .quantised import Quantised

__all__ = [
    'FORMATS',
    'Checked',
    'DeployedNetwork',
    'ExportError',
    'Format',
    'Quantised',
    'check_opset',
    'check_target',
    'export_onnx',
    'export_onnx_int8',
    'export_openvino',
    'export_openvino_int8',
    'export_package',
    'export_program',
    'find_shapes',
    'onnx_session',
    'openvino_session',
]
