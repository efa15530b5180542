"""The data sets that are built on mmdet's; imported when one is asked for, as mmdet is large."""

from .coco_folder import CocoFolder
from .digit_scenes import DigitScenes

__all__ = ['CocoFolder', 'DigitScenes']
