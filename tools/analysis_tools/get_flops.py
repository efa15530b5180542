#!/usr/bin/env python
"""Print multiply-adds and parameters of a config's model, by part; no data set is needed.

Examples: ``python tools/analysis_tools/get_flops.py configs/pslt/pslt-tiny_8xb128_in1k.py --shape
224``; for detectors ``--shape 800 1280`` or so. Networks that sample tokens (e-attention) cost what
the image makes them cost; ``--cfg-options "model.backbone.sampled_blocks=()"`` drops no token.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options

    parser = Parser(prog='get_flops.py', description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file, or the name of a model (pslt_tiny)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        default=[224],
        metavar='N',
        help='input size in pixels: a side, or height and width (detectors: multiples of 32)',
    )
    add_cfg_options(parser)
    return parser


def build_model(config: str, options: list[str], session):
    """The model of a config file, or of our table of names, without weights."""
    from mmengine.logging import MMLogger
    from mmengine.registry import MODELS, init_default_scope

    import effvit_mm
    from effvit_mm.errors import ConfigError
    from effvit_mm.openmm.config.building import building
    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.trained import find_classes

    if config in effvit_mm.list_models():
        if options:
            raise ConfigError(f'--cfg-options: {config} is the name of a model, not a config')
        return effvit_mm.create_model(config)
    cfg = session.cfg = load_config(config, options)
    MMLogger.get_current_instance().setLevel('WARNING')
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    find_classes(cfg, config)
    with building(cfg, 'model'):
        return MODELS.build(cfg.model)


def work(args: argparse.Namespace, session) -> None:
    from effvit_mm.errors import ConfigError
    from effvit_mm.flops import flops_by_module, zeros
    from effvit_mm.openmm.flops import TensorPass

    shape = ' '.join(map(str, args.shape))
    if len(args.shape) > 2 or min(args.shape) < 1:
        raise ConfigError(f'--shape {shape}: one or two positive numbers are needed')
    model = build_model(args.config, args.cfg_options, session)
    height, width = args.shape[0], args.shape[-1]
    named = session.cfg is None
    network, prefix = (model, '') if named else (TensorPass(model), 'model.')
    try:
        counts = flops_by_module(network, zeros(model, (3, height, width)))
    except ValueError as error:  # of the network, which knows what it can take
        raise ConfigError(f'--shape {shape}: {error}') from error
    print_table(f'{args.config} at {height} x {width}', model, counts, prefix)


def print_table(title: str, model, counts: dict[str, Counter[str]], prefix: str) -> None:
    """Operators, then parts, then all."""
    from rich.console import Console
    from rich.table import Table

    from effvit_mm.flops import count_parameters, flops_of

    table = Table(title=title)
    table.add_column('')
    table.add_column('multiply-adds', justify='right')
    table.add_column('parameters', justify='right')
    for operator, count in counts[''].most_common():
        table.add_row(operator, f'{count / 1e9:.3f} G')
    table.add_section()
    for name, part in model.named_children():
        flops, parameters = flops_of(prefix + name, counts), count_parameters(part)
        if flops or parameters:
            table.add_row(name, f'{flops / 1e9:.3f} G', f'{parameters / 1e6:.3f} M')
    table.add_section()
    total = counts[''].total()
    table.add_row('all', f'{total / 1e9:.3f} G', f'{count_parameters(model) / 1e6:.3f} M')
    Console().print(table)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
