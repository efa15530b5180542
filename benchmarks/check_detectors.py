"""Train detectors for two steps and predict with them, at full size: memory, time, result.

Each config runs in a process of its own on synthetic images; no data set is needed. Exit code 0:
all work within the memory allowed; 1: some do not; 2: the command cannot be run. Example:
``OMP_NUM_THREADS=1 python -m benchmarks.check_detectors --out docs/detection_sizes.md``
"""

import argparse
import json
import sys
from pathlib import Path

PATTERNS = ('*/retinanet_*_1x_coco.py', '*/mask-rcnn_*_1x_coco.py')
HEADER = (
    'config', 'parameters', 'pixels', 'images a step', 'training step', 'memory, training',
    'prediction', 'memory, prediction', 'levels', 'result',
)  # fmt: skip
NOTES = """\
Each config is built, trained for {iterations} steps with its own optimizer, and predicts one image,
at each size; in a process of its own, on images of noise with 20 objects each, weights
random. Memory is the largest resident set of the whole process (Linux's VmHWM, 10^9 bytes to the
GB), libraries included: Python, PyTorch and mmdet take 0.7 GB of it before anything runs. Times
are of the last training step and of one prediction (normalisation, padding, network, suppression)
on whatever the machine had left: an impression, no benchmark. The loss must be finite, boxes finite
and inside the image, masks of its size. The levels are those of `extract_feat` for the image as it
is; elsewhere images are padded to a multiple of 32. Allowed were {limit:g} GB.
"""


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    parser = Parser(prog='python -m benchmarks.check_detectors', description=__doc__.split('\n')[0])
    parser.add_argument(
        'configs', nargs='*', help='configs of detectors; default: all of COCO with the 1x schedule'
    )
    parser.add_argument(
        '--sizes', nargs='+', default=['800x1333', '603x811'], metavar='N|HxW', help='in pixels'
    )
    parser.add_argument('--batch-size', type=int, help="images a step; default: the config's")
    parser.add_argument('--iterations', type=int, default=2, help='training steps (2)')
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch (1)')
    parser.add_argument('--limit', type=float, default=16, help='GB that each may take (16)')
    parser.add_argument('--out', help='write all of it to this .md or .json file')
    add_cfg_options(parser)
    return parser


def find_configs(args: argparse.Namespace) -> list[Path]:
    """The configs that were named, or all."""
    from effvit_mm.errors import ConfigError

    folder = Path(__file__).resolve().parents[1] / 'configs'
    paths = [Path(name) for name in args.configs]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f'config {path}: no such file')
    return paths or sorted(path for pattern in PATTERNS for path in folder.glob(pattern))


def check_arguments(args: argparse.Namespace) -> list[tuple[int, int]]:
    """The sizes as numbers."""
    from benchmarks.measure.arguments import check_out, check_positive
    from benchmarks.measure.workload import parse_size

    sizes = [parse_size(text) for text in args.sizes]
    check_positive(args, 'batch_size', 'iterations', 'threads', 'limit')
    check_out(args.out, '.json', '.md')
    return sizes


def check_config(path: Path, sizes: list[tuple[int, int]], args: argparse.Namespace) -> dict:
    """What was measured of a config, as JSON holds it; ``error`` is empty where all is well."""
    from benchmarks.measure.detector_check import check_detector
    from benchmarks.measure.isolation import GB, FailedError, OutOfBoundsError, run_isolated

    given = (str(path), args.cfg_options, sizes, args.batch_size, args.iterations, args.threads)
    try:
        check, _ = run_isolated(check_detector, *given, limit=int(args.limit * GB))
    except (FailedError, OutOfBoundsError) as error:
        if args.debug and isinstance(error, FailedError):
            print(error.details, file=sys.stderr)
        return {'config': path.stem, 'error': str(error), 'sizes': []}
    return {
        'config': path.stem,
        'error': '',
        'parameters': check.parameters,
        'batch_size': check.batch_size,
        'peak': check.peak,
        'sizes': [
            {'size': one.size, 'training': one.training._asdict(), **one.prediction._asdict()}
            for one in check.sizes
        ],
    }


def table_rows(result: dict) -> list[list[str]]:
    """Rows of the table: one for each size, or one that says what went wrong."""
    if result['error']:
        return [[f'`{result["config"]}`', *[''] * (len(HEADER) - 2), result['error']]]
    rows = []
    for index, one in enumerate(result['sizes']):
        rows.append([
            '' if index else f'`{result["config"]}`',
            '' if index else f'{result["parameters"] / 1e6:.3f} M',
            '{} x {}'.format(*one['size']),
            str(result['batch_size']),
            f'{one["training"]["seconds"]:.1f} s',
            f'{one["training"]["peak"] / 1e9:.2f} GB',
            f'{one["seconds"]:.1f} s',
            f'{one["peak"] / 1e9:.2f} GB',
            str(one['levels']),
            'ok',
        ])  # fmt: skip
    return rows


def write_report(path: Path, results: list[dict], args: argparse.Namespace, call: str) -> None:
    """All that was measured so far, as Markdown or JSON."""
    from benchmarks.measure.report import describe_machine, markdown_table
    from effvit_mm.utils.files import write_text

    if path.suffix == '.json':
        text = json.dumps({'machine': describe_machine(), 'results': results}, indent=1) + '\n'
    else:
        notes = NOTES.format(iterations=args.iterations, limit=args.limit)
        table = markdown_table(HEADER, [row for result in results for row in table_rows(result)])
        text = (
            f'# Detectors at full size\n\nWritten by `{call}` on {describe_machine()}.\n\n{notes}\n'
            f'{table}'
        )
    write_text(path, text)


def work(args: argparse.Namespace, session, call: str) -> int:
    """Check all configs; 1 where one of them failed."""
    import torch

    from benchmarks.measure.report import markdown_table

    sizes = check_arguments(args)
    torch.set_num_threads(args.threads)  # for the description of the machine
    results: list[dict] = []
    for path in find_configs(args):
        print(path.stem, end=' ', flush=True)
        results.append(check_config(path, sizes, args))
        result = results[-1]
        print(result['error'] or f'ok, at most {result["peak"] / 1e9:.2f} GB', flush=True)
        if args.out is not None:
            write_report(Path(args.out), results, args, call)
    print('\n' + markdown_table(HEADER, [row for result in results for row in table_rows(result)]))
    if args.out is not None:
        print(f'wrote {args.out}')
    return int(any(result['error'] for result in results))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from benchmarks.measure.arguments import command_line
    from effvit_mm.openmm.cli import run_guarded

    call = command_line('check_detectors', argv)
    return run_guarded(lambda args, session: work(args, session, call), make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
