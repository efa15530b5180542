"""The data sets that are built on mmdet's; imported when one is asked for, as mmdet is large."""

from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO

with redirect_stdout(StringIO()):  # it prints that OneDL's platform is not installed
    import_module('mmdet.datasets')

from .coco_folder import CocoFolder
from .digit_scenes import DigitScenes

__all__ = ['CocoFolder', 'DigitScenes']
