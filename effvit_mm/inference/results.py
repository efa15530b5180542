"""What inferencers give: a frozen result for each image or frame, the same for all tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import ConfigError
from ..reid.features import ReIDFeatures
from ..utils.masks import encode_masks

TOP = 5
UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class Result:
    """What was found in one image.

    Attributes:
        image: Its file, video, camera or address; None of an array.
        frame: Its number in the video or stream, from 0; None where it is no frame.
        COLUMNS: Of a table of results, whose rows :meth:`rows` gives.
        NUMBERED: The column that numbers a result's rows from 1, where it may have several.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ('image', 'frame')
    NUMBERED: ClassVar[str | None] = None

    image: str | None
    frame: int | None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)  # result['scores'] is result.scores

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {'image': self.image, 'frame': self.frame}

    def to_json(self) -> str:
        """:meth:`to_dict` as one line."""
        return json.dumps(self.to_dict())

    def rows(self) -> list[list[Any]]:
        """Cells of a table: at least one row for each result."""
        plain = self.to_dict()
        return [[plain[column] for column in self.COLUMNS]]


@dataclass(frozen=True, eq=False)
class Classification(Result):
    """What a classifier says of one image.

    Attributes:
        image, frame: Which image: :class:`Result`.
        scores: (C,) float32, of each class; their sum is 1.
        classes: Names of the C classes.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (*Result.COLUMNS, 'label', 'name', 'score')

    scores: np.ndarray
    classes: tuple[str, ...]

    @property
    def label(self) -> int:
        """Number of the best class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Name of the best class."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """Of the best class."""
        return float(self.scores.max())

    def top(self, count: int = TOP) -> list[tuple[str, float]]:
        """Names and scores of the best classes, best first."""
        order = np.argsort(-self.scores, kind='stable')[:count]
        return [(self.classes[label], float(self.scores[label])) for label in order]

    def to_dict(self, count: int = TOP) -> dict[str, Any]:
        """As plain values: ``image``, ``frame``, ``label``, ``name``, ``score`` and ``top``."""
        best = {'label': self.label, 'name': self.name, 'score': self.score}
        top = [{'name': name, 'score': score} for name, score in self.top(count)]
        return {**super().to_dict(), **best, 'top': top}

    def to_json(self, count: int = TOP) -> str:
        """:meth:`to_dict` as one line."""
        return json.dumps(self.to_dict(count))


@dataclass(frozen=True, eq=False)
class Detection(Result):
    """The objects that a detector finds in one image, best first.

    Attributes:
        image, frame: Which image: :class:`Result`.
        size: Height and width of the image as given.
        boxes: (N, 4) float32: left, top, right, bottom in its pixels.
        scores: (N,) float32.
        labels: (N,) int64.
        names: Of the N classes.
        masks: (N, H, W) bool; None where they were not asked for, or the detector finds none.
        left_out: Where there is no object, the best score below the threshold; None elsewhere, and
            where the detector leaves out as much by itself.

    Example::

        annotated = supervision.BoxAnnotator().annotate(picture, found.to_supervision())
        rows = [row for number, found in enumerate(results) for row in found.to_coco(number, ids)]
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (
        *Result.COLUMNS, 'object', 'label', 'name', 'score', 'left', 'top', 'right', 'bottom',
    )  # fmt: skip
    NUMBERED: ClassVar[str | None] = 'object'

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: np.ndarray | None = None
    left_out: float | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, masks as COCO's compressed run lengths; none without masks."""
        plain = {
            **super().to_dict(),
            'size': list(self.size),
            'boxes': self.boxes.tolist(),
            'scores': self.scores.tolist(),
            'labels': self.labels.tolist(),
            'names': list(self.names),
        }
        return plain if self.masks is None else {**plain, 'masks': encode_masks(self.masks)}

    def rows(self) -> list[list[Any]]:
        """A row for each object, numbered from 1; for an image without any an empty one."""
        objects = zip(
            self.labels.tolist(), self.names, self.scores.tolist(), self.boxes.tolist(), strict=True
        )
        rows = [
            [self.image, self.frame, number, label, name, score, *box]
            for number, (label, name, score, box) in enumerate(objects, start=1)
        ]
        return rows or [[self.image, self.frame, *[None] * (len(self.COLUMNS) - 2)]]

    def to_supervision(self) -> Any:
        """As ``supervision.Detections``: boxes, scores, labels, masks, ``data['class_name']``.

        Raises:
            ConfigError: The package is not installed.
        """
        try:
            from supervision import Detections
        except ModuleNotFoundError as error:
            if error.name != 'supervision':
                raise
            raise ConfigError(
                'to_supervision() needs the package supervision: `pip install supervision`'
            ) from error
        return Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.labels,
            data={'class_name': np.array(self.names, dtype=str)},
        )

    def to_coco(
        self, image_id: int, category_ids: Sequence[int] | Mapping[str, int]
    ) -> list[dict[str, Any]]:
        """As rows of a COCO results file.

        Args:
            image_id: The image's in the annotations.
            category_ids: The annotations' of each label, or of each name.

        Returns:
            A dict for each object: ``image_id``, ``category_id``, ``bbox`` (left, top, width,
            height), ``score``, and with masks ``segmentation`` (compressed run lengths).

        Raises:
            ConfigError: A class has no category.
        """
        masks = None if self.masks is None else encode_masks(self.masks)
        keys = self.names if isinstance(category_ids, Mapping) else self.labels.tolist()
        rows = []
        for place, (left, top, right, bottom) in enumerate(self.boxes.tolist()):
            try:
                category = category_ids[keys[place]]
            except (KeyError, IndexError) as error:
                raise ConfigError(
                    f'category_ids: {len(category_ids)} categories, none for class '
                    f'{self.labels[place]} ({self.names[place]!r})'
                ) from error
            row = {
                'image_id': image_id,
                'category_id': int(category),
                'bbox': [left, top, right - left, bottom - top],
                'score': float(self.scores[place]),
            }
            rows.append(row if masks is None else {**row, 'segmentation': masks[place]})
        return rows


