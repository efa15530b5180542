#!/usr/bin/env python
"""How far the operators of runtimes for resizing lie from the pixels of the test pipelines.

``python tools/deployment/check_resizing.py photo.jpg ...`` prints a row for each pipeline of the
configs, operator and runtime; without files, of scikit-learn's two photographs. See docs/export.md.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

# Of ONNX's Resize: its mode, the cubic's coefficient (OpenCV's is -0.75, Pillow's -0.5), and
# whether it widens its filter where it makes an image smaller, as Pillow does.
OPERATORS = {
    'linear': ('linear', -0.75, 0),
    'linear, antialias': ('linear', -0.75, 1),
    'cubic': ('cubic', -0.75, 0),
    'cubic, antialias': ('cubic', -0.5, 1),
}
# What the configs' test pipelines do, as steps of a file's metadata, and the operators to try.
PIPELINES = {
    '`imagenet_224`: Pillow, bicubic, short side 256': (
        ('ResizeEdge', (256, 'short', 'bicubic', 'pillow')),
        ('cubic, antialias', 'cubic', 'linear'),
    ),
    '`image_folder`: OpenCV, bilinear, short side 256': (
        ('ResizeEdge', (256, 'short', 'bilinear', 'cv2')),
        ('linear', 'linear, antialias'),
    ),
    '`reid_folder`: OpenCV, bilinear, 128 x 256': (
        ('Resize', (128, 256, 'bilinear', 'cv2')),
        ('linear', 'linear, antialias'),
    ),
    '`digits`: OpenCV, bicubic, 32 x 32': (
        ('Resize', (32, 32, 'bicubic', 'cv2')),
        ('cubic', 'linear'),
    ),
}
HEADER = ('test pipeline', "ONNX's Resize", 'runtime', 'values that differ', 'mean', 'largest')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='check_resizing.py', description=__doc__.split('\n')[0])
    parser.add_argument('photographs', nargs='*', help="files; default: scikit-learn's two")
    return parser


def resizing_graph(operator: str, shape: tuple[int, ...], size: tuple[int, int]) -> bytes:
    """A graph from ``(1, H, W, 3)`` uint8 to ``(1, 3, *size)``, rounded, 0 to 255."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    mode, coefficient, antialias = OPERATORS[operator]
    constants = {'sizes': np.array([1, 3, *size]), 'low': np.float32(0), 'high': np.float32(255)}
    options = {
        'mode': mode,
        'cubic_coeff_a': coefficient,
        'antialias': antialias,
        'coordinate_transformation_mode': 'half_pixel',
    }
    nodes = [
        helper.make_node('Cast', ['image'], ['floats'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['floats'], ['planes'], perm=[0, 3, 1, 2]),
        helper.make_node('Resize', ['planes', '', '', 'sizes'], ['resized'], **options),
        helper.make_node('Round', ['resized'], ['rounded']),
        helper.make_node('Clip', ['rounded', 'low', 'high'], ['pixels']),
    ]
    graph = helper.make_graph(
        nodes,
        'resizing',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, *shape])],
        [helper.make_tensor_value_info('pixels', TensorProto.FLOAT, [1, 3, *size])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid('', 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def run_onnxruntime(graph: bytes, image):
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=['CPUExecutionProvider'])
    return session.run(None, {'image': image[None]})[0]


def run_openvino(graph: bytes, image):
    from effvit_mm.runtime.openvino_core import core

    return core().compile_model(core().read_model(graph), 'CPU')(image[None])[0]


def differences(step, operator: str, run, photographs: list):
    """Differences of all values of all photographs, in grey levels."""
    import numpy as np

    found = []
    for photograph in photographs:
        want = step(photograph)
        graph = resizing_graph(operator, photograph.shape, want.shape[:2])
        pixels = run(graph, photograph)[0].transpose(1, 2, 0)
        found.append(np.abs(pixels - want.astype(np.float32)).ravel())
    return np.concatenate(found)


def work(args: argparse.Namespace, session) -> None:
    """A row for each pipeline, operator and runtime."""
    from sklearn.datasets import load_sample_images

    from effvit_mm.runtime import pixels
    from effvit_mm.utils.images import load_image

    photographs = [load_image(path) for path in args.photographs]
    photographs = photographs or [rgb[..., ::-1].copy() for rgb in load_sample_images().images]
    print(f'| {" | ".join(HEADER)} |\n| {" | ".join(["---"] * 3 + ["---:"] * 3)} |', flush=True)
    runs = {'onnxruntime': run_onnxruntime, 'OpenVINO': run_openvino}
    for title, ((kind, values), operators) in PIPELINES.items():
        step = getattr(pixels, kind)(*values)
        for operator in operators:
            for runtime, run in runs.items():
                found = differences(step, operator, run, photographs)
                share, mean, largest = 100 * (found > 0).mean(), found.mean(), found.max()
                figures = f'{share:.2f} % | {mean:.2f} | {largest:g}'
                print(f'| {title} | {operator} | {runtime} | {figures} |', flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
