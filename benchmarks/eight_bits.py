"""Eight bits against float32 in the same runtime, in a Markdown table: accuracy, size, time.

Nothing is kept. Example: ``python -m benchmarks.eight_bits --model CONFIG CHECKPOINT --model CONFIG
CHECKPOINT --formats openvino-int8``; a name of ``list_models()`` or a config alone has random
weights, which tell its time.
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

MAX_IMAGES = 128  # to calibrate with
HEADER = ('model', 'format', 'pixels', 'top-1 in float32', 'in int8', 'same best class')
HEADER += ('outputs differ by', 'MB in float32', 'in int8', 'ms in float32', 'in int8', 'ratio')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options, add_trust_checkpoint
    from effvit_mm.runtime import FORMATS

    formats = [kind for kind, row in FORMATS.items() if 'calibration' in row.options]
    parser = Parser(prog='python -m benchmarks.eight_bits', description=__doc__.split('\n')[0])
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar='FILE',
        help='config or name, and its checkpoint; repeat for each model',
    )
    parser.add_argument('--formats', nargs='+', choices=formats, default=formats)
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='pixels, where a model does not say its own',
    )
    parser.add_argument(
        '--calibration', metavar='FOLDER', help="images to use; default: the config's data"
    )
    parser.add_argument(
        '--images', type=int, default=MAX_IMAGES, help=f'to calibrate with ({MAX_IMAGES})'
    )
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    """A row for each model and format, as they come."""
    from importlib.metadata import version

    from mmengine.logging import MMLogger

    from benchmarks.measure.report import describe_machine
    from effvit_mm.errors import ConfigError

    for files in args.model:
        if len(files) > 2:
            raise ConfigError(f'--model {" ".join(files)}: a model and one checkpoint are needed')
    MMLogger.get_current_instance().setLevel('WARNING')
    packages = ', '.join(f'{name} {version(name)}' for name in ('openvino', 'nncf', 'onnxruntime'))
    print(f'{describe_machine()}, {packages}; one image, medians in turns\n')
    print(f'| {" | ".join(HEADER)} |\n| {" | ".join(["---"] * 3 + ["---:"] * 9)} |', flush=True)
    for files in args.model:
        for kind in args.formats:
            print(f'| {" | ".join(row(args, kind, *files))} |', flush=True)


def row(args: argparse.Namespace, kind: str, model: str, checkpoint: str | None = None) -> list:
    """A model in one format."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.calibration import find_calibration
    from effvit_mm.inference.export import load_network
    from effvit_mm.runtime import FORMATS

    loaded = load_network(model, checkpoint, None, args.cfg_options, args.trust_checkpoint)
    size = loaded.network.size or tuple(args.shape or ())
    if not size:
        raise ConfigError(f"--shape H W is needed: {model} does not say its images' size")
    images = find_calibration(loaded, size, args.images, args.calibration)
    with TemporaryDirectory() as folder:
        path = Path(folder, 'model').with_suffix(FORMATS[kind].suffix)
        cost = FORMATS[kind].write(loaded.network, path, size, *images)
    return [f'`{loaded.network.title}`', kind, ' x '.join(map(str, size)), *cells(cost)]


def cells(cost) -> list[str]:
    """What eight bits cost and save, a cell each."""
    accuracy = ['-', '-'] if cost.accuracy is None else [f'{100 * v:.2f}' for v in cost.accuracy]
    before, after = cost.seconds
    return [
        *accuracy,
        '-' if cost.agreement is None else f'{100 * cost.agreement:.2f} %',
        f'{100 * cost.deviation:.2f} %',
        *(f'{size / 1e6:.1f}' for size in cost.sizes),
        f'{1e3 * before:.2f}',
        f'{1e3 * after:.2f}',
        f'{after / before:.2f}',
    ]


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.exit(main())