@dataclass(frozen=True, eq=False)
class PersonFeature(Result):
    """The feature of a person, of one image.

    Attributes:
        image, frame: Which image: :class:`Result`.
        feature: (D,) float32, behind the BNNeck, not normalised.
        model: Identity of the model: features of another cannot be compared with it.
        preparation: How the image was prepared for the model; likewise.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (*Result.COLUMNS, 'feature')

    feature: np.ndarray
    model: str = ''
    preparation: str = ''

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            **super().to_dict(),
            'feature': self.feature.tolist(),
            'model': self.model,
            'preparation': self.preparation,
        }


class PersonFeatures(ReIDFeatures):
    """Features of several images in one array, and the results they come from one by one.

    For the gallery and the evaluation they are ``ReIDFeatures``: persons and cameras are -1, as
    they are not known, and an array's file is an empty name.

    Attributes:
        results: A :class:`PersonFeature` for each; iteration and whole numbers give these.
    """

    def __init__(self, results: Sequence[PersonFeature], width: int = 0) -> None:
        self.results = list(results)
        unknown = np.full(len(self.results), UNKNOWN)
        features = [result.feature for result in self.results]
        one = self.results[0] if self.results else PersonFeature(None, None, np.empty(width))
        super().__init__(
            np.stack(features) if features else np.empty((0, width), np.float32),
            pids=unknown,
            camids=unknown.copy(),
            paths=[result.image or '' for result in self.results],
            model=one.model,
            source='extracted features',
            preparation=one.preparation,
        )

    def __iter__(self) -> Iterator[PersonFeature]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            return self.results[index]
        return super().__getitem__(index)


@dataclass(frozen=True, eq=False)
class Matches(Result):
    """The images of a gallery that look most like a person, nearest first.

    Attributes:
        image, frame: Of the person: :class:`Result`.
        found: Files of the gallery.
        distances: (N,) float32.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = (*Result.COLUMNS, 'rank', 'found', 'distance')
    NUMBERED: ClassVar[str | None] = 'rank'

    found: list[str]
    distances: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        ranked = {'found': list(self.found), 'distances': self.distances.tolist()}
        return {**super().to_dict(), **ranked}

    def rows(self) -> list[list[Any]]:
        """A row for each match, ranks from 1; an empty one where there is none."""
        ranked = enumerate(zip(self.found, self.distances.tolist(), strict=True), start=1)
        rows = [[self.image, self.frame, rank, *match] for rank, match in ranked]
        return rows or [[self.image, self.frame, None, None, None]]
