#!/usr/bin/env python
"""List the models that can be built by name, with their parameters.

``models.py 'pslt*'`` lists those whose names match; ``effvit_mm.create_model(name)`` builds one.
"""

import argparse
import sys
from pathlib import Path


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser

    parser = Parser(prog='models.py', description=__doc__.split('\n')[0])
    parser.add_argument('pattern', nargs='?', default='*', help="as in a shell: 'pslt*' (all)")
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Print a line a model: its name and millions of parameters, without weights in memory."""
    import torch

    from effvit_mm.errors import ConfigError
    from effvit_mm.models import MODEL_TABLE, create_model, list_models
    from effvit_mm.utils.text import suggest

    names = list_models(args.pattern)
    if not names:
        hint = suggest(args.pattern.strip('*'), MODEL_TABLE)
        hint = hint or '; without a name all are listed'
        raise ConfigError(f'{args.pattern}: no model has such a name{hint}')
    for name in names:
        with torch.device('meta'):
            count = sum(p.numel() for p in create_model(name).parameters())
        print(f'{name:30} {count / 1e6:7.2f} M parameters')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
