#!/usr/bin/env python
"""Find objects in images, folders and videos with a trained detector; no data set is needed.

Writes to DIR as results come: detections.jsonl (a line for each image or frame), the images with
what was found in them under pictures/, and the videos under videos/. Example: ``python
tools/detect.py CONFIG epoch_18.pth photo.jpg folder clip.mp4 --out found``, or ``detector.onnx``
alone for the first two.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_inputs

    parser = Parser(prog='detect.py', description=__doc__.split('\n')[0])
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the results')
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score (0.3)')
    parser.add_argument('--no-pictures', action='store_true', help='write detections alone')
    add_inputs(parser, 'detector', '--part detector', batch_size=1)
    return parser


def work(args: argparse.Namespace, session) -> int:
    """Detect and write; images that cannot be used are named, and make an exit code of 2."""
    from effvit_mm.inference import DetInferencer
    from effvit_mm.inference.inputs import find_images
    from effvit_mm.inference.models import split_model
    from effvit_mm.inference.output import Faults, detect_into, to_json
    from effvit_mm.openmm.cli import runtime_arguments
    from effvit_mm.utils.files import LineFile, check_writable

    runtime = runtime_arguments(args)
    out = Path(args.out)
    checkpoint, names = split_model(args.model, args.inputs)
    inputs = find_images(names)  # before the model is built: a wrong name ends at once
    check_writable(out, '--out')
    detector = DetInferencer(
        args.model,
        checkpoint,
        device=args.device,
        deploy=not args.no_deploy,
        cfg_options=args.cfg_options,
        trust_checkpoint=args.trust_checkpoint,
        **runtime,
    )
    faults = Faults()
    results = detect_into(
        out,
        detector,
        inputs,
        faults,
        pictures=not args.no_pictures,
        batch_size=args.batch_size,
        score_thr=args.score_thr,
        progress=True,
    )
    images = objects = 0
    try:
        with LineFile(out / 'detections.jsonl') as lines:
            for result in results:
                lines.write(to_json(result))
                images, objects = images + 1, objects + len(result['boxes'])
    finally:  # also where it is cut short
        if images:
            print(f'{objects} objects in {images} images or frames; wrote {out}{faults}')
    return faults.exit_code


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
