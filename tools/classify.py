#!/usr/bin/env python
"""Classify images, folders and videos with a trained classifier; no data set is needed.

Prints the best class of each image, or writes a table (.csv) or a line of JSON each (.jsonl), as
results come.
Example: ``python tools/classify.py CONFIG epoch_20.pth photo.jpg folder --out classes.csv``, or
``classifier.onnx`` alone for the first two: a file of export.py --preprocess.
"""

import argparse
import csv
import os
import sys
from contextlib import nullcontext
from io import StringIO
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

SUFFIXES = ('.csv', '.jsonl')
COLUMNS = ('image', 'frame', 'label', 'name', 'score')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_inputs

    parser = Parser(prog='classify.py', description=__doc__.split('\n')[0])
    parser.add_argument('--out', metavar='FILE', help='.csv or .jsonl; default: printed alone')
    parser.add_argument('--top', type=int, default=5, help='classes of each in a .jsonl (5)')
    add_inputs(parser, 'classifier', '--preprocess', batch_size=32)
    return parser


def work(args: argparse.Namespace, session) -> int:
    """Classify and write; images that cannot be used are named, and make an exit code of 2."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference import Classifier
    from effvit_mm.inference.inputs import find_images
    from effvit_mm.inference.models import split_model
    from effvit_mm.inference.output import Faults
    from effvit_mm.openmm.cli import runtime_arguments
    from effvit_mm.utils.files import LineFile, check_writable

    if args.top < 1:
        raise ConfigError(f'--top {args.top}: 1 or more is needed')
    out = None if args.out is None else Path(args.out)
    if out is not None and out.suffix not in SUFFIXES:
        raise ConfigError(f'--out {out}: a name ending in {" or ".join(SUFFIXES)} is needed')
    runtime = runtime_arguments(args)
    checkpoint, names = split_model(args.model, args.inputs)
    find_images(names)  # before the model is built: a wrong name ends at once
    if out is not None:
        check_writable(out.parent, '--out')
    classifier = Classifier(
        args.model,
        checkpoint,
        device=args.device,
        deploy=not args.no_deploy,
        cfg_options=args.cfg_options,
        trust_checkpoint=args.trust_checkpoint,
        **runtime,
    )
    faults, count = Faults(), 0
    lines = nullcontext() if out is None else LineFile(out)
    try:
        with lines as opened:
            write = writer(opened, out, args.top)
            for result in classifier.stream(names, args.batch_size, out is not None, faults):
                write(result)
                count += 1
    finally:  # also where it is cut short
        if out is not None and count:
            print(f'{count} images or frames; wrote {out}{faults}')
    return faults.exit_code


def writer(lines, out: Path | None, top: int):
    """A function that writes or prints a result."""
    if out is None:
        return lambda result: print(describe(result))
    if out.suffix == '.jsonl':
        return lambda result: lines.write(result.to_json(top))
    lines.write(row(COLUMNS))
    return lambda result: lines.write(row(result.to_dict(1)[column] for column in COLUMNS))


def row(cells) -> str:
    """A line of a table."""
    text = StringIO()
    csv.writer(text, lineterminator='').writerow(cells)
    return text.getvalue()


def describe(result) -> str:
    """One line: file, frame, class, score."""
    frame = '' if result.frame is None else f' frame {result.frame}'
    return f'{result.image}{frame}: {result.name} {100 * result.score:.1f} %'


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
