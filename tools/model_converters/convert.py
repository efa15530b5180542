"""Rename published weights to ours and write them as a checkpoint for our configs; or the reverse.

Example: ``python tools/model_converters/convert.py pslt_base.pth pslt_base out.safetensors``, and
``python tools/model_converters/convert.py epoch_300.pth levit_128s out.pth --to timm``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

import effvit_mm
from effvit_mm.checkpoint import get_state_dict, load_weights, read_checkpoint
from effvit_mm.errors import CheckpointError, UserError

RENAME = {'ours': effvit_mm.convert_state_dict, 'timm': effvit_mm.export_state_dict}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'source',
        type=Path,
        help='checkpoint (.pth, .safetensors): published, or ours for --to timm',
    )
    parser.add_argument('model', help='name of the model, e.g. pslt_base')
    parser.add_argument('target', type=Path, help='file to write (.pth or .safetensors)')
    parser.add_argument(
        '--to',
        choices=('ours', 'timm'),
        default='ours',
        help="names to write: ours (default), or timm's, for models with softmax attention alone "
        "(PSLT, which timm lacks: its authors')",
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle everything in the source; can run code, only for files you trust',
    )
    return parser.parse_args(argv)


def build(name: str, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The model, with as many classes as the weights' head; without a head where they have none."""
    matrices = (v for k, v in weights.items() if k.startswith('head.') and v.ndim == 2)
    return effvit_mm.create_model(name, num_classes=len(next(matrices, ())))


def write_weights(state: dict[str, torch.Tensor], target: Path) -> None:
    """Write the weights; the target is whole or absent, never half-written."""
    if target.suffix not in ('.pth', '.safetensors'):
        raise CheckpointError(f'target {target}: write to .pth or .safetensors')
    if not os.access(target.resolve().parent, os.W_OK):
        raise CheckpointError(f'target {target}: its folder is missing or not writable')
    part = target.with_name(f'.{target.name}.part')
    try:
        if target.suffix == '.safetensors':
            save_file({name: value.contiguous() for name, value in state.items()}, part)
        else:
            torch.save({'state_dict': state}, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        content = read_checkpoint(args.source, trust=args.trust_checkpoint)
        state = get_state_dict(content, source=str(args.source))
        renamed = RENAME[args.to](state, args.model)
        ours = renamed if args.to == 'ours' else effvit_mm.convert_state_dict(renamed, args.model)
        print(load_weights(build(args.model, ours), ours, source=str(args.source)))
        write_weights(renamed, args.target)
    except (UserError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'wrote {args.target}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
