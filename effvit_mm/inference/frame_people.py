"""Who is in whole pictures: found by a detector, described by re-ID, kept in a file as it comes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..tracking.search_figures import FoundPeople, SearchFigures, judge_search
from ..tracking.search_sets import SearchSet
from ..utils.files import LineFile
from ..utils.images import cut_out, load_image
from .detector import Detector
from .progress import with_progress
from .reid import ReIDExtractor
from .track_files import settle, whole_lines
from .tracking import chosen_labels

PEOPLE = 'people.jsonl'
LEAST_SCORE = 0.05  # boxes from here on are kept; which of them count is said when judging


class FramePeople:
    """Finds and describes the people of pictures, and writes a line for each picture.

    Args:
        detector: Finds them.
        extractor: Describes them.
        folder: Of the file ``people.jsonl``.
        made_by: What else results depend on, as plain values: the detector's files and options.
        classes: Names of the detector's classes that count; default: those that mean people, or
            all where there is none.
        batch_size: Pictures that go through the detector together.

    Raises:
        ConfigError: A class that the detector does not have, or the folder cannot be written.
    """

    def __init__(
        self,
        detector: Detector,
        extractor: ReIDExtractor,
        folder: str | Path,
        made_by: Mapping[str, Any],
        *,
        classes: Sequence[str] | None = None,
        batch_size: int = 4,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f'batch_size={batch_size}: 1 or more is needed')
        self.detector, self.extractor = detector, extractor
        self.folder, self.made_by, self.batch_size = Path(folder), dict(made_by), batch_size
        self.labels = chosen_labels(detector.classes, classes)

    def __call__(
        self, images: Path, names: Sequence[str], resume: bool = False, progress: bool = False
    ) -> dict[str, FoundPeople]:
        """Who is in each picture.

        Args:
            images: Their folder.
            names: Their names in it, each once.
            resume: Go on with what an interrupted call left, results being the same; or with what
                a call for some of the pictures found.
            progress: Say how far it is: a bar on a terminal, else lines.

        Raises:
            ConfigError: What is there is of other models or of another folder.
            DataError: A picture cannot be read.
        """
        settings = {
            'pictures': str(images.resolve()),
            **self.made_by,
            'reid': self.extractor.identity,
            'preparation': self.extractor.preparation,
            'labels': self.labels,
            'batch_size': self.batch_size,
        }
        path = self.folder / PEOPLE
        settle(self.folder, settings, resume, f'folder {self.folder}', [path])
        rows, size = whole_lines(path)
        found = {row['image']: _from_row(row) for row in rows}
        # Batches are those of an undisturbed call, and so are the results, to the last bit.
        batches = [
            names[start : start + self.batch_size]
            for start in range(0, len(names), self.batch_size)
        ]
        batches = [batch for batch in batches if not found.keys() >= set(batch)]
        doing = 'finding people, batches'
        shown = with_progress(batches, doing, len(batches)) if progress else batches
        with LineFile(path, size) as file:
            for batch in shown:
                for name, people in zip(batch, self._look(images, batch), strict=True):
                    if name not in found:
                        found[name] = people
                        file.write(json.dumps(_to_row(name, people)))
        return found

    def _look(self, images: Path, names: Sequence[str]) -> list[FoundPeople]:
        arrays = [load_image(images / name) for name in names]
        results = self.detector(arrays, len(arrays), LEAST_SCORE)
        people = []
        for array, result in zip(arrays, results, strict=True):
            kept = np.isin(result.labels, self.labels)
            boxes = result.boxes[kept]
            people.append(FoundPeople(boxes, result.scores[kept], self.describe(array, boxes)))
        return people

    def describe(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Features of what (N, 4) boxes hold of an image: (N, D) float32."""
        if not len(boxes):
            return np.empty((0, 0), np.float32)
        return self.extractor([cut_out(image, box) for box in boxes]).features


def _to_row(name: str, people: FoundPeople) -> dict[str, Any]:
    features = base64.b64encode(people.features.astype('<f4').tobytes()).decode()
    boxes, scores = people.boxes.tolist(), people.scores.tolist()
    return {'image': name, 'boxes': boxes, 'scores': scores, 'features': features}


def _from_row(row: Mapping[str, Any]) -> FoundPeople:
    features = np.frombuffer(base64.b64decode(row['features']), '<f4')
    boxes = np.array(row['boxes'], np.float32).reshape(-1, 4)
    features = features.reshape(len(boxes), -1) if len(boxes) else features.reshape(0, 0)
    return FoundPeople(boxes, np.array(row['scores'], np.float32), features)


def evaluate_sets(
    people: FramePeople,
    sets: Sequence[SearchSet],
    score_thr: float = 0.5,
    *,
    resume: bool = False,
    progress: bool = False,
) -> list[SearchFigures]:
    """Person search on a data set, with galleries of several kinds over the same pictures.

    Args:
        people: Finds and describes people.
        sets: One for each kind of gallery.
        score_thr: Boxes below this score do not count.
        resume, progress: As of :class:`FramePeople`.

    Raises:
        ConfigError: The score is none, or what is there is of other models or of another folder.
        DataError: A picture cannot be read, nobody was found, or no query has anybody to find.
    """
    if not LEAST_SCORE <= score_thr <= 1:
        raise ConfigError(f'score_thr={score_thr}: a number from {LEAST_SCORE} to 1 is needed')
    names = sorted({name for one in sets for name in one.frames})
    found = people(sets[0].images, names, resume, progress)
    features: dict[tuple[str, tuple], np.ndarray] = {}
    for one in sets:
        for query in one.queries:
            if (query.image, query.box) not in features:
                image = load_image(one.images / query.image)
                [features[query.image, query.box]] = people.describe(image, np.array([query.box]))
    return [
        judge_search(
            one.queries,
            np.stack([features[query.image, query.box] for query in one.queries]),
            found,
            score_thr,
        )
        for one in sets
    ]
