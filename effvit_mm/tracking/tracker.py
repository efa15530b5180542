"""One interface to a kept tracker package: boxes of a frame in, numbers of tracks out.

ByteTrack (Zhang et al., 2022) of the package ``trackers``: boxes are predicted by a Kalman filter
and assigned by their overlap, certain ones first, then the uncertain ones to the tracks that are
left. It knows no appearance: :func:`effvit_mm.tracking.join_tracklets` brings that in.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from ..errors import ConfigError, DataError

NO_TRACK = -1
LOST_SECONDS = 1.0  # a track that was not seen for so long has ended
CERTAIN = 0.6  # scores from here on begin tracks, and are assigned first
MIN_IOU = 0.3  # of a box with where a track is expected


def import_trackers() -> ModuleType:
    """The package, or :class:`ConfigError` that says how to get it."""
    try:
        import trackers
    except ModuleNotFoundError as error:
        if error.name not in ('trackers', 'supervision', 'scipy', 'deprecate'):
            raise
        raise ConfigError(
            f"tracking needs the package {error.name}: `pip install 'effvit-mm[track]'` or "
            '`pip install trackers`'
        ) from error
    return trackers


class Tracker:
    """Follows boxes from frame to frame of one video.

    Args:
        fps: Frames a second.
        certain: Boxes of this score or more begin tracks and are assigned first; the others only
            continue tracks.
        lost: Seconds after which a track that was not seen has ended.
        min_iou: Overlap of a box with where a track is expected, from which on it may be its box.

    Attributes:
        patience: The same in frames: after more without a box a track gets none any more.

    Raises:
        ConfigError: An argument is out of its range, or the package is not installed.

    Example::

        tracker = Tracker(fps=25)
        for boxes, scores in frames:
            numbers = tracker.update(boxes, scores)
    """

    def __init__(
        self,
        fps: float,
        *,
        certain: float = CERTAIN,
        lost: float = LOST_SECONDS,
        min_iou: float = MIN_IOU,
    ) -> None:
        if not 0 < fps < math.inf:
            raise ConfigError(f'fps={fps}: frames a second, above 0, are needed')
        if not 0 <= certain <= 1:
            raise ConfigError(f'certain={certain}: a number from 0 to 1 is needed')
        if not 0 < lost < math.inf:
            raise ConfigError(f'lost={lost}: seconds, above 0, are needed')
        if not 0 <= min_iou < 1:
            raise ConfigError(f'min_iou={min_iou}: a number from 0 to below 1 is needed')
        import_trackers()
        import supervision
        from trackers import ByteTrackTracker

        self._detections = supervision.Detections
        self._tracker = ByteTrackTracker(
            frame_rate=fps,
            # Of the package's clock, which has 30 frames a second.
            lost_track_buffer=round(30 * lost),
            track_activation_threshold=certain,
            high_conf_det_threshold=certain,
            minimum_iou_threshold=min_iou,
        )
        self.patience = self._tracker.maximum_frames_without_update

    def update(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The tracks of the next frame's boxes.

        Args:
            boxes: (N, 4), left, top, right, bottom in pixels; N may be 0.
            scores: (N,), from 0 to 1.

        Returns:
            (N,) int64: the number of each box's track, from 0; -1 where it has none. The first box
            of a track has none yet: the second confirms it.

        Raises:
            DataError: Boxes or scores of another shape, or not finite.
        """
        boxes = np.asarray(boxes, np.float32)
        scores = np.asarray(scores, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != (len(boxes),):
            raise DataError(
                f'boxes {boxes.shape} and scores {scores.shape}: (N, 4) and (N,) are needed'
            )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise DataError('boxes or scores are not finite numbers')
        rows = np.arange(len(boxes))  # the package gives them in another order
        found = self._detections(xyxy=boxes, confidence=scores, data={'row': rows})
        found = self._tracker.update(found)
        numbers = np.full(len(boxes), NO_TRACK)
        if len(found):
            numbers[found.data['row']] = found.tracker_id
        return numbers
