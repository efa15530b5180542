"""Why a detector loses average precision: its errors by cause, and what each of them costs.

The causes are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object
Detection Errors", ECCV 2020), after Hoiem et al., "Diagnosing Error in Object Detectors", ECCV
2012. A prediction is right as in COCO: predictions of an image and class choose in the order of
their scores, up to 100 of them, each the free object that it overlaps most. For every other
prediction the object that it overlaps most says what is wrong with it:

==============  =======================  ======================================================
cause           overlap with the object  and what would have been done about it
==============  =======================  ======================================================
localisation    0.1 to 0.5, its class    moved onto the object
class           0.5 or more, another     given the object's class
both            0.1 to 0.5, another      removed
duplicate       0.5 or more, its class   removed: a better one has the object
background      below 0.1                removed
missed          (an object)              not counted, where no prediction of the first two causes
                                         stands for it
==============  =======================  ======================================================

A cause's cost is the mean AP50 after that repair, and no other, less the mean AP50 as it is. A
moved or renamed prediction whose object has another prediction already is removed. Costs do not
add up: a repair changes what the next one is worth.

Needs only numpy, and pycocotools for masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

FOREGROUND, BACKGROUND = 0.5, 0.1  # IoU
MAX_DETECTIONS = 100
RECALLS = np.linspace(0, 1, 101)
CAUSES = ('localisation', 'class', 'both', 'duplicate', 'background', 'missed')
NO_OBJECT = -1


@dataclass(frozen=True)
class ImageResult:
    """Objects and predictions of an image; classes are numbers from 0.

    Attributes:
        truths: (G,) classes of the objects.
        crowds: (G,) whether an object stands for many, which need not be found.
        labels: (D,) classes of the predictions.
        scores: (D,) of the predictions.
        overlaps: (D, G) IoU; with a crowd the share of the prediction that lies in it.
    """

    truths: np.ndarray
    crowds: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    overlaps: np.ndarray


@dataclass(frozen=True)
class Judged:
    """All predictions of a data set, in the order of the images, and what was found of each.

    Attributes:
        labels: (D,) classes.
        scores: (D,).
        objects: (D,) numbers of the objects that the predictions have, or ``NO_OBJECT``.
        counted: (D,) whether a prediction is right or wrong: not in a crowd, not beyond the limit.
        truths: (G,) classes of the objects, crowds left out.
    """

    labels: np.ndarray
    scores: np.ndarray
    objects: np.ndarray
    counted: np.ndarray
    truths: np.ndarray


@dataclass(frozen=True)
class ErrorAnalysis:
    """What :func:`analyse` found.

    Attributes:
        counts: (K,) objects by class.
        curves: By IoU (0.5 and 0.75) the (K, 101) precisions at recall 0, 0.01, ... 1; NaN for a
            class without objects. Their means are COCO's AP50 and AP75.
        errors: By cause the number of predictions, or of missed objects.
        confident: The same, of predictions from the score threshold on; missed: objects that none
            of those has.
        costs: By cause the mean AP50 that its repair would gain.
        confusion: (K + 1, K + 1) of predictions from the threshold on: row is the object's class,
            column the predicted one; last row: no object there, last column: object not found.
        min_score: The threshold.
    """

    counts: np.ndarray
    curves: dict[float, np.ndarray]
    errors: dict[str, int]
    confident: dict[str, int]
    costs: dict[str, float]
    confusion: np.ndarray
    min_score: float

    def average_precision(self, iou: float) -> np.ndarray:
        """(K,) by class; NaN for a class without objects."""
        return self.curves[iou].mean(1)


def analyse(
    images: Sequence[ImageResult], num_classes: int, min_score: float = 0.3
) -> ErrorAnalysis:
    """Find the errors of a detector.

    Args:
        images: In COCO's order, by id: it decides between equal scores.
        num_classes: K.
        min_score: From which on a prediction counts as one in the confusion matrix.
    """
    judged = {iou: judge(images, iou) for iou in (FOREGROUND, 0.75)}
    at_50 = judged[FOREGROUND]
    causes, nearest = find_causes(images, at_50)
    counts = np.bincount(at_50.truths, minlength=num_classes)
    as_is = mean_precision(at_50, counts)
    costs = {}
    for cause in CAUSES:
        repaired = repair(at_50, causes, nearest, cause)
        costs[cause] = mean_precision(repaired, counts) - as_is
    return ErrorAnalysis(
        counts=counts,
        curves={iou: precision_curves(found, num_classes) for iou, found in judged.items()},
        errors=count_errors(at_50, causes, nearest, -np.inf),
        confident=count_errors(at_50, causes, nearest, min_score),
        costs=costs,
        confusion=confusion_matrix(images, at_50, num_classes, min_score),
        min_score=min_score,
    )


# Which predictions are right ---------------------------------------------------------------------


def judge(images: Sequence[ImageResult], iou: float) -> Judged:
    """Match all predictions as COCO does."""
    objects, counted = [], []
    for image, _, numbers in _numbered(images):
        chosen, counts = _match(image, iou)
        objects.append(np.where(chosen == NO_OBJECT, NO_OBJECT, np.append(numbers, 0)[chosen]))
        counted.append(counts)
    return Judged(
        labels=_joined([image.labels for image in images], int),
        scores=_joined([image.scores for image in images], float),
        objects=_joined(objects, int),
        counted=_joined(counted, bool),
        truths=_joined([image.truths[~image.crowds] for image in images], int),
    )


def _numbered(images: Sequence[ImageResult]) -> Iterator[tuple[ImageResult, slice, np.ndarray]]:
    """Each image, where its predictions are in the whole, and the (G,) numbers of its objects."""
    predictions = objects = 0
    for image in images:
        found = slice(predictions, predictions + len(image.labels))
        real = ~image.crowds
        numbers = np.where(real, objects + np.cumsum(real) - 1, NO_OBJECT)
        yield image, found, numbers
        predictions, objects = found.stop, objects + int(real.sum())


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)


def _match(image: ImageResult, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """(D,) the object of each prediction or ``NO_OBJECT``, and (D,) whether it counts."""
    threshold = min(iou, 1 - 1e-10)
    objects = np.full(len(image.labels), NO_OBJECT)
    counted = np.zeros(len(image.labels), bool)
    free = ~image.crowds
    used: Counter = Counter()
    for prediction in np.argsort(-image.scores, kind='stable'):
        label, overlaps = image.labels[prediction], image.overlaps[prediction]
        used[label] += 1
        if used[label] > MAX_DETECTIONS:
            continue
        own = image.truths == label
        chosen = _most_overlapped(overlaps, own & free, threshold)
        if chosen == NO_OBJECT and (overlaps[own & image.crowds] >= threshold).any():
            continue
        counted[prediction] = True
        objects[prediction] = chosen
        if chosen != NO_OBJECT:
            free[chosen] = False
    return objects, counted


def _most_overlapped(overlaps: np.ndarray, allowed: np.ndarray, threshold: float) -> int:
    """Of several that are overlapped alike the last, as COCO has it."""
    candidates = np.flatnonzero(allowed & (overlaps >= threshold))
    if not len(candidates):
        return NO_OBJECT
    return int(candidates[::-1][overlaps[candidates[::-1]].argmax()])


# Average precision -------------------------------------------------------------------------------


def precision_curves(judged: Judged, num_classes: int) -> np.ndarray:
    """(K, 101) precision at recall 0, 0.01, ... 1, as COCO defines it; NaN without objects."""
    counts = np.bincount(judged.truths, minlength=num_classes)
    curves = np.full((num_classes, len(RECALLS)), np.nan)
    for label in np.flatnonzero(counts):
        chosen = np.flatnonzero(judged.counted & (judged.labels == label))
        chosen = chosen[np.argsort(-judged.scores[chosen], kind='stable')]
        right = np.cumsum(judged.objects[chosen] != NO_OBJECT)
        precision = right / np.arange(1, len(right) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        # Precision 0 at a recall that is not reached.
        places = np.searchsorted(right / counts[label], RECALLS, side='left')
        curves[label] = np.append(precision, 0)[places]
    return curves


def mean_precision(judged: Judged, counts: np.ndarray) -> float:
    """Mean over the classes that have objects by ``counts``, (K,); NaN if none has.

    A repair may leave nothing to find of a class: all of that is found. What is wrongly found
    besides then stands before everything that is right, which makes 0.
    """
    values = precision_curves(judged, len(counts)).mean(1)
    wrong = judged.counted & (judged.objects == NO_OBJECT)
    has_wrong = np.bincount(judged.labels[wrong], minlength=len(counts)) > 0
    values = np.where(np.isnan(values), np.where(has_wrong, 0.0, 1.0), values)
    return float(values[counts > 0].mean()) if counts.any() else float('nan')


# What is wrong with the others -------------------------------------------------------------------


def find_causes(images: Sequence[ImageResult], judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    """What is wrong with each prediction.

    Returns:
        (D,) places in ``CAUSES``, -1 where nothing is wrong; and (D,) numbers of the objects that
        the predictions overlap most, ``NO_OBJECT`` where there is none in the image.
    """
    causes = np.full(len(judged.labels), -1)
    nearest = np.full(len(judged.labels), NO_OBJECT)
    for image, found, numbers in _numbered(images):
        real = numbers != NO_OBJECT
        if not real.any():
            causes[found] = CAUSES.index('background')
            continue
        overlaps = image.overlaps[:, real]
        most = overlaps.max(1)
        same = image.truths[real] == image.labels[:, None]
        # Of several that are overlapped alike one of the right class.
        choice = ((overlaps == most[:, None]) * (1 + same)).argmax(1)
        same = same[np.arange(len(choice)), choice]
        nearest[found] = numbers[real][choice]
        causes[found] = np.select(
            [most < BACKGROUND, (most >= FOREGROUND) & same, most >= FOREGROUND, same],
            [CAUSES.index(name) for name in ('background', 'duplicate', 'class', 'localisation')],
            CAUSES.index('both'),
        )
    causes[~judged.counted | (judged.objects != NO_OBJECT)] = -1
    return causes, nearest


def count_errors(
    judged: Judged, causes: np.ndarray, nearest: np.ndarray, min_score: float
) -> dict[str, int]:
    """How many predictions with a score from ``min_score`` on are wrong, by cause."""
    seen = judged.scores >= min_score
    errors = {name: int((seen & (causes == i)).sum()) for i, name in enumerate(CAUSES)}
    errors['missed'] = int(_missed(judged, causes, nearest, min_score).sum())
    return errors


def _missed(
    judged: Judged, causes: np.ndarray, nearest: np.ndarray, min_score: float
) -> np.ndarray:
    """(G,) whether no prediction has an object, nor stands for it displaced or misnamed."""
    seen = judged.scores >= min_score
    missed = np.ones(len(judged.truths), bool)
    missed[judged.objects[seen & judged.counted & (judged.objects != NO_OBJECT)]] = False
    claims = np.isin(causes, [CAUSES.index('localisation'), CAUSES.index('class')])
    missed[nearest[seen & claims]] = False
    return missed


def repair(judged: Judged, causes: np.ndarray, nearest: np.ndarray, cause: str) -> Judged:
    """What a detector that does not make the errors of one cause would have given."""
    if cause == 'missed':
        missed = _missed(judged, causes, nearest, -np.inf)
        return replace(judged, truths=judged.truths[~missed])  # objects' numbers are used up
    wrong = causes == CAUSES.index(cause)
    counted, objects, labels = judged.counted & ~wrong, judged.objects.copy(), judged.labels.copy()
    if cause in ('localisation', 'class'):
        taken = set(objects[objects != NO_OBJECT].tolist())
        wrong_ones = np.flatnonzero(wrong)
        for prediction in wrong_ones[np.argsort(-judged.scores[wrong_ones], kind='stable')]:
            target = int(nearest[prediction])
            if target not in taken:
                taken.add(target)
                counted[prediction], objects[prediction] = True, target
                labels[prediction] = judged.truths[target]
    return replace(judged, labels=labels, objects=objects, counted=counted)


def confusion_matrix(
    images: Sequence[ImageResult], judged: Judged, num_classes: int, min_score: float
) -> np.ndarray:
    """(K + 1, K + 1), see :class:`ErrorAnalysis`.

    Predictions that are right by COCO's rules come first; the others then take, by score, the free
    object of any class that they overlap most, at least by half. Each row adds up to the objects.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    for image, found, numbers in _numbered(images):
        taken = judged.objects[found]
        used = judged.counted[found] & (image.scores >= min_score)
        free = (numbers != NO_OBJECT) & ~np.isin(numbers, taken[used])
        for prediction in np.argsort(-image.scores, kind='stable'):
            label = image.labels[prediction]
            if not used[prediction]:
                continue
            if taken[prediction] != NO_OBJECT:
                matrix[label, label] += 1
                continue
            chosen = _most_overlapped(image.overlaps[prediction], free, FOREGROUND)
            matrix[num_classes if chosen == NO_OBJECT else image.truths[chosen], label] += 1
            if chosen != NO_OBJECT:
                free[chosen] = False
        np.add.at(matrix[:, num_classes], image.truths[free], 1)
    return matrix
