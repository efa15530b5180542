#!/usr/bin/env python
"""Find a person in videos: where else was somebody, and when.

``person_search.py index VIDEOS... --detector CONFIG WEIGHTS --reid CONFIG WEIGHTS --out found``
follows all people and keeps their tracks; with ``--resume`` it goes on where it was interrupted, or
adds videos, with ``--overwrite`` it begins anew.
``person_search.py search found PERSON.jpg --camera 2 --from 10:00 --show found.png``
lists and draws the passages of those who look most like the person; ``--clip DIR`` cuts them out.
``person_search.py evaluate found --truth SEQUENCES --queries DIR`` judges it by a known truth;
``person_search.py evaluate-set prw DATA --detector CONFIG WEIGHTS --reid CONFIG WEIGHTS --out DIR``
judges a detector and re-ID on PRW, or on ``cuhk-sysu``, in their published layouts.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.openmm.cli import Parser, add_model_flags

    parser = Parser(prog='person_search.py', description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='{index,search,evaluate,evaluate-set}'
    )
    index = commands.add_parser('index', help='follow the people of videos and keep their tracks')
    add_index(index)
    search = commands.add_parser('search', help='search by pictures of a person')
    add_search(search)
    evaluate = commands.add_parser('evaluate', help='judge it, the truth being known')
    evaluate.add_argument('folder', help='folder that `index` wrote')
    evaluate.add_argument('--truth', required=True, help='folder of sequences with gt/gt.txt')
    evaluate.add_argument(
        '--queries', required=True, help="folder of people, named as Market-1501's: 0137_c1..."
    )
    evaluate.add_argument('--show', metavar='PNG', help='draw 8 rank lists on a sheet')
    data_set = commands.add_parser('evaluate-set', help='judge the models on PRW or CUHK-SYSU')
    add_data_set(data_set)
    for command in (search, evaluate):
        command.add_argument('--top', type=int, default=10, help='how many are shown (10)')
        command.add_argument(
            '--query-expansion',
            type=int,
            metavar='K',
            help='search by the mean with the K nearest tracks of all cameras',
        )
        command.add_argument(
            '--reid', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='where the model is now'
        )
    for command in (index, search, evaluate, data_set):
        add_model_flags(command)
    return parser


def add_index(parser: argparse.ArgumentParser) -> None:
    """The flags of ``index``."""
    from effvit_mm.inference.tracking_options import add_tracking
    from effvit_mm.reid.galleries import KINDS

    parser.add_argument('videos', nargs='+', metavar='VIDEO', help='file, or a folder as in MOT17')
    parser.add_argument(
        '--detector', nargs='+', metavar='FILE', help='config and weights, or an exported file'
    )
    parser.add_argument('--reid', nargs=2, required=True, metavar=('CONFIG', 'CHECKPOINT'))
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder of the tracks')
    parser.add_argument(
        '--cameras',
        nargs='+',
        type=int,
        metavar='N',
        help='number of each video (1, 2.., further ones where there are tracks)',
    )
    parser.add_argument(
        '--start', nargs='+', metavar='TIME', help='when each video, or all, begin: 9:58:00 (0:00)'
    )
    parser.add_argument(
        '--index',
        choices=KINDS,
        help='approximate: faster from a million tracks on; large: ten millions, on disk (exact)',
    )
    parser.add_argument(
        '--gallery',
        metavar='PLACE',
        help='where tracks are kept: a file NAME.db or an address of Milvus (a file in the folder)',
    )
    add_tracking(parser)


def add_search(parser: argparse.ArgumentParser) -> None:
    """The flags of ``search`` alone."""
    parser.add_argument('folder', help='folder that `index` wrote')
    parser.add_argument(
        'pictures',
        nargs='+',
        metavar='PICTURE',
        help="image of the person, cut out; a folder or a pattern ('*.jpg')",
    )
    parser.add_argument(
        '--camera', nargs='+', type=int, metavar='N', help='only tracks of these cameras'
    )
    parser.add_argument(
        '--not-camera',
        nargs='+',
        type=int,
        metavar='N',
        help='no tracks of these cameras, as of the one that the picture is from',
    )
    for flag, name, side in (('--from', 'begin', 'after'), ('--to', 'end', 'before')):
        parser.add_argument(
            flag,
            dest=name,
            metavar='TIME',
            help=f'only people who were there {side} this time: 10:00, 10:00:30',
        )
    parser.add_argument('--clip', metavar='DIR', help='cut the passages out of the videos')
    parser.add_argument('--show', metavar='PNG', help='draw what was found')


def add_data_set(parser: argparse.ArgumentParser) -> None:
    """The flags of ``evaluate-set``."""
    from effvit_mm.inference.tracking_options import add_resume

    parser.add_argument('name', choices=('prw', 'cuhk-sysu'))
    parser.add_argument('data', metavar='DIR', help='folder of the data set')
    for flag, files in (('--detector', '+'), ('--reid', 2)):
        parser.add_argument(
            flag, nargs=files, required=True, metavar='FILE', help='config and weights'
        )
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder of who is found')
    add_resume(parser)
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='what counts (people)')
    parser.add_argument('--batch-size', type=int, default=4, help='pictures of a batch (4)')
    parser.add_argument('--score-thr', type=float, default=0.5, help='least score of a box (0.5)')
    parser.add_argument(
        '--gallery-sizes', nargs='+', type=int, metavar='N', help="CUHK-SYSU's, 50 to 4000 (100)"
    )
    parser.add_argument(
        '--other-cameras', action='store_true', help="PRW: search in other cameras' frames alone"
    )


def work(args: argparse.Namespace, session) -> None:
    """Run one of the commands."""
    {
        'index': index_videos,
        'search': search_person,
        'evaluate': evaluate,
        'evaluate-set': evaluate_data_set,
    }[args.command](args)


def index_videos(args: argparse.Namespace) -> None:
    """Track all videos into the folder."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.commands import check_anew
    from effvit_mm.inference.footage import open_each
    from effvit_mm.inference.models import named_model
    from effvit_mm.inference.person_search import (
        GALLERY,
        TRACKS,
        UNFINISHED,
        WORK,
        PersonSearch,
        check_each,
        read_clock,
    )
    from effvit_mm.inference.track_files import has_results, settle
    from effvit_mm.inference.tracking_options import check_boxes, open_tracker, read_all_boxes

    if (args.detector is None) == (args.boxes is None):
        raise ConfigError('--detector, --boxes: exactly one of them gives the boxes')
    check_boxes(args.boxes, args.videos)
    stale = [Path(args.out) / name for name in (GALLERY, TRACKS, WORK, UNFINISHED)]
    check_anew(args.out, has_results(stale), args)
    gallery = place_of_gallery(args)
    model = None if args.detector is None else named_model('--detector', args.detector)
    starts = [read_clock(text) for text in args.start or ['0:00']]
    if len(starts) == 1:
        starts *= len(args.videos)
    check_each(len(args.videos), cameras=args.cameras, starts=starts)
    open_each(args.videos)  # before anything is overwritten
    boxes = read_all_boxes(args.boxes)
    tracker, settings = open_tracker(args, model, args.reid, pictures=True)
    settings['boxes'] = args.boxes is not None  # further videos have further files
    settings |= {'index': args.index, 'gallery': gallery}
    settle(Path(args.out), settings, args.resume, f'--out {args.out}', stale)
    people = PersonSearch(args.out, gallery=gallery, kind=args.index or 'exact')
    people.index(
        args.videos,
        tracker,
        cameras=args.cameras,
        starts=starts,
        boxes=boxes,
        progress=True,
    )
    count = 0 if people.gallery is None else len(people.gallery)
    print(f'{count} tracks in {args.out}; {tracker.report()}')


