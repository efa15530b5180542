"""Deployed networks as files for other runtimes, each compared with PyTorch before it is written.

Neither configs nor OpenMMLab are needed; :mod:`effvit_mm.inference.export` makes a network of a
config and a checkpoint.
"""

from .aoti import PackageSession, export_package
from .compiled import CompiledNetwork, check_runtime, compile, open_compiled
from .formats import FORMATS, Format
from .graph import Checked, ExportError, check_target, find_shapes
from .int8 import Quantised, export_int8
from .network import DeployedNetwork
from .onnx import ONNXSession, check_opset, export_onnx
from .openvino import OpenVINOSession, export_openvino
from .pixels import Preprocessing
from .program import export_program
from .table import RUNTIMES, Runtime

__all__ = [
    'FORMATS',
    'RUNTIMES',
    'Checked',
    'CompiledNetwork',
    'DeployedNetwork',
    'ExportError',
    'Format',
    'ONNXSession',
    'OpenVINOSession',
    'PackageSession',
    'Preprocessing',
    'Quantised',
    'Runtime',
    'check_opset',
    'check_runtime',
    'check_target',
    'compile',
    'export_int8',
    'export_onnx',
    'export_openvino',
    'export_package',
    'export_program',
    'find_shapes',
    'open_compiled',
]
