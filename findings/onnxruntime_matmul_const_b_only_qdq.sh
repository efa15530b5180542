#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2, Python 3.11, 2026-11-29.
#
# quantize_static(extra_options={'MatMulConstBOnly': True}) is documented to quantise a MatMul only
# where its second input is constant, which keeps products of two activations (queries and keys,
# weights and values of attention) in float. With quant_format=QuantFormat.QDQ, the default format,
# the option is not looked at: a product of two activations gets quantised inputs all the same. With
# QuantFormat.QOperator the same option works. A transformer so loses accuracy and time without a
# word: name the nodes by nodes_to_quantize instead.
#
# Seen:
#   QDQ: product of activations quantised: True
#   QOperator: product of activations quantised: False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "onnxruntime==1.32.0" "onnx==1.23.2" numpy sympy >/dev/null 2>&1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import logging
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

logging.disable(logging.CRITICAL)
rng = np.random.default_rng(0)
weight = numpy_helper.from_array(rng.normal(size=(8, 8)).astype('f4'), 'weight')
graph = helper.make_graph(
    [
        helper.make_node('MatMul', ['x', 'weight'], ['y'], 'layer'),
        helper.make_node('Transpose', ['x'], ['xt'], 'turn', perm=[1, 0]),
        helper.make_node('MatMul', ['y', 'xt'], ['z'], 'product'),
    ],
    'two_products',
    [helper.make_tensor_value_info('x', TensorProto.FLOAT, [4, 8])],
    [helper.make_tensor_value_info('z', TensorProto.FLOAT, [4, 4])],
    [weight],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
onnx.save(model, 'float.onnx')


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{'x': rng.normal(size=(4, 8)).astype('f4')} for _ in range(4)])

    def get_next(self):
        return next(self.batches, None)


seen = {}
for name in ('QDQ', 'QOperator'):
    quantize_static(
        'float.onnx', f'{name}.onnx', Reader(), quant_format=getattr(QuantFormat, name),
        op_types_to_quantize=['MatMul'], activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, extra_options={'MatMulConstBOnly': True},
    )
    nodes = onnx.load(f'{name}.onnx').graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    last = next(node for node in nodes if 'product' in node.name and 'MatMul' in node.op_type)
    inputs = [makers.get(i) for i in last.input]
    seen[name] = last.op_type != 'MatMul' or all(i == 'DequantizeLinear' for i in inputs)
    print(f'{name}: product of activations quantised: {seen[name]}')
assert seen == {'QDQ': True, 'QOperator': False}, 'the behaviour has changed'
PY
