#!/usr/bin/env python
"""Export a trained network, deployed, and check the file against PyTorch before it is written.

Classifiers, re-ID models (the feature to search with) and detectors' backbones with their necks, by
name or by config. Examples: ``python tools/deployment/export.py pslt_tiny weights.safetensors --out
pslt_tiny.onnx`` and ``python tools/deployment/export.py CONFIG epoch_20.pth --format
openvino-int8 --out int8.xml``. See docs/export.md.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

MAX_IMAGES = 128  # to calibrate with
FORMER = {'int8': 'onnx-int8'}  # names of formats
# Arguments that say something to some formats alone, and the writer's option that each belongs to.
ONLY = {
    'any_size': 'any_size',
    'opset': 'opset',
    'calibration': 'calibration',
    'images': 'calibration',
}


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options, add_trust_checkpoint
    from effvit_mm.runtime import FORMATS

    parser = Parser(prog='export.py', description=__doc__.split('\n')[0])
    parser.add_argument('model', help='config file, or the name of a model (pslt_tiny)')
    parser.add_argument('checkpoint', nargs='?', help='its weights; without them: random ones')
    parser.add_argument(
        '--out', required=True, metavar='FILE', help='.onnx; torch, aoti: .pt2; openvino...: .xml'
    )
    parser.add_argument(
        '--format',
        choices=FORMATS,
        type=lambda name: FORMER.get(name, name),
        default='onnx',
        help='onnx; torch: a program of torch.export; aoti: machine code of AOTInductor; openvino; '
        'onnx-int8, openvino-int8: in eight bits (onnx)',
    )
    parser.add_argument(
        '--part',
        choices=('whole', 'backbone', 'neck', 'detector'),
        help='whole: logits or a feature; backbone: its maps; of detectors neck: backbone and '
        'neck, detector: boxes, scores, labels, masks (whole; of detectors neck)',
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="pixels; default: those of the config's test images, or of the published model",
    )
    parser.add_argument(
        '--any-size', action='store_true', help='let height and width vary where the network can'
    )
    parser.add_argument(
        '--preprocess',
        action='store_true',
        help='let the file take uint8 BGR images as OpenCV reads them: order of channels, mean and '
        'deviation go into the graph, resizing and cropping into its metadata',
    )
    parser.add_argument('--opset', type=int, help="version of ONNX's operators, 18 to 23 (20)")
    parser.add_argument(
        '--calibration', metavar='FOLDER', help="images for eight bits; default: the config's data"
    )
    parser.add_argument('--images', type=int, help=f'images for eight bits, at most ({MAX_IMAGES})')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raise where an argument does not belong to the format."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.runtime import FORMATS, check_opset

    for name, option in ONLY.items():
        formats = [kind for kind, row in FORMATS.items() if option in row.options]
        if getattr(args, name) not in (None, False) and args.format not in formats:
            flag = name.replace('_', '-')
            raise ConfigError(f'--{flag} goes with --format {" or ".join(formats)}')
    if 'calibration' in FORMATS[args.format].options and args.part == 'detector':
        raise ConfigError('--part detector: in eight bits --part neck and backbone are written')
    if args.opset is not None:
        check_opset(args.opset)


def work(args: argparse.Namespace, session) -> None:
    """Build, export, report; cancelled or failed it leaves no folder that was made for the file."""
    from effvit_mm.utils.files import folder_kept_with_file

    with folder_kept_with_file(args.out):
        export(args, session)


def export(args: argparse.Namespace, session) -> None:
    """Build, export, report."""
    from mmengine.logging import MMLogger

    from effvit_mm import runtime
    from effvit_mm.inference.export import load_network, needed_size

    check_arguments(args)
    target = runtime.FORMATS[args.format]
    runtime.check_target(args.out, target.suffix)
    for package in target.packages:  # before the minutes that the rest takes
        runtime.need(package)
    MMLogger.get_current_instance().setLevel('WARNING')
    loaded = load_network(
        args.model,
        args.checkpoint,
        args.part,
        args.cfg_options,
        args.trust_checkpoint,
        args.shape and tuple(args.shape),
        args.preprocess,
    )
    network, session.cfg = loaded.network, loaded.cfg
    size = needed_size(args.shape and tuple(args.shape), network.size, args.model)
    if args.checkpoint is None:
        print('no checkpoint was given: the weights are random')
    for note in network.notes():
        print(note)
    print('tracing, writing, comparing: for networks of many steps (PSLT) minutes', flush=True)
    options = {name: getattr(args, name) for name in ('any_size', 'opset')}
    options = {name: value for name, value in options.items() if value}
    eight_bits = 'calibration' in target.options
    if eight_bits:
        options |= calibration_options(args, loaded, size)
    result = target.write(network, args.out, size, **options)
    text = (describe_int8 if eight_bits else describe_checks)(result)
    least = runtime.find_shapes(network, size, args.any_size).least
    sides = size if least is None else [f'{least} or more'] * 2
    shape = ', '.join(map(str, network.layout.shape('batch', sides)))
    outputs = network.outputs if isinstance(network.outputs, str) else ', '.join(network.outputs)
    bytes_ = sum(file.stat().st_size for file in written_files(args.out))
    further = ''.join(f', {name}' for name in network.further_inputs(1))
    print(f'{network.title}: images ({shape}){further} to {outputs}\n{text}')
    print(f'wrote {args.out}, {bytes_ / 1e6:.1f} MB')


def calibration_options(args: argparse.Namespace, loaded, size: tuple[int, int]) -> dict:
    """Images for eight bits: to find ranges with, and to measure the cost on."""
    from effvit_mm.inference.calibration import find_calibration

    number = MAX_IMAGES if args.images is None else args.images
    calibration, comparison = find_calibration(loaded, size, number, args.calibration)
    return {'calibration': calibration, 'comparison': comparison}


def written_files(out: str) -> list[Path]:
    """The file, and OpenVINO's weights beside it."""
    path = Path(out)
    return [path, path.with_suffix('.bin')] if path.suffix == '.xml' else [path]


def describe_checks(checks) -> str:
    """One line of all comparisons with PyTorch."""
    differences = ', '.join(
        f'{check.difference:.1e} ({check.batch} x {check.size[0]} x {check.size[1]})'
        for check in checks
    )
    return f'largest difference from PyTorch over the largest value: {differences}'


def describe_int8(cost) -> str:
    """What quantisation cost and saves."""
    from effvit_mm.utils.processor import processor_features, processor_name

    lines = [
        f'ranges of {cost.calibrated} images; on {cost.compared} others the outputs differ from '
        f'float32 by {100 * cost.deviation:.2f} % (RMS), mean cosine {cost.cosine:.5f}'
    ]
    if cost.agreement is not None:
        lines.append(f'the same best class for {100 * cost.agreement:.2f} % of them')
    if cost.accuracy is not None:
        before, after = (100 * value for value in cost.accuracy)
        lines.append(f'top-1 {before:.2f} % in float32, {after:.2f} % in int8')
    before, after = (size / 1e6 for size in cost.sizes)
    lines.append(f'{before:.1f} MB in float32, {after:.1f} MB in int8')
    before, after = cost.seconds
    features = processor_features()
    known = ', '.join(features) or 'no known instructions'
    lines.append(
        f'{1e3 * before:.2f} ms an image in float32, {1e3 * after:.2f} ms in int8: '
        f'{after / before:.2f} ({processor_name()}: {known})'
    )
    if after >= before:
        why = '' if 'VNNI' in features else ', which has no VNNI'
        lines.append(f'eight bits are no faster than float32 on this processor{why}')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
