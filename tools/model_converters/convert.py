"""Rename published weights to ours and write them as a checkpoint for our configs.

Example: ``python tools/model_converters/convert.py pslt_base.pth pslt_base out.safetensors``
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


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', type=Path, help='published checkpoint (.pth, .safetensors)')
    parser.add_argument('model', help='name of the model, e.g. pslt_base')
    parser.add_argument('target', type=Path, help='file to write (.pth or .safetensors)')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle everything in the source; can run code, only for files you trust',
    )
    return parser.parse_args(argv)


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
        ours = effvit_mm.convert_state_dict(state, args.model)
        classes = ours['head.fc.bias'].numel() if 'head.fc.bias' in ours else 0
        model = effvit_mm.create_model(args.model, num_classes=classes)
        print(load_weights(model, ours, source=str(args.source)))
        write_weights(ours, args.target)
    except (UserError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'wrote {args.target}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
