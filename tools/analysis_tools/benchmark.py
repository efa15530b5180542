#!/usr/bin/env python
"""Time models side by side: latency, images a second, memory, multiply-adds, parameters.

For detectors from the uint8 image to the boxes after suppression, and of the backbone alone.
Example: ``OMP_NUM_THREADS=1 python tools/analysis_tools/benchmark.py
configs/pslt/retinanet_pslt-tiny_fpn_1x_coco.py configs/castling/retinanet_castling-levit-128s_fpn_1x_coco.py
--deploy --out benchmark.md``
"""  # noqa: E501

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py
HEADER = (
    'config', 'form', 'part', 'median', '25 to 75 %', 'images/s', 'memory', 'process',
    'multiply-adds', 'parameters',
)  # fmt: skip
NOTES = """\
{machine}, float32. {shape} pixels, {images} a batch; weights {weights}, images {image}.
Medians and quartiles of {repeats} passes of each after {warm_up} to warm up, all in turns (A B A B
...). Memory is the largest resident set of a process of its own (Linux's VmHWM, 10^9 bytes to the
GB) above that before its first pass; process is all of it, libraries and weights included.
Multiply-adds are of one image, padded as the network gets it; a second stage has all the boxes that
it takes at most.
"""


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.engine.cli import Parser, add_cfg_options

    parser = Parser(prog='benchmark.py', description=__doc__.split('\n')[0])
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='configs of detectors')
    parser.add_argument(
        '--checkpoints', nargs='+', metavar='FILE', help='weights, one for each config; or random'
    )
    parser.add_argument(
        '--shape', type=int, nargs=2, default=[800, 1333], metavar=('H', 'W'), help='pixels'
    )
    parser.add_argument('--image', help='image to be scaled to that; default: noise')
    parser.add_argument('--batch-size', type=int, default=1, help='images of a batch (1)')
    parser.add_argument('--threads', type=int, help='of PyTorch; default: its own choice')
    parser.add_argument('--warm-up', type=int, default=2, help='passes before the timed ones (2)')
    parser.add_argument('--repeats', type=int, default=20, help='timed passes of each part (20)')
    parser.add_argument(
        '--deploy', action='store_true', help='beside the form of training the deployed one'
    )
    parser.add_argument('--out', help='write the table to this .md or .json file')
    add_cfg_options(parser)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raise before anything is built."""
    from effvit_mm.engine.files import check_writable
    from effvit_mm.errors import ConfigError

    limits = {'batch_size': 1, 'threads': 1, 'repeats': 1, 'warm_up': 0}
    for name, least in limits.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f'--{name.replace("_", "-")} {value}: {least} or more is needed')
    if min(args.shape) < 32:
        raise ConfigError(f'--shape {args.shape[0]} {args.shape[1]}: 32 or more pixels are needed')
    if args.checkpoints is not None and len(args.checkpoints) != len(args.configs):
        raise ConfigError(
            f'--checkpoints: {len(args.configs)} are needed, one for each config, not '
            f'{len(args.checkpoints)}'
        )
    if args.out is not None:
        if not args.out.endswith(('.json', '.md')):
            raise ConfigError(f'--out {args.out}: a name ending in .json or .md is needed')
        check_writable(Path(args.out).parent, f'--out {args.out}')


def find_subjects(args: argparse.Namespace) -> list:
    """All that is to be measured, in the order of the table."""
    from effvit_mm.analysis.benchmark import Subject

    image = read_image(args.image, args.shape) if args.image else None
    checkpoints = args.checkpoints or [None] * len(args.configs)
    return [
        Subject(
            config, checkpoint, deploy, tuple(args.cfg_options), tuple(args.shape),
            args.batch_size, image,
        )
        for config, checkpoint in zip(args.configs, checkpoints, strict=True)
        for deploy in ((False, True) if args.deploy else (False,))
    ]  # fmt: skip


def read_image(path: str, shape: list[int]):
    """An image file as ``(3, H, W)`` uint8 of this size."""
    import cv2
    import torch

    from effvit_mm.datasets.loading import load_image

    array = cv2.resize(load_image(path), (shape[1], shape[0]))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def table_row(row) -> list[str]:
    """A row of the table as text."""
    return [
        f'`{Path(row.subject.config).stem}`',
        'deployed' if row.subject.deploy else 'as trained',
        row.part,
        f'{1000 * row.timing.median:.1f} ms',
        f'{1000 * row.timing.low:.1f} to {1000 * row.timing.high:.1f} ms',
        f'{row.images_per_second:.2f}',
        f'{row.memory / 1e9:.3f} GB',
        f'{row.process / 1e9:.2f} GB',
        f'{row.multiply_adds / 1e9:.2f} G',
        f'{row.parameters / 1e6:.3f} M',
    ]


def describe(args: argparse.Namespace) -> dict:
    """The circumstances, for the notes and for JSON."""
    from effvit_mm.analysis import describe_machine

    return {
        'shape': f'{args.shape[0]} x {args.shape[1]}',
        'images': args.batch_size,
        'repeats': args.repeats,
        'warm_up': args.warm_up,
        'machine': describe_machine(),
        'weights': 'of checkpoints' if args.checkpoints else 'random (next to nothing is found)',
        'image': args.image or 'noise',
    }


def work(args: argparse.Namespace, session, call: str) -> None:
    """Measure, print and write."""
    import logging

    import torch
    from mmengine.logging import MMLogger

    from effvit_mm.analysis.benchmark import measure
    from effvit_mm.analysis.tables import markdown_table
    from effvit_mm.engine.files import write_text

    check_arguments(args)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    rows = measure(find_subjects(args), args.repeats, args.warm_up)
    circumstances = describe(args)
    table = markdown_table(HEADER, [table_row(row) for row in rows])
    print(table + '\n' + NOTES.format(**circumstances))
    if args.out is None:
        return
    if args.out.endswith('.md'):
        notes = NOTES.format(**circumstances)
        text = f'# Benchmark\n\nWritten by `{call}`.\n\n{notes}\n{table}'
    else:
        found = [
            {
                **row._asdict(),
                'subject': {k: v for k, v in row.subject._asdict().items() if k != 'image'},
                'timing': row.timing._asdict(),
            }
            for row in rows
        ]
        text = json.dumps({**circumstances, 'command': call, 'rows': found}, indent=1) + '\n'
    write_text(args.out, text)
    print(f'wrote {args.out}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.engine.cli import run_guarded

    words = sys.argv[1:] if argv is None else argv
    call = ' '.join(['python tools/analysis_tools/benchmark.py', *words])
    return run_guarded(lambda args, session: work(args, session, call), make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
