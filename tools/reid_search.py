#!/usr/bin/env python
"""Search for a person in a folder of cut-out people, with a trained re-ID model.

``reid_search.py index FOLDER --config CONFIG --checkpoint epoch_60.pth --out gallery`` makes a
gallery of all images in the folder and below it; ``reid_search.py search gallery PICTURE --top 10
--show out.png`` lists and draws those that look most like the person of the picture; with a folder
in its place, for each of its pictures (``--out found.csv``: as a table). ``--resume`` goes on with
what an interrupted run has written, and adds to a gallery; ``--overwrite`` begins it anew.
"""

import argparse
import os
import re
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py

# Beside a gallery: with what it was made; its features as they come, until it is whole.
MADE_WITH, PARTIAL = '.model.json', '.partial.jsonl'


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.inference.commands import add_overwrite
    from effvit_mm.openmm.cli import Parser, add_inference

    parser = Parser(prog='reid_search.py', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True, metavar='{index,search}')
    index = commands.add_parser('index', help='make a gallery of a folder')
    index.add_argument('folder', help='its images, and those of its subfolders')
    index.add_argument(
        '--config', required=True, help='config of the model; or a file of export.py --preprocess'
    )
    index.add_argument('--checkpoint', help='weights of a config: .pth or .safetensors')
    index.add_argument(
        '--out',
        required=True,
        metavar='GALLERY',
        help='file of the gallery; a folder with --index large; NAME.db or an address, as in '
        'http://localhost:19530, for one in Milvus',
    )
    index.add_argument(
        '--index',
        choices=('exact', 'approximate', 'large'),
        default='exact',
        help='approximate: faster in galleries of a million; large: ten millions, on disk (exact)',
    )
    index.add_argument('--distance', choices=('cosine', 'euclidean'), default='cosine')
    add_overwrite(index)
    search = commands.add_parser('search', help='search a gallery with pictures')
    search.add_argument('gallery', help='gallery that `index` wrote')
    search.add_argument(
        'pictures',
        nargs='+',
        metavar='PICTURE',
        help="image of the person, a folder or a pattern ('*.jpg')",
    )
    search.add_argument('--out', metavar='FILE', help='write what is found, too: .csv or .jsonl')
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
        add_inference(command, batch_size=32, subfolders=command is search)
    return parser


def work(args: argparse.Namespace, session) -> int:
    """Index or search; images that cannot be read are named, and make an exit code of 2."""
    from effvit_mm.openmm.console import import_quietly

    import_quietly('mmpretrain')
    return (make_gallery if args.command == 'index' else search_gallery)(args)


def make_gallery(args: argparse.Namespace) -> int:
    """Extract the features of a folder and write the gallery, of what can be read of it."""
    from effvit_mm.errors import DataError
    from effvit_mm.inference import ReIDExtractor
    from effvit_mm.inference.commands import (
        check_anew,
        fault_handling,
        model_arguments,
        unless_alone,
    )
    from effvit_mm.inference.inputs import find_images
    from effvit_mm.inference.track_files import has_results
    from effvit_mm.reid.galleries import check_kind
    from effvit_mm.utils.files import check_writable
    from effvit_mm.utils.image_files import list_images

    check_kind(args.out, args.index)
    begun = in_memory(args) and has_results([Path(args.out), beside(args.out, PARTIAL)])
    check_anew(args.out, begun, args)
    arguments = model_arguments(args)
    folder = Path(args.folder).resolve()
    if not folder.is_dir():
        raise DataError(f'folder {args.folder}: no such folder')
    found = list_images(folder)
    files, left_out = found.images, found.left_out(folder)
    if not files:
        raise DataError(f'folder {args.folder} has no images{left_out and "; "}{left_out}')
    if left_out:
        print(left_out)
    check_writable(beside(args.out, MADE_WITH).parent, f'--out {args.out}')
    model = {
        'config': str(Path(args.config).resolve()),
        'checkpoint': args.checkpoint and str(Path(args.checkpoint).resolve()),
        'flip': args.flip,
        'cfg_options': args.cfg_options,
    }
    faults, on_fault = fault_handling(args)
    images = find_images(files)
    on_fault = unless_alone(images, on_fault)
    extractor = ReIDExtractor(**{**arguments, **model})
    written = open_writer(args, extractor)
    results = extractor.run(images, args.batch_size, True, on_fault, written.done)
    count = 0
    try:
        with written:
            # One by one, so that no signal comes between a feature and its name.
            for _, result in results:
                written.write(result)
    finally:  # also where it is cut short
        if written.count:
            finish_gallery(written, args, model)
            others = len(written.there - set(map(str, files)))
            beside_others = f', beside {others} others' if others else ''
            count = written.count - others
            print(f'{count} of {len(files)} images in {args.out}{beside_others}')
        faults.conclude(count, args.out)
    beside(args.out, PARTIAL).unlink(missing_ok=True)
    return faults.exit_code