def place_of_gallery(args: argparse.Namespace) -> str | None:
    """What ``--gallery`` names, to be found from other folders too; None without it."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.track_files import SETTINGS
    from effvit_mm.inference.tracking_options import absolute
    from effvit_mm.reid.galleries import check_kind, is_there

    place = args.gallery
    check_kind(args.out if place is None else place, args.index or 'exact')
    own = args.resume and (Path(args.out) / SETTINGS).is_file()  # compared with it later
    if place is not None and not own and is_there(place):
        raise ConfigError(
            f'--gallery {place}: there is one, of another run: name another, or give --resume and '
            'the --out that it was made with'
        )
    return place if place is None or '://' in place else absolute(place)


def open_folder(args: argparse.Namespace):
    """The folder with the model that it was made with, or with one that was given."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.person_search import open_search
    from effvit_mm.openmm.cli import runtime_arguments

    if args.top < 1:
        raise ConfigError(f'--top {args.top}: 1 or more is needed')
    return open_search(
        args.folder,
        args.reid,
        **runtime_arguments(args),
        device=args.device,
        trust_checkpoint=args.trust_checkpoint,
    )


def read_expansion(args: argparse.Namespace):
    """What ``--query-expansion`` asks for; None without it."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.reid.expansion import QueryExpansion

    if args.query_expansion is None:
        return None
    if args.query_expansion < 1:
        raise ConfigError(f'--query-expansion {args.query_expansion}: 1 or more is needed')
    return QueryExpansion(args.query_expansion)


def search_person(args: argparse.Namespace) -> None:
    """Print, draw and cut out what is found for each picture."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.passages import as_shown, as_table, cut_passages
    from effvit_mm.inference.person_search import read_clock
    from effvit_mm.inference.reid import find_people
    from effvit_mm.utils.files import check_writable
    from effvit_mm.visualization.pictures import contact_sheet, save_png
    from effvit_mm.visualization.rank_lists import Shown, draw_rank_list

    times = {
        name: None if text is None else read_clock(text)
        for name, text in (('begin', args.begin), ('end', args.end))
    }
    if args.show is not None:
        if not args.show.endswith('.png'):
            raise ConfigError(f'--show {args.show}: a name ending in .png is needed')
        check_writable(Path(args.show).parent, f'--show {args.show}')
    if args.clip is not None:
        check_writable(args.clip, f'--clip {args.clip}')
    pictures = [str(image.path) for image in find_people(args.pictures)]
    expansion = read_expansion(args)
    people = open_folder(args)
    all_found = people.search(
        pictures,
        args.top,
        camera=args.camera,
        not_camera=args.not_camera,
        expansion=expansion,
        **times,
    )
    drawn = []
    for picture, found in zip(pictures, all_found, strict=True):
        if len(pictures) > 1:
            print(picture)
        print('\n'.join(as_table(found)))
        if args.show is not None:
            shown = [as_shown(track) for track in found]
            drawn.append(draw_rank_list(Shown(picture, [Path(picture).name]), shown))
        if args.clip is not None:
            place = Path(args.clip)
            place = place / Path(picture).stem if len(pictures) > 1 else place
            check_writable(place, f'--clip {args.clip}')
            for path in cut_passages(people, found, place):
                print(f'wrote {path}')
    if drawn:
        save_png(drawn[0] if len(drawn) == 1 else contact_sheet(drawn), args.show)
        print(f'wrote {args.show}')


