"""Data sets, their loading transform, and the sample data that the project makes itself."""

from .digits import Digits
from .fashion_mnist import FashionMNIST
from .image_folder import ImageFolder
from .imagenet import ImageNet
from .loading import LoadImage, load_image
from .scan import SkipCorrupt, find_corrupt
from .storage import make_once

__all__ = [
    'Digits',
    'FashionMNIST',
    'ImageFolder',
    'ImageNet',
    'LoadImage',
    'SkipCorrupt',
    'find_corrupt',
    'load_image',
    'make_once',
]
