"""The flags that tools which follow people share, and what is built of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from ..openmm.cli import runtime_arguments
from ..runtime.exported_detector import is_exported
from ..tracking.mot import FrameBoxes, read_boxes
from ..tracking.options import TrackOptions
from .commands import add_overwrite
from .models import split_model

if TYPE_CHECKING:
    from .detector import Detector
    from .reid import ReIDExtractor
    from .tracking import VideoTracker

HELP = {
    'score_thr': 'least score of a box',
    'certain': 'least score of a box that begins a track',
    'lost': 'seconds without a box after which a piece of a way has ended',
    'min_iou': 'overlap of a box with where a piece is expected, from which on it may continue it',
    'period': 'seconds, of each of which the best picture of a person gives a feature',
    'min_frames': 'pieces of fewer frames that were looked at are left out',
    'max_gap': 'seconds between pieces that are joined by what they look like',
    'max_distance': 'cosine distance up to which they are',
    'every': 'of so many frames one is looked at, and the others are filled in',
}


def add_tracking(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument(
        '--boxes', nargs='+', metavar='FILE', help='a file for each video instead of a detector'
    )
    parser.add_argument('--classes', nargs='+', metavar='NAME', help='what is followed (people)')
    parser.add_argument('--batch-size', type=int, default=4, help='frames of a batch (4)')
    add_resume(parser)
    for field in fields(TrackOptions):
        parser.add_argument(
            f'--{field.name.replace("_", "-")}',
            type=type(field.default),
            default=field.default,
            help=f'{HELP[field.name]} ({field.default})',
        )


def add_resume(parser: argparse.ArgumentParser) -> None:
    """``--resume`` and ``--overwrite``."""
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on where a run was interrupted, or add to what it found',
    )
    add_overwrite(parser)


def split_inputs(
    inputs: Sequence[str], boxes: Sequence[str] | None
) -> tuple[tuple[str, str | None] | None, list[str]]:
    """A command line's detector (config and checkpoint; None with boxes of files) and videos.

    Raises:
        ConfigError: There is no video behind the detector, or not a file of boxes for each.
    """
    if boxes is not None:
        check_boxes(boxes, inputs)
        return None, list(inputs)
    model, *rest = inputs
    if not rest:
        needed = 'a video' if is_exported(model) else 'weights and a video'
        raise ConfigError(f'{model}: after it {needed} are needed, or --boxes without a detector')
    checkpoint, videos = split_model(model, rest)
    return (model, checkpoint), [str(video) for video in videos]


def check_boxes(files: Sequence[str] | None, videos: Sequence[str]) -> None:
    """Raise a ConfigError where there is not a file of boxes for each video."""
    if files is not None and len(files) != len(videos):
        raise ConfigError(f'--boxes: {len(files)} files for {len(videos)} videos')


def read_all_boxes(files: Sequence[str] | None) -> list[Mapping[int, FrameBoxes]] | None:
    """Boxes for each video; None where a detector finds them.

    Raises:
        DataError: A file cannot be read, or has no box.
    """
    if files is None:
        return None
    found = [read_boxes(file) for file in files]
    for file, boxes in zip(files, found, strict=True):
        if not boxes:
            raise DataError(f'--boxes {file}: no box in it')
    return found


def open_tracker(
    args: argparse.Namespace,
    model: tuple[str, str | None] | None,
    reid: Sequence[str] | None,
    **more: Any,
) -> tuple[VideoTracker, dict[str, Any]]:
    """The tracker of the flags, and what its results depend on, as plain values."""
    from .tracking import VideoTracker

    options = TrackOptions(**{f.name: getattr(args, f.name) for f in fields(TrackOptions)})
    if args.batch_size < 1:
        raise ConfigError(f'--batch-size {args.batch_size}: 1 or more is needed')
    if args.boxes is not None and args.classes is not None:
        raise ConfigError('--classes goes with a detector, not with --boxes')
    tracker = VideoTracker(
        *open_models(args, model, reid),
        options,
        classes=args.classes,
        batch_size=args.batch_size,
        **more,
    )
    settings = {
        'detector': None if model is None else [absolute(path) for path in model],
        'boxes': None if args.boxes is None else [absolute(path) for path in args.boxes],
        'reid': None if reid is None else [absolute(path) for path in reid],
        'classes': args.classes,
        'cfg_options': list(args.cfg_options),
        **asdict(options),
    }
    return tracker, settings


def open_models(
    args: argparse.Namespace, model: tuple[str, str | None] | None, reid: Sequence[str] | None
) -> tuple[Detector | None, ReIDExtractor | None]:
    """Detector and extractor of the flags; None where there is none."""
    from .detector import Detector
    from .reid import ReIDExtractor

    common = {
        **runtime_arguments(args),
        'device': args.device,
        'trust_checkpoint': args.trust_checkpoint,
    }
    detector = None if model is None else Detector(*model, **common, cfg_options=args.cfg_options)
    extractor = None if reid is None else ReIDExtractor(*reid, **common)
    return detector, extractor


def absolute(path: str | None) -> str | None:
    """A path wherever one stands."""
    return None if path is None else str(Path(path).resolve())