def evaluate(args: argparse.Namespace) -> None:
    """Print how often the right person comes first, and mAP; draw some rank lists."""
    from effvit_mm.inference.search_evaluation import draw_queries, evaluate_search
    from effvit_mm.visualization.pictures import save_png

    expansion = read_expansion(args)
    people = open_folder(args)
    results = evaluate_search(people, args.queries, args.truth, expansion)
    right = sum(result.first for result in results)
    mean = sum(result.precision for result in results) / len(results)
    print(
        f'{right} of {len(results)} queries find the right person first, by another camera '
        f'({100 * right / len(results):.1f} %); person-search mAP {100 * mean:.1f} %'
    )
    if args.show is not None:
        save_png(draw_queries(results, min(args.top, 6)), args.show)
        print(f'wrote {args.show}')


def evaluate_data_set(args: argparse.Namespace) -> None:
    """Print mAP and top-1, top-5, top-10 of PRW, or of CUHK-SYSU with each size of gallery."""
    from effvit_mm.errors import ConfigError
    from effvit_mm.inference.commands import check_anew
    from effvit_mm.inference.frame_people import PEOPLE, FramePeople, evaluate_sets
    from effvit_mm.inference.models import named_model
    from effvit_mm.inference.track_files import has_results
    from effvit_mm.inference.tracking_options import absolute, open_models
    from effvit_mm.tracking.search_sets import read_cuhk_sysu, read_prw

    prw = args.name == 'prw'
    if prw and args.gallery_sizes:
        raise ConfigError("--gallery-sizes are CUHK-SYSU's, not PRW's")
    if not prw and args.other_cameras:
        raise ConfigError("--other-cameras is of PRW: CUHK-SYSU's cameras are not known")
    check_anew(args.out, has_results([Path(args.out) / PEOPLE]), args)
    sizes = args.gallery_sizes or [100]
    if prw:
        named = {'other cameras' if args.other_cameras else 'all frames':
                 read_prw(args.data, args.other_cameras)}  # fmt: skip
    else:
        named = {f'gallery of {size}': read_cuhk_sysu(args.data, size) for size in sizes}
    model = named_model('--detector', args.detector)
    people = FramePeople(
        *open_models(args, model, args.reid),
        args.out,
        {'detector': list(map(absolute, model)), 'cfg_options': list(args.cfg_options)},
        classes=args.classes,
        batch_size=args.batch_size,
    )
    figures = evaluate_sets(
        people, list(named.values()), args.score_thr, resume=args.resume, progress=True
    )
    for kind, found in zip(named, figures, strict=True):
        tops = ', '.join(
            f'top-{top} {100 * share:.2f} %'
            for top, share in ((1, found.top1), (5, found.top5), (10, found.top10))
        )
        left_out = f', {found.left_out} left out' if found.left_out else ''
        print(f'{kind}: mAP {100 * found.mAP:.2f} %, {tops} ({found.queries} queries{left_out})')


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
