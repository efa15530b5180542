#!/usr/bin/env bash
# openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11, 2026-11-29.
#
# ONNX's Resize has the attribute antialias since opset 18: a filter that grows as an image shrinks,
# as Pillow's and torchvision's does. OpenVINO reads such a file and leaves the attribute out without
# a word: what it gives is, to the last bit, what onnxruntime gives for antialias=0. Preprocessing
# that was put into an ONNX file so changes by tens of grey levels with the runtime.
#
# Seen (64 x 64 to 16 x 16 pixels of noise, largest difference in grey levels):
#   linear antialias=0 openvino-onnxruntime 0
#   linear antialias=1 openvino-onnxruntime 88, openvino's with and without 0
#   cubic antialias=0 openvino-onnxruntime 0
#   cubic antialias=1 openvino-onnxruntime 150, openvino's with and without 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openvino==2026.4.1 onnx==1.23.2 onnxruntime==1.32.0 >/dev/null 2>&1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
import openvino
from onnx import TensorProto, helper

image = np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64)).astype('f4')


def resized(mode, antialias):
    node = helper.make_node('Resize', ['x', '', '', 'sizes'], ['y'], mode=mode, antialias=antialias)
    graph = helper.make_graph(
        [node],
        'resize',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 1, 64, 64])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 1, 16, 16])],
        [helper.make_tensor('sizes', TensorProto.INT64, [4], [1, 1, 16, 16])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, 'resize.onnx')
    session = onnxruntime.InferenceSession('resize.onnx', providers=['CPUExecutionProvider'])
    compiled = openvino.Core().compile_model('resize.onnx', 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    return session.run(None, {'x': image})[0], compiled([image])[0]


for mode, far in (('linear', 50), ('cubic', 50)):
    (plain, plain_openvino), (smooth, smooth_openvino) = resized(mode, 0), resized(mode, 1)
    apart = [float(np.abs(a - b).max()) for a, b in ((plain, plain_openvino), (smooth, smooth_openvino))]
    own = float(np.abs(smooth_openvino - plain_openvino).max())
    print(f'{mode} antialias=0 openvino-onnxruntime {apart[0]:.0f}')
    print(f"{mode} antialias=1 openvino-onnxruntime {apart[1]:.0f}, openvino's with and without {own:.0f}")
    assert apart[0] < 0.01 and apart[1] > far and own == 0, 'this has changed'
PY
