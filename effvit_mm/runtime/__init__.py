"""Deployed networks as files for other runtimes, each compared with PyTorch before it is written.

Neither configs nor OpenMMLab are needed; :mod:`effvit_mm.inference.export` makes a network of a
config and a checkpoint.
"""

from .aoti import PackageSession, export_package
from .compiled import CompiledNetwork, check_runtime, compile, open_compiled
from .exported_detector import ExportedDetector
from .formats import FORMATS, Format
from .graph import Checked, ExportError, check_target, find_shapes, need
from .network import DeployedNetwork
from .onnx import ONNXSession, check_opset, export_onnx
from .onnx_int8 import export_onnx_int8
from .openvino import OpenVINOSession, export_openvino
from .openvino_int8 import export_openvino_int8
from .pixels import Preprocessing
from .program import export_program
from .quantised import Quantised
from .table import RUNTIMES, Runtime
from .token_budgets import set_token_budgets, token_budgets

__all__ = [
    'FORMATS',
    'RUNTIMES',
    'Checked',
    'CompiledNetwork',
    'DeployedNetwork',
    'ExportError',
    'ExportedDetector',
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
    'export_onnx',
    'export_onnx_int8',
    'export_openvino',
    'export_openvino_int8',
    'export_package',
    'export_program',
    'find_shapes',
    'need',
    'open_compiled',
    'set_token_budgets',
    'token_budgets',
]
