#!/usr/bin/env python
"""Export models by name and print a table: for which images, and how far from PyTorch's numbers.

Weights are random, those of norms and positions too, which hide mistakes at their initial values.
Nothing is kept. Example: ``python tools/deployment/check_exports.py 'pslt*' --formats onnx torch``
"""

import argparse
import sys
import time
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory

HEADER = ('model', 'format', 'images', 'largest difference', 'file', 'seconds')
MAKERS = ('onnx', 'openvino', 'aoti')  # that make graphs of one image
POSITIONS = ('table', 'rel_pos', 'pos_embed')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser
    from effvit_mm.runtime import FORMATS

    exact = [kind for kind, row in FORMATS.items() if 'calibration' not in row.options]
    parser = Parser(prog='check_exports.py', description=__doc__.split('\n')[0])
    parser.add_argument('patterns', nargs='*', default=['*'], help="models, e.g. 'pslt*' (all)")
    parser.add_argument('--formats', nargs='+', choices=exact, default=['onnx'])
    parser.add_argument(
        '--shape', type=int, nargs=2, metavar=('H', 'W'), help='pixels (of each published model)'
    )
    parser.add_argument(
        '--single', action='store_true', help='graphs of one image, as effvit_mm.compile() makes'
    )
    parser.add_argument(
        '--any-size', action='store_true', help='graphs for any size; else for --shape alone'
    )
    return parser


def as_trained(model) -> None:
    """Give norms and positions weights that hide nothing."""
    import torch
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.bias):
                nn.init.uniform_(tensor, -0.2, 0.2)
            for tensor in (module.running_var, module.weight):
                nn.init.uniform_(tensor, 0.6, 1.5)
    for name, parameter in model.named_parameters():
        if any(part in name for part in POSITIONS):
            with torch.no_grad():
                nn.init.normal_(parameter, std=0.5)


def build_network(name: str):
    """A model of the table with random weights, deployed."""
    import torch

    import effvit_mm
    from effvit_mm.inference.export import published_size
    from effvit_mm.runtime import DeployedNetwork

    torch.manual_seed(0)
    model = effvit_mm.create_model(name)
    as_trained(model)
    return DeployedNetwork(model, name, size=published_size(name))


def row(network, kind: str, size: tuple[int, int], any_size: bool, single: bool) -> list[str]:
    """A model in one format."""
    from effvit_mm.runtime import FORMATS, find_shapes

    suffix, write = FORMATS[kind][:2]
    options = {'single': True} if single else {}
    with TemporaryDirectory() as folder:
        path = Path(folder, network.title).with_suffix(suffix)
        start = time.perf_counter()
        checks = write(network, path, size, any_size=any_size, **options)
        seconds = time.perf_counter() - start
        least = find_shapes(network, size, any_size).least
        written = sum(file.stat().st_size for file in Path(folder).iterdir())
    images = f'{size[0]} x {size[1]}' if least is None else f'{least} pixels and more'
    return [
        f'`{network.title}`',
        kind,
        images,
        f'{max(check.difference for check in checks):.1e}',
        f'{written / 1e6:.1f} MB',
        f'{seconds:.0f}',
    ]


def work(args: argparse.Namespace, session) -> None:
    """A row for each model and format, as they come."""
    import effvit_mm
    from effvit_mm.errors import UserError

    if args.single and not set(args.formats) <= set(MAKERS):
        raise UserError(f'--single goes with --formats {", ".join(MAKERS)}')
    names = {pattern: effvit_mm.list_models(pattern) for pattern in args.patterns}
    for pattern, matches in names.items():
        if not matches:
            raise UserError(f'no model is called like {pattern!r}; see effvit_mm.list_models()')
    print(f'| {" | ".join(HEADER)} |\n| {" | ".join(["---", *["---:"] * 5])} |', flush=True)
    failed = False
    for name, kind in product(chain(*names.values()), args.formats):
        try:
            network = build_network(name)
            size = tuple(args.shape or network.size)
            cells = row(network, kind, size, args.any_size, args.single)
        except UserError as error:
            cells, failed = [f'`{name}`', kind, '', f'failed: {error}', '', ''], True
        print(f'| {" | ".join(cells)} |', flush=True)
    if failed:
        raise UserError('some exports failed, see the table')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
