#!/usr/bin/env python
"""Search for a person in a folder of cut-out people, with a trained re-ID model.

``reid_search.py index FOLDER --config CONFIG --checkpoint epoch_60.pth --out gallery`` makes a
gallery of all images in the folder and below it; ``reid_search.py search gallery PICTURE --top 10
--show out.png`` lists and draws those that look most like the person of the picture; with a folder
in its place, for each of its pictures.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

# Beside a gallery: with what it was made.
MADE_WITH = '.model.json'


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_inference

    parser = Parser(prog='reid_search.py', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True, metavar='{index,search}')
    index = commands.add_parser('index', help='make a gallery of a folder')
    index.add_argument('folder', help='its images, and those of its subfolders')
    index.add_argument('--config', required=True, help='config of the model')
    index.add_argument('--checkpoint', required=True, help='its weights: .pth or .safetensors')
    index.add_argument('--out', required=True, metavar='GALLERY', help='file of the gallery')
    index.add_argument(
        '--index',
        choices=('exact', 'approximate'),
        default='exact',
        help='approximate: faster in galleries of millions (exact)',
    )
    index.add_argument('--distance', choices=('cosine', 'euclidean'), default='cosine')
    index.add_argument('--batch-size', type=int, default=32, help='images of a batch (32)')
    search = commands.add_parser('search', help='search a gallery with pictures')
    search.add_argument('gallery', help='file that index wrote')
    search.add_argument('picture', help='image of the person, or a folder of such')
    search.add_argument('--top', type=int, default=10, help='how many are found (10)')
    search.add_argument(
        '--show', metavar='PNG', help='draw picture and found images; a folder for several'
    )
    search.add_argument(
        '--other-cameras',
        action='store_true',
        help="leave out images of the picture's person by its own camera, as the evaluation does; "
        'where names do not tell persons, all by this camera',
    )
    search.add_argument(
        '--pattern',
        metavar='REGEX',
        help="of file names: groups cam and, where persons are told, pid; default: Market-1501's",
    )
    search.add_argument('--config', help='where the model is now, if not where it was')
    search.add_argument('--checkpoint', help='the same of its weights')
    for command in (index, search):
        command.add_argument('--flip', action='store_true', help='average over the mirror image')
        add_inference(command)
    return parser


def work(args: argparse.Namespace, session) -> int:
    """Index or search; images that cannot be read are named, and make an exit code of 2."""
    from effvit_mm.openmm.console import import_quietly

    import_quietly('mmpretrain')
    return (make_gallery if args.command == 'index' else search_gallery)(args)


def make_gallery(args: argparse.Namespace) -> int:
    """Extract the features of a folder and write the gallery, of what can be read of it."""
    from effvit_mm.errors import DataError
    from effvit_mm.inference.output import Faults
    from effvit_mm.inference.reid import ReIDExtractor
    from effvit_mm.openmm.cli import runtime_arguments
    from effvit_mm.reid.vector_index import import_faiss
    from effvit_mm.utils.files import check_writable
    from effvit_mm.utils.image_files import list_images

    if args.index == 'approximate':
        import_faiss()  # before an hour of extraction
    out, folder = Path(args.out), Path(args.folder).resolve()
    if not folder.is_dir():
        raise DataError(f'folder {args.folder}: no such folder')
    found = list_images(folder)
    files, left_out = found.images, found.left_out(folder)
    if not files:
        raise DataError(f'folder {args.folder} has no images{left_out and "; "}{left_out}')
    if left_out:
        print(left_out)
    check_writable(out.parent, f'--out {out}')
    model = {
        'config': str(Path(args.config).resolve()),
        'checkpoint': str(Path(args.checkpoint).resolve()),
        'flip': args.flip,
        'cfg_options': args.cfg_options,
    }
    extractor = ReIDExtractor(
        **model,
        **runtime_arguments(args),
        device=args.device,
        trust_checkpoint=args.trust_checkpoint,
    )
    parts, faults = [], Faults()
    try:
        # One by one, so that no signal comes between a feature and its name.
        for part in extractor.stream(files, args.batch_size, progress=True, on_fault=faults):
            parts.append(part)
    finally:  # also where it is cut short
        if parts:
            save_gallery(parts, args, model)
            print(f'{sum(map(len, parts))} of {len(files)} images in {out}{faults}')
    return faults.exit_code


def save_gallery(parts: list, args: argparse.Namespace, model: dict) -> None:
    """Write features as a gallery, and beside it with what they were made."""
    import json

    from effvit_mm.reid.search import Gallery
    from effvit_mm.utils.files import write_text

    first, out = parts[0], Path(args.out)
    gallery = Gallery(first.width, first.model, index=args.index, distance=args.distance)
    for part in parts:
        gallery.add(part)
    gallery.save(out)
    write_text(made_with(out), json.dumps(model, indent=1))


def search_gallery(args: argparse.Namespace) -> int:
    """Extract the pictures' features, search, print, draw: a ranking for each picture."""
    import numpy as np

    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.output import Faults, Names
    from effvit_mm.inference.reid import ReIDExtractor, find_people
    from effvit_mm.openmm.cli import runtime_arguments
    from effvit_mm.reid.search import Gallery
    from effvit_mm.utils.files import check_writable

    if args.top < 1:
        raise ConfigError(f'--top {args.top}: 1 or more is needed')
    pictures = [image.path for image in find_people(args.picture)]
    several = len(pictures) > 1
    if args.show is not None:
        if several == args.show.endswith('.png'):
            needed = 'a folder' if several else 'a name ending in .png'
            raise ConfigError(f'--show {args.show}: {needed} is needed; pictures: {len(pictures)}')
        folder = Path(args.show) if several else Path(args.show).parent
        check_writable(folder, f'--show {args.show}')
        names = Names(folder, pictures)
    if args.pattern is not None and not args.other_cameras:
        raise ConfigError(f'--pattern {args.pattern}: it goes with --other-cameras')
    gallery = Gallery.load(args.gallery)
    known = label(gallery, [str(path) for path in pictures], args) if args.other_cameras else {}
    extractor = ReIDExtractor(
        **read_model(args),
        **runtime_arguments(args),
        device=args.device,
        trust_checkpoint=args.trust_checkpoint,
    )
    faults = Faults()
    for features in extractor.stream(pictures, on_fault=faults):
        if known:
            features.pids, features.camids = np.array([known[path] for path in features.paths]).T
        found = gallery.search(features, args.top, other_cameras=args.other_cameras)
        found = zip(features.paths, *found, strict=True)
        for picture, indices, distances in found:
            if several:
                print(picture)
            show = None if args.show is None else Path(args.show)
            if several and show is not None:
                show = names.take(Path(picture), '.png')
            print_ranking(gallery, picture, indices, distances, show)
    return faults.exit_code


