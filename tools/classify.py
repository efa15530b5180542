#!/usr/bin/env python
"""Classify images, folders and videos with a trained classifier; no data set is needed.

Prints the best class of each image, or writes a table (.csv) or a line of JSON each (.jsonl), as
results come; --resume goes on with such a file.
Example: ``python tools/classify.py CONFIG epoch_20.pth photo.jpg folder --out classes.csv``, or
``classifier.onnx`` alone for the first two: a file of export.py --preprocess.
"""

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.inference.results import TOP
    from effvit_mm.openmm.cli import Parser, add_inputs

    parser = Parser(prog='classify.py', description=__doc__.split('\n')[0])
    parser.add_argument('--out', metavar='FILE', help='.csv or .jsonl; default: printed alone')
    parser.add_argument('--top', type=int, metavar='N', help=f'classes of each in a .jsonl ({TOP})')
    add_inputs(parser, 'classifier', '--preprocess', batch_size=32)
    return parser


def work(args: argparse.Namespace, session) -> int:
    """Classify and write; images that cannot be used are named, and make an exit code of 2."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference import Classification, Classifier
    from effvit_mm.inference.commands import model_files, open_results, prepare
    from effvit_mm.inference.results import TOP

    if args.top is not None and args.top < 1:
        raise ConfigError(f'--top {args.top}: 1 or more is needed')
    if args.top is not None and not (args.out or '').endswith('.jsonl'):
        raise ConfigError('--top goes with --out NAME.jsonl: elsewhere the best class stands alone')
    top = TOP if args.top is None else args.top
    command = prepare(args)
    made_with = {**model_files(command, args), 'top': top}
    file = open_results(
        args, args.out, Classification, made_with, lambda result: result.to_json(top)
    )
    classifier = Classifier(args.model, **command.model)
    count = 0
    results = classifier.run(
        command.found,
        args.batch_size,
        file is not None,
        command.on_fault,
        None if file is None else file.done,
    )
    try:
        with file or nullcontext():
            for _, result in results:
                if file is None:
                    print(describe(result))
                else:
                    file.write(result)
                count += 1
    finally:  # also where it is cut short
        total = count if file is None else count + file.kept
        if file is not None and total:
            print(f'{count} images or frames{file}; wrote {args.out}')
        command.faults.conclude(total, args.out or '')
    return command.faults.exit_code


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
