"""The one way in which weights enter a network: :func:`load_checkpoint`."""

from .checkpoint import (
    allow_training_logs,
    get_state_dict,
    read_checkpoint,
    safe_unpickling,
    unpickling_nothing,
)
from .loading import LoadReport, count_classes, fit_checkpoint, load_checkpoint

__all__ = [
    'LoadReport',
    'allow_training_logs',
    'count_classes',
    'fit_checkpoint',
    'get_state_dict',
    'load_checkpoint',
    'read_checkpoint',
    'safe_unpickling',
    'unpickling_nothing',
]