def print_ranking(gallery, picture: str, indices, distances, show: Path | None) -> None:
    """A line for each image found, nearest first; drawn into ``show``."""
    from effvit_mm.visualization.rank_lists import Shown, caption, save_rank_list

    ranked = []
    for place, (index, distance) in enumerate(zip(indices, distances, strict=True), start=1):
        if index < 0:
            break
        path = gallery.paths[index]
        print(f'{place:3d}  {distance:.4f}  {path}')
        names = caption(gallery.pids[index], gallery.camids[index])
        ranked.append(Shown(path, [Path(path).name, *names, f'{distance:.3f}']))
    if show is not None:
        save_rank_list(show, Shown(picture, [Path(picture).name]), ranked)
        print(f'wrote {show}')


def label(gallery, pictures: list[str], args: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """Tell the gallery persons and cameras by its file names; gives those of the pictures."""
    from effvit_mm.reid.names import label_files

    labels = label_files([*gallery.paths, *pictures], args.pattern)
    count = len(gallery)
    gallery.label(*(values[:count] for values in labels))
    asked = zip(*(values[count:].tolist() for values in labels), strict=True)
    return dict(zip(pictures, asked, strict=True))


def made_with(gallery: Path) -> Path:
    """The file that says with which model a gallery was made."""
    return gallery.with_name(gallery.name + MADE_WITH)


def read_model(args: argparse.Namespace) -> dict:
    """The extractor's arguments: what the gallery was made with, or what was given instead."""
    import json

    from effvit_mm.errors import ConfigError, DataError

    names = ('config', 'checkpoint', 'cfg_options', 'flip')
    path = made_with(Path(args.gallery))
    model = {'config': None, 'checkpoint': None}
    if path.is_file():
        try:
            model = json.loads(path.read_text(encoding='utf-8'))
            model = {key: model[key] for key in names}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path} cannot be read: {error}') from error
    given = {name: getattr(args, name) for name in names}
    model.update({key: value for key, value in given.items() if value})
    for key in ('config', 'checkpoint'):
        if model[key] is None:
            raise ConfigError(f'{path} is missing: give the model by --config and --checkpoint')
    return model


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
