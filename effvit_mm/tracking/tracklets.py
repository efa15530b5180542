"""A piece of somebody's way: boxes of consecutive frames, and what the person looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(eq=False)
class Tracklet:
    """Boxes that a tracker gave one number; several joined ones are a track, which is the same.

    Attributes:
        number: Of the track.
        frames: Numbers of the frames, from 0, ascending; N of them.
        boxes: N times left, top, right, bottom in pixels.
        scores: N scores.
        feature: (D,) float32, the weighted mean of normalised features; None without a model.
        weight: The sum of its weights.
        best: Frame of the best picture; None without pictures.
        best_box: Its box.
        quality: Of the best picture.
        picture: Its file.
    """

    number: int
    frames: list[int] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    feature: np.ndarray | None = None
    weight: float = 0.0
    best: int | None = None
    best_box: list[float] | None = None
    quality: float = 0.0
    picture: str | None = None

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def first(self) -> int:
        """The first frame."""
        return self.frames[0]

    @property
    def last(self) -> int:
        """The last frame."""
        return self.frames[-1]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        plain = dict(vars(self))
        plain['feature'] = None if self.feature is None else self.feature.tolist()
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Tracklet:
        """From what :meth:`to_dict` gave."""
        feature = plain['feature']
        feature = None if feature is None else np.array(feature, np.float32)
        return cls(**{**plain, 'feature': feature})


def joined(parts: Sequence[Tracklet], number: int) -> Tracklet:
    """One track of several tracklets that share no frame, in the order of their frames."""
    parts = sorted(parts, key=lambda part: part.first)
    best = max(parts, key=lambda part: part.quality)
    weight = sum(part.weight for part in parts)
    feature = None
    if weight > 0:
        weighted = [part.weight * part.feature for part in parts if part.feature is not None]
        feature = np.asarray(sum(weighted) / weight, np.float32)
    return Tracklet(
        number,
        [frame for part in parts for frame in part.frames],
        [box for part in parts for box in part.boxes],
        [score for part in parts for score in part.scores],
        feature,
        weight,
        best.best,
        best.best_box,
        best.quality,
        best.picture,
    )


def filled(track: Tracklet, step: int) -> Tracklet:
    """The same with boxes of the frames between those that lie ``step`` apart, on straight ways."""
    places = np.arange(len(track))
    gaps = np.diff(track.frames, prepend=track.first)
    if not ((gaps > 1) & (gaps <= step)).any():
        return track
    frames = [
        frame
        for end, gap in zip(track.frames, gaps.tolist(), strict=True)
        for frame in (range(end - gap + 1, end + 1) if 1 < gap <= step else [end])
    ]
    at = np.interp(frames, track.frames, places)
    before, rest = np.floor(at).astype(int), at % 1
    after = np.minimum(before + 1, len(track) - 1)

    def between(values: np.ndarray) -> list:
        part = rest.reshape(-1, *[1] * (values.ndim - 1))
        return np.where(
            part == 0, values[before], (1 - part) * values[before] + part * values[after]
        ).tolist()

    return replace(
        track,
        frames=frames,
        boxes=between(np.array(track.boxes)),
        scores=between(np.array(track.scores)),
    )