def open_writer(args: argparse.Namespace, extractor):
    """Where features go: a file that makes a gallery in memory, or a gallery on disk."""
    from effvit_mm.inference.gallery_writer import GalleryWriter, open_again
    from effvit_mm.inference.partial_features import PartialFeatures

    if in_memory(args):
        there = args.resume and Path(args.out).exists()
        settings = {'index': args.index, 'distance': args.distance}
        gallery = open_again(args.out, extractor, settings) if there else None
        return PartialFeatures(beside(args.out, PARTIAL), extractor, args.resume, gallery)
    return GalleryWriter(args.out, extractor, args.index, args.distance, args.resume)


def in_memory(args: argparse.Namespace) -> bool:
    """Whether the gallery is made in memory, and then written to a file."""
    from effvit_mm.reid.galleries import LARGE, is_database

    return args.index != LARGE and not is_database(args.out)


def finish_gallery(written, args: argparse.Namespace, model: dict) -> None:
    """Write a gallery that was made in memory, and beside any with what it was made."""
    import json

    from effvit_mm.inference import PersonFeatures
    from effvit_mm.reid.search import Gallery
    from effvit_mm.utils.files import write_text

    if in_memory(args):
        features, gallery = PersonFeatures(written.results), written.gallery
        if gallery is None:
            gallery = Gallery(
                features.width, features.model, index=args.index, distance=args.distance
            )
        if written.results:
            gallery.add(features)
            gallery.save(args.out)
    write_text(beside(args.out, MADE_WITH), json.dumps(model, indent=1))


def search_gallery(args: argparse.Namespace) -> int:
    """Extract the pictures' features, search, print, draw: a ranking for each picture."""
    from contextlib import nullcontext

    from effvit_mm.errors import ConfigError
    from effvit_mm.inference import ReIDExtractor
    from effvit_mm.inference.commands import (
        fault_handling,
        model_arguments,
        open_results,
        unless_alone,
    )
    from effvit_mm.inference.reid import find_people
    from effvit_mm.inference.results import Matches
    from effvit_mm.inference.track_files import SETTINGS
    from effvit_mm.reid.galleries import closing, open_gallery

    if args.top < 1:
        raise ConfigError(f'--top {args.top}: 1 or more is needed')
    arguments = model_arguments(args)
    faults, on_fault = fault_handling(args)
    found = find_people(args.pictures, args.subfolders, on_fault)
    on_fault = unless_alone(found, on_fault)
    pictures = [image.path for image in found]
    names = check_show(args, pictures)
    if args.pattern is not None and not args.other_cameras:
        raise ConfigError(f'--pattern {args.pattern}: it goes with --other-cameras')
    if (Path(args.gallery) / SETTINGS).is_file():
        raise ConfigError(
            f'{args.gallery} holds tracks of people in videos: to search them use '
            'person_search.py search'
        )
    made_with = {'gallery': args.gallery, 'top': args.top, 'other_cameras': args.other_cameras}
    file = open_results(args, args.out, Matches, made_with)
    gallery = open_gallery(args.gallery)
    known = label(gallery, [str(path) for path in pictures], args) if args.other_cameras else {}
    extractor = ReIDExtractor(**{**arguments, **read_model(args)})
    given = (lambda image: False) if file is None else file.done

    def done(image) -> bool:
        """Whether a picture's ranking is written; its drawing has its name then."""
        there = given(image)
        if there and names is not None:
            names.take(image.path, '.png')
        return there

    count = 0 if file is None else file.kept
    with closing(gallery), file or nullcontext():
        for image, result in extractor.run(found, args.batch_size, False, on_fault, done):
            picture = str(image.path)
            indices, distances = nearest(gallery, result, known.get(picture), args)
            if len(pictures) > 1:
                print(picture)
            show = None if args.show is None else Path(args.show)
            if names is not None:
                show = names.take(image.path, '.png')
            print_ranking(gallery, picture, indices, distances, show)
            if file is not None:
                paths = gallery.take(indices)[0].paths
                file.write(Matches(result.image, None, list(paths), distances))
            count += 1
    if file is not None:
        print(f'wrote {args.out}')
    faults.conclude(count, args.out or '')
    return faults.exit_code


