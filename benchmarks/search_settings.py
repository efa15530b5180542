"""Settings of person search tried on films made for it.

Neither cameras nor people of them are those to train on, nor those that ``make demo-search``
searches for. A row for each choice, with true boxes and with the detector's: how often the right
track comes first, mAP, tracking's figures. Example: ``python -m benchmarks.search_settings --out
DIR --detector CONFIG FILE --reid CONFIG FILE --options score_thr=0.3 score_thr=0.4,certain=0.6
--query-expansion 0 1``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.random import RandomState

from effvit_mm.inference.detector import Detector
from effvit_mm.inference.footage import open_footage
from effvit_mm.inference.person_search import PersonSearch
from effvit_mm.inference.reid import ReIDExtractor
from effvit_mm.inference.search_evaluation import evaluate_search
from effvit_mm.inference.tracking import VideoTracker
from effvit_mm.reid.expansion import QueryExpansion
from effvit_mm.sample_data.folders import make_once
from effvit_mm.sample_data.walker_films import Film, Place, Stand, plan_walks
from effvit_mm.sample_data.walker_scenes import GAP, SEED, make_camera, write_film
from effvit_mm.sample_data.walkers import draw_people
from effvit_mm.tracking.metrics import evaluate_tracks, find_truths
from effvit_mm.tracking.mot import FrameBoxes, read_boxes
from effvit_mm.tracking.options import TrackOptions

PLACES = (
    Place(31, make_camera((92, 6, 2), (6, 90, 4), (2, 8, 92), 6, 96, 1, 124), 114, (68, 122),
          (Stand(110, 160, 28, 50), Stand(30, 46, 44, 82))),
    Place(32, make_camera((80, 10, 6), (4, 86, 8), (4, 8, 98), 12, 102, 1, 116), 108, (64, 126),
          (Stand(220, 262, 26, 55),)),
    Place(33, make_camera((94, 4, 0), (6, 102, 4), (0, 6, 84), -2, 94, 1, 128), 120, (70, 118),
          (Stand(70, 118, 30, 60), Stand(170, 184, 52, 44))),
)  # fmt: skip
PEOPLE, GROUPS, FIRST = 20, 2, 301
LEAST_SCORE = 0.05

Boxes = Sequence[Mapping[int, FrameBoxes]]


def make_films(folder: Path, group: int) -> Path:
    """Three films of twenty people, with truth and queries."""

    def build(place: Path) -> None:
        people = draw_people(RandomState(SEED + 3 + group), PEOPLE)
        for number, camera in enumerate(PLACES, start=1):
            generator = RandomState(SEED + camera.seed + 100 * group)
            walks = plan_walks(generator, camera, PEOPLE, GAP)
            write_film(place, number, Film(camera, people, walks), FIRST)

    return make_once(folder, build)


def detect(detector: Detector, films: Sequence[Path]) -> Boxes:
    """All boxes of each film."""
    return [
        {
            frame: FrameBoxes(found.boxes, found.scores)
            for frame, found in enumerate(
                detector.stream((image.array for image in open_footage(film)), 4, LEAST_SCORE)
            )
        }
        for film in films
    ]


def judge(
    films: Path,
    boxes: Boxes,
    extractor: ReIDExtractor,
    options: TrackOptions,
    expansions: Sequence[int],
    out: Path,
) -> dict[int, list[float]]:
    """By each number of neighbours that queries are expanded by: percent of queries whose track
    comes first, mAP, and tracking's HOTA, MOTA and IDF1."""
    people = PersonSearch(out, extractor)
    tracker = VideoTracker(None, extractor, options, pictures=True)
    people.index(sorted(films.glob('WS-*')), tracker, boxes=boxes)
    tracks = evaluate_tracks(find_truths(films), out / 'tracks')['all']
    rows = {}
    for k in expansions:
        expansion = QueryExpansion(k) if k else None
        found = evaluate_search(people, films / 'queries', films, expansion)
        first, mean = np.mean([(one.first, one.precision) for one in found], axis=0)
        rows[k] = [100 * first, 100 * mean, tracks.HOTA, tracks.MOTA, tracks.IDF1]
    return rows


def read_options(text: str) -> TrackOptions:
    """Of ``score_thr=0.4,certain=0.6``; ``default`` for those of the package."""
    pairs = [] if text == 'default' else [pair.split('=') for pair in text.split(',')]
    kinds = {name: type(value) for name, value in vars(TrackOptions()).items()}
    return TrackOptions(**{name: kinds[name](value) for name, value in pairs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0], allow_abbrev=False)
    parser.add_argument('--out', type=Path, required=True, help='a folder that is not there yet')
    parser.add_argument('--detector', nargs=2, required=True, metavar='FILE')
    parser.add_argument('--reid', nargs=2, required=True, metavar='FILE')
    parser.add_argument('--options', nargs='+', default=['default'])
    parser.add_argument('--query-expansion', nargs='+', type=int, default=[0, 1], metavar='K')
    args = parser.parse_args()
    detector, extractor = Detector(*args.detector), ReIDExtractor(*args.reid)
    rows: dict[tuple[str, str, int], list[list[float]]] = {}
    for group in range(GROUPS):
        films = make_films(args.out / f'films{group}', group)
        folders = sorted(films.glob('WS-*'))
        kinds = {
            'true boxes': [read_boxes(folder / 'gt' / 'gt.txt') for folder in folders],
            'detector': detect(detector, folders),
        }
        for kind, boxes in kinds.items():
            for number, text in enumerate(args.options):
                place = args.out / f'{kind.split()[0]}{group}_{number}'
                options, expansions = read_options(text), args.query_expansion
                for k, found in judge(films, boxes, extractor, options, expansions, place).items():
                    rows.setdefault((kind, text, k), []).append(found)
    print('| boxes | options | expanded by | first | mAP | HOTA | MOTA | IDF1 |')
    print('| :-- | :-- |' + ' --: |' * 6)
    for (kind, text, k), values in rows.items():
        cells = ' | '.join(f'{value:.1f}' for value in np.mean(values, axis=0))
        print(f'| {kind} | {text} | {k} | {cells} |')


if __name__ == '__main__':
    main()
