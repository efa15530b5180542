#!/usr/bin/env python
"""Follow people through videos: MOT Challenge text for each video, and drawn videos.

``python tools/track.py CONFIG epoch_8.pth a.mp4 b.avi --out tracks --draw``, or an exported
detector alone for the first two. With ``--reid CONFIG CHECKPOINT`` pieces of a way that look alike
are joined. With ``--boxes FILE`` (MOT Challenge or COCO, one for each video) no detector is needed.
A folder with ``seqinfo.ini``, as MOT17 has it, is a video too. ``--resume`` goes on where a run was
interrupted, or adds videos; ``--overwrite`` begins anew.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault('GOMP_SPINCOUNT', '10000')  # see tools/test.py


def make_parser() -> argparse.ArgumentParser:
    from effvit_mm.inference.tracking_options import add_tracking
    from effvit_mm.openmm.cli import Parser, add_model_flags

    parser = Parser(prog='track.py', description=__doc__.split('\n')[0])
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help='config and weights of a detector, or a file of export.py --part detector; then '
        'videos. With --boxes videos alone',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the results')
    parser.add_argument('--draw', action='store_true', help='write videos with the tracks drawn')
    parser.add_argument(
        '--reid', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='join by what people look like'
    )
    add_tracking(parser)
    add_model_flags(parser)
    return parser


def work(args: argparse.Namespace, session) -> None:
    """Track each video; what is finished is left as it is with ``--resume``."""
    from effvit_mm.inference.commands import check_anew
    from effvit_mm.inference.drawn_tracks import draw_tracks_into
    from effvit_mm.inference.footage import footage_names, open_footage
    from effvit_mm.inference.track_files import has_results, name_videos, settle
    from effvit_mm.inference.tracking_options import open_tracker, read_all_boxes, split_inputs
    from effvit_mm.tracking.mot import read_mot, write_mot

    out = Path(args.out)
    model, videos = split_inputs(args.inputs, args.boxes)
    footage = [open_footage(video) for video in videos]
    names = name_videos(out / 'work', videos, footage) if args.resume else footage_names(videos)
    stale = [out / 'work', *(out / f'{name}{end}' for name in names for end in ('.txt', '.mp4'))]
    check_anew(out, has_results(stale), args)
    boxes = read_all_boxes(args.boxes) or [None] * len(videos)
    tracker, settings = open_tracker(args, model, args.reid)
    settle(out, settings, args.resume, f'--out {out}', stale)
    for name, video, known in zip(names, footage, boxes, strict=True):
        path = out / f'{name}.txt'
        if not (args.resume and path.is_file()):
            tracks = tracker(
                video, out / 'work' / name, boxes=known, resume=args.resume, progress=True
            )
            write_mot(path, tracks)
        tracks = read_mot(path)
        print(f'{path}: {len(tracks)} tracks')
        drawn = out / f'{name}.mp4'
        if args.draw and not (args.resume and drawn.is_file()):
            draw_tracks_into(drawn, video, tracks)
            print(f'wrote {drawn}')
    print(tracker.report())


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    from effvit_mm.openmm.cli import run_guarded

    return run_guarded(work, make_parser, argv)


if __name__ == '__main__':
    sys.path[:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