def check_show(args: argparse.Namespace, pictures: list[Path]):
    """Names for the drawings of several pictures; None where there is one, or none is drawn."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.output import Names
    from effvit_mm.utils.files import check_writable

    if args.show is None:
        return None
    several = len(pictures) > 1
    if several == args.show.endswith('.png'):
        needed = 'a folder' if several else 'a name ending in .png'
        raise ConfigError(f'--show {args.show}: {needed} is needed; pictures: {len(pictures)}')
    folder = Path(args.show) if several else Path(args.show).parent
    check_writable(folder, f'--show {args.show}')
    return Names(folder, pictures) if several else None


def nearest(gallery, result, labels: tuple[int, int] | None, args: argparse.Namespace):
    """Places in the gallery, nearest first, and their distances, of a picture."""
    import numpy as np

    from effvit_mm.inference import PersonFeatures

    features = PersonFeatures([result])
    if labels is not None:
        features.pids, features.camids = np.array([labels]).T
    (indices,), (distances,) = gallery.search(features, args.top, other_cameras=args.other_cameras)
    there = indices >= 0
    return indices[there], distances[there]


def print_ranking(gallery, picture: str, indices, distances, show: Path | None) -> None:
    """A line for each image found, nearest first; drawn into ``show``."""
    from effvit_mm.visualization.rank_lists import Shown, caption, save_rank_list

    ranked, images = [], gallery.take(indices)[0]
    found = zip(images.paths, images.pids, images.camids, distances, strict=True)
    for place, (path, person, camera, distance) in enumerate(found, start=1):
        print(f'{place:3d}  {distance:.4f}  {path}')
        names = caption(person, camera)
        ranked.append(Shown(path, [Path(path).name, *names, f'{distance:.3f}']))
    if show is not None:
        save_rank_list(show, Shown(picture, [Path(picture).name]), ranked)
        print(f'wrote {show}')


def label(gallery, pictures: list[str], args: argparse.Namespace) -> dict[str, tuple[int, int]]:
    """Tell the gallery persons and cameras by its file names; gives those of the pictures."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.reid.names import label_files
    from effvit_mm.reid.search import Gallery

    if not isinstance(gallery, Gallery):
        raise ConfigError(
            f'--other-cameras: names tell the cameras of a gallery in memory, which {args.gallery} '
            'is not'
        )
    labels = label_files([*gallery.paths, *pictures], args.pattern)
    count = len(gallery)
    gallery.label(*(values[:count] for values in labels))
    asked = zip(*(values[count:].tolist() for values in labels), strict=True)
    return dict(zip(pictures, asked, strict=True))


def beside(gallery: str, suffix: str) -> Path:
    """A file beside a gallery; of an address, in the current folder."""
    if '://' in gallery:
        return Path(re.sub(r'\W+', '_', gallery.partition('://')[2]) + suffix)
    return Path(gallery).with_name(Path(gallery).name + suffix)


def read_model(args: argparse.Namespace) -> dict:
    """The extractor's arguments: what the gallery was made with, or what was given instead."""
    import json

    from effvit_mm.errors import ConfigError, DataError
    from effvit_mm.runtime.exported_detector import is_exported

    names = ('config', 'checkpoint', 'cfg_options', 'flip')
    path = beside(args.gallery, MADE_WITH)
    model = {'config': None, 'checkpoint': None}
    if path.is_file():
        try:
            model = json.loads(path.read_text(encoding='utf-8'))
            model = {key: model[key] for key in names}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path} cannot be read: {error}') from error
    given = {name: getattr(args, name) for name in names}
    model.update({key: value for key, value in given.items() if value})
    config = model['config']
    if config is None or (model['checkpoint'] is None and not is_exported(config)):
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
