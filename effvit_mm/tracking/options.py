"""How people are followed, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .joining import MAX_DISTANCE, MAX_GAP, join_tracklets
from .tracker import CERTAIN, LOST_SECONDS, MIN_IOU, Tracker


@dataclass(frozen=True)
class TrackOptions:
    """How people are followed.

    Attributes:
        score_thr: Boxes below this score are left out.
        certain: Boxes from this score on begin tracks; the others only continue them.
        lost: Seconds after which a tracklet that was not seen has ended.
        min_iou: Overlap of a box with where a tracklet is expected.
        period: Seconds; of each the best picture of a person gives a feature.
        min_frames: Tracklets of fewer, of those that were looked at, are left out.
        max_gap: Seconds between tracklets that are joined by their features.
        max_distance: Cosine distance up to which they are.
        every: Of so many frames one is looked at; boxes of those between two are taken from theirs.

    Raises:
        ConfigError: A value is out of its range.
    """

    score_thr: float = 0.4
    certain: float = CERTAIN
    lost: float = LOST_SECONDS
    min_iou: float = MIN_IOU
    period: float = 0.5
    min_frames: int = 3
    max_gap: float = MAX_GAP
    max_distance: float = MAX_DISTANCE
    every: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.score_thr <= 1:
            raise ConfigError(f'score_thr={self.score_thr}: a number from 0 to 1 is needed')
        if not self.period > 0:
            raise ConfigError(f'period={self.period}: seconds, above 0, are needed')
        for name in ('min_frames', 'every'):
            if getattr(self, name) < 1:
                raise ConfigError(f'{name}={getattr(self, name)}: 1 or more is needed')
        self.tracker(1.0)
        join_tracklets([], 1.0, max_gap=self.max_gap, max_distance=self.max_distance)

    def tracker(self, fps: float) -> Tracker:
        """One of these options, for a video of so many frames a second."""
        fps /= self.every
        return Tracker(fps, certain=self.certain, lost=self.lost, min_iou=self.min_iou)
