#!/usr/bin/env bash
# openvino 2026.4.1, numpy 2.3.5, Python 3.11, 2026-11-30; AMD EPYC with AVX-512, one thread, float32.
#
# OpenVINO's CPU plugin convolves 3x3 directly (brgconv), whatever the layer. The same layer written
# out as Winograd's F(4x4, 3x3) in general operators (36 strided slices, two small products and one
# batched product of 36) is about twice as fast as its own Convolution for 256 channels, though
# nothing in it is fused and every tile is copied twice; values differ by 1e-5 of the largest. With
# 32 channels the tiles' transforms cost more than they save, so no rule by shape alone is right.
# onnxruntime 1.32.0 and PyTorch 2.14.1 gained nothing from the same steps where this was found.
#
# Seen (four layers with ReLU on 60 x 80, time of tiles over time of convolutions, medians in turns):
#   256 channels: less than 0.8, same values
#   32 channels: more than 0.8, same values
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openvino==2026.4.1 numpy==2.3.5 >/dev/null 2>&1
cd "$work"
cat > look.py <<'PY'
import statistics
import time

import numpy as np
import openvino
from openvino import opset13 as op

HEIGHT, WIDTH, LAYERS = 60, 80, 4
INPUT = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
         [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
KERNEL = [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6],
          [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def direct(x, weight):
    return op.convolution(x, op.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1])


def tiled(x, weight):
    channels, down, across = len(weight), HEIGHT // 4, WIDTH // 4
    kernel = np.einsum('ij,ocjk,lk->ilco', KERNEL, weight, KERNEL).astype('f4')
    padded = op.pad(x, [0, 0, 1, 1], [0, 0, 1, 1], 'constant', np.float32(0))
    image = op.transpose(padded, [0, 2, 3, 1])
    parts = [
        op.slice(image, [row, left], [row + 4 * down - 3, left + 4 * across - 3], [4, 4], [1, 2])
        for row in range(6) for left in range(6)
    ]
    tiles = op.reshape(op.concat(parts, 0), [36, -1], False)
    tiles = op.matmul(op.constant(np.kron(INPUT, INPUT).astype('f4')), tiles, False, False)
    tiles = op.reshape(tiles, [36, down * across, channels], False)
    products = op.matmul(tiles, op.constant(kernel.reshape(36, channels, channels)), False, False)
    products = op.reshape(products, [36, -1], False)
    result = op.matmul(op.constant(np.kron(OUTPUT, OUTPUT).astype('f4')), products, False, False)
    result = op.reshape(result, [4, 4, 1, down, across, channels], False)
    result = op.transpose(result, [2, 5, 3, 0, 4, 1])
    return op.reshape(result, [1, channels, HEIGHT, WIDTH], False)


def compiled(layer, weights):
    channels = len(weights[0])
    given = op.parameter([1, channels, HEIGHT, WIDTH], np.float32)
    x = given
    for weight in weights:
        x = op.relu(layer(x, weight))
    options = {
        'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY',
    }
    return openvino.compile_model(openvino.Model([x], [given]), 'CPU', options).create_infer_request()


for channels in (256, 32):
    generator = np.random.default_rng(0)
    shape, spread = (channels, channels, 3, 3), (2 / 9 / channels) ** 0.5
    weights = [generator.normal(0, spread, shape).astype('f4') for _ in range(LAYERS)]
    x = generator.normal(size=(1, channels, HEIGHT, WIDTH)).astype('f4')
    requests = [compiled(layer, weights) for layer in (direct, tiled)]
    times = ([], [])
    for _ in range(25):
        for request, seconds in zip(requests, times):
            start = time.perf_counter()
            request.infer([x])
            seconds.append(time.perf_counter() - start)
    want, got = (np.array(request.get_output_tensor().data) for request in requests)
    same = np.abs(got - want).max() < 1e-4 * np.abs(want).max()
    ratio = statistics.median(times[1][5:]) / statistics.median(times[0][5:])
    size = 'less' if ratio < 0.8 else 'more'
    print(f'{channels} channels: {size} than 0.8,', 'same values' if same else 'other values')
PY
venv/bin/python look.py | tee seen
diff seen - <<'SEEN'
256 channels: less than 0.8, same values
32 channels: more than 0.8, same values
SEEN
