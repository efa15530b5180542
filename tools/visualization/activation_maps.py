#!/usr/bin/env python
"""Show where in images the features of a trained re-ID model come from.

Writes to DIR a picture for each image: the image, and the same with what speaks for its feature in
red. Example: ``python tools/visualization/activation_maps.py CONFIG epoch_60.pth crops --out maps``
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_cfg_options, add_trust_checkpoint

    parser = Parser(prog='activation_maps.py', description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its weights: .pth or .safetensors')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='images, folders')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the pictures')
    parser.add_argument('--device', help='cpu, cuda:0; default: CUDA where there is one')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser


def work(args: argparse.Namespace, session) -> int:
    """Extract, draw and write; images that cannot be read are named, and make an exit code of 2."""
    from effvit_mm.openmm.console import import_quietly

    import_quietly('mmpretrain')
    from effvit_mm.errors import DataError
    from effvit_mm.inference import ReIDExtractor
    from effvit_mm.inference.faults import Faults
    from effvit_mm.inference.output import Names
    from effvit_mm.inference.reid import find_people
    from effvit_mm.utils.files import check_writable
    from effvit_mm.visualization.activations import activation_maps, overlay
    from effvit_mm.visualization.pictures import read_rgb, save_png

    images = find_people(args.inputs)
    check_writable(args.out, '--out')
    extractor = ReIDExtractor(
        args.config,
        args.checkpoint,
        device=args.device,
        deploy=False,
        cfg_options=args.cfg_options,
        trust_checkpoint=args.trust_checkpoint,
    )
    names = Names(Path(args.out), [image.path for image in images])
    faults = Faults()
    for image in images:
        try:
            loaded = extractor.load(image)
        except DataError as error:
            faults(error)
            continue
        maps = activation_maps(extractor.model, extractor.normalised([loaded]))
        picture = overlay(read_rgb(image.path), maps[0].cpu().numpy())
        save_png(picture, names.take(image.path, '.png'))
    drawn = len(images) - faults.count
    print(f'{drawn} images; wrote {args.out}')
    faults.conclude(drawn, args.out)
    return faults.exit_code


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    sys.exit(main())
