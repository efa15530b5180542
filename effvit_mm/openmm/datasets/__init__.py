"""Data sets, their loading transform, and the sample data that the project makes itself.

Those for detection are in :mod:`.detection`, which imports mmdet: nothing here does.
"""

from importlib import import_module
from importlib.util import find_spec

from ...sample_data.folders import make_once
from ...utils.images import load_image
from ...utils.silence import silent_imports
from .corruption import CommonCorruption
from .scan import SkipCorrupt, find_corrupt
from .transforms import LoadImage, OnTexture

__all__ = [
    'CommonCorruption',
    'LoadImage',
    'OnTexture',
    'SkipCorrupt',
    'find_corrupt',
    'load_image',
    'make_once',
]

# Detection goes without mmpretrain, on whose classes these are built.
if find_spec('mmpretrain'):
    with silent_imports():
        import_module('mmpretrain.datasets')
    from .classification import CustomDataset, Digits, FashionMNIST, ImageFolder, ImageNet

    __all__ += ['CustomDataset', 'Digits', 'FashionMNIST', 'ImageFolder', 'ImageNet']
