#!/usr/bin/env bash
# openvino 2026.4.1, onnx 1.23.2, onnxruntime 1.32.0, Python 3.11, 2026-11-29.
#
# Two boxes whose overlap is exactly the threshold of NonMaxSuppression (0.5: one is half of the
# other, all numbers exact in float32): onnxruntime keeps both, as torchvision and mmcv do, OpenVINO
# drops the worse one, from the same ONNX file. Boxes on a grid of pixels reach such values often;
# a detector exported with its suppression inside so finds fewer objects in one runtime. The next
# larger float32 as the threshold gives OpenVINO the others' answer.
#
# Seen (boxes that are left):
#   threshold 0.5: onnxruntime 2, openvino 1
#   threshold 0.50000006: onnxruntime 2, openvino 2
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

boxes = np.array([[[0, 0, 8, 8], [0, 0, 8, 4]]], 'f4')
scores = np.array([[[0.9, 0.8]]], 'f4')


def left(threshold):
    graph = helper.make_graph(
        [helper.make_node('NonMaxSuppression', ['boxes', 'scores', 'most', 'iou'], ['chosen'])],
        'suppression',
        [
            helper.make_tensor_value_info('boxes', TensorProto.FLOAT, [1, 2, 4]),
            helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 1, 2]),
        ],
        [helper.make_tensor_value_info('chosen', TensorProto.INT64, ['n', 3])],
        [
            helper.make_tensor('most', TensorProto.INT64, [1], [10]),
            helper.make_tensor('iou', TensorProto.FLOAT, [1], [threshold]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, 'nms.onnx')
    session = onnxruntime.InferenceSession('nms.onnx', providers=['CPUExecutionProvider'])
    compiled = openvino.Core().compile_model('nms.onnx', 'CPU')
    chosen = compiled([boxes, scores])[0]
    return len(session.run(None, {'boxes': boxes, 'scores': scores})[0]), int((chosen[:, 0] >= 0).sum())


half = np.float32(0.5)
for threshold, wanted in ((half, (2, 1)), (np.nextafter(half, np.float32(1)), (2, 2))):
    found = left(float(threshold))
    print(f'threshold {threshold:.8g}: onnxruntime {found[0]}, openvino {found[1]}')
    assert found == wanted, 'this has changed'
PY
