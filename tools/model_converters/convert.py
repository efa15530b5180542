#!/usr/bin/env python
"""Rename published weights to ours and write them as a checkpoint for our configs; or the reverse.

Example: ``python tools/model_converters/convert.py pslt_base.pth pslt_base out.safetensors``, and
``python tools/model_converters/convert.py epoch_300.pth levit_128s timm.safetensors --to timm``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SUFFIXES = ('.safetensors', '.pth')


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_trust_checkpoint

    parser = Parser(prog='convert.py', description=__doc__.split('\n')[0])
    parser.add_argument(
        'source',
        help='checkpoint (.pth, .safetensors), or its address: published, or ours for --to timm',
    )
    parser.add_argument('model', help='name of the model, e.g. pslt_base')
    parser.add_argument(
        'target',
        type=Path,
        nargs='?',
        help='file to write, .safetensors or .pth (MODEL.safetensors here, if there is none yet)',
    )
    parser.add_argument(
        '--to',
        choices=('ours', 'timm'),
        default='ours',
        help="names to write: ours (default), or timm's, for models with softmax attention alone "
        "(PSLT, which timm lacks: its authors')",
    )
    parser.add_argument(
        '--no-ema',
        dest='use_ema',
        action='store_false',
        help='take the weights without averaging where the checkpoint has both',
    )
    add_trust_checkpoint(parser)
    return parser


def write_weights(state: dict[str, torch.Tensor], target: Path) -> None:
    """Write the weights; the target is whole or absent, never half-written."""
    import torch
    from safetensors.torch import save_file

    from effvit_mm.utils.files import written_atomically

    with written_atomically(target) as temporary:
        if target.suffix == '.safetensors':
            save_file({name: value.contiguous() for name, value in state.items()}, temporary)
        else:
            torch.save({'state_dict': state}, temporary)


def work(args: argparse.Namespace, session) -> None:
    """Rename, see that a model takes all of it, write."""
    from effvit_mm import convert_state_dict, create_model, export_state_dict
    from effvit_mm.errors import ConfigError
    from effvit_mm.utils.files import check_writable
    from effvit_mm.weights import count_classes, get_state_dict, load_checkpoint, read_checkpoint
    from effvit_mm.weights.checkpoint import choose_weights

    target = args.target or Path(f'{args.model}.safetensors')
    if target.suffix not in SUFFIXES:
        raise ConfigError(f'target {target}: write to {" or ".join(SUFFIXES)}')
    if args.target is None and target.exists():
        raise ConfigError(f'target {target}: there is such a file; name one to write')
    check_writable(target.parent, f'target {target}')
    content = read_checkpoint(args.source, trust=args.trust_checkpoint)
    state = get_state_dict(content, str(args.source), args.use_ema)
    _, chosen = choose_weights(content, args.use_ema)
    rename = convert_state_dict if args.to == 'ours' else export_state_dict
    renamed = rename(state, args.model)
    ours = renamed if args.to == 'ours' else convert_state_dict(renamed, args.model)
    model = create_model(args.model, num_classes=count_classes(ours) or 0)
    report = load_checkpoint(model, ours, source=str(args.source))
    print(f'{report}; {chosen}' if chosen else report)
    write_weights(renamed, target)
    print(f'wrote {target}')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
