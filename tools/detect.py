#!/usr/bin/env python
"""Find objects in images, folders and videos with a trained detector; no data set is needed.

Writes as results come: into DIR detections.jsonl (a line for each image or frame), the images with
what was found in them under pictures/, and the videos under videos/; or one file alone, .csv (a row
for each object) or .jsonl; --resume goes on with what is there. Example: ``python tools/detect.py
CONFIG epoch_18.pth photo.jpg folder clip.mp4 --out found``, or ``detector.onnx`` alone for config
and weights.
"""

import argparse
import math
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_inputs

    parser = Parser(prog='detect.py', description=__doc__.split('\n')[0])
    parser.add_argument(
        '--out',
        required=True,
        metavar='DIR',
        help='folder of the results; or a .csv, .jsonl file',
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score (0.3)')
    parser.add_argument('--no-pictures', action='store_true', help='write detections alone')
    add_inputs(parser, 'detector', '--part detector', batch_size=1)
    return parser


def best_below(score: float, threshold: float) -> str:
    """The best score that was left out, cut to three digits so that it stays below; none of 0."""
    cut = math.floor(score * 1000) / 1000
    return f'; the best score is {cut:g}, below --score-thr {threshold:g}' if score else ''


def work(args: argparse.Namespace, session) -> int:
    """Detect and write; images that cannot be used are named, and make an exit code of 2."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference import Detection, Detector
    from effvit_mm.inference.commands import model_files, open_results, prepare
    from effvit_mm.inference.output import detect_into
    from effvit_mm.inference.result_files import SUFFIXES
    from effvit_mm.inference.videos import Live

    out = Path(args.out)
    alone = out.suffix in SUFFIXES
    command = prepare(args)
    place = out if alone else out / 'detections.jsonl'
    made_with = {**model_files(command, args), 'score_thr': args.score_thr}
    file = open_results(args, place, Detection, made_with)
    pictures = not (alone or args.no_pictures)
    if pictures and (live := [one.name for one in command.found if isinstance(one, Live)]):
        raise ConfigError(
            f'--out {out}: pictures of {live[0]} are not written: add --no-pictures, or give a '
            f'name ending in {" or ".join(SUFFIXES)}'
        )
    detector = Detector(args.model, **command.model)
    options = {
        'batch_size': args.batch_size,
        'score_thr': args.score_thr,
        'masks': out.suffix != '.csv',
        'progress': True,
    }
    given = {'found': command.found, 'on_fault': command.on_fault, 'done': file.done}
    if pictures:
        results = detect_into(out, detector, **given, **options)
    else:
        results = (result for _, result in detector.run(**given, **options))
    images, objects, below = 0, 0, 0.0
    try:
        with file:
            for result in results:
                file.write(result)
                images, objects = images + 1, objects + len(result)
                below = max(below, result.left_out or 0.0)
    finally:  # also where it is cut short
        if images or file.kept:
            best = '' if objects else best_below(below, args.score_thr)
            print(f'{objects} objects in {images} images or frames{file}{best}; wrote {out}')
        command.faults.conclude(images + file.kept, str(out))
    return command.faults.exit_code


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
