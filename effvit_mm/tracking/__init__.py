"""Following people through a video: boxes to tracks, joined by features, written and judged."""

from .joining import join_tracklets
from .tracker import Tracker
from .tracklets import Tracklet

__all__ = ['Tracker', 'Tracklet', 'join_tracklets']
