"""ImageNet-1k with a clear word when it is missing, and with ``skip_corrupt``."""

from __future__ import annotations

from pathlib import Path

from mmpretrain.datasets import ImageNet as _ImageNet

from ...errors import DataError
from ..registry import DATASETS
from .scan import SkipCorrupt


@DATASETS.register_module()
class ImageNet(SkipCorrupt, _ImageNet):
    """mmpretrain's ImageNet: ``data_root/{train,val}/<wnid>/*.JPEG``, or annotation files.

    Args:
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`.
        **kwargs: ``data_root``, ``split``, ``ann_file``, ``pipeline`` ... of mmpretrain's class.
    """

    def load_data_list(self) -> list[dict]:
        """The samples, after a look whether there are any."""
        folder = Path(self.img_prefix)
        if not folder.is_dir():
            raise DataError(
                f'ImageNet: the folder {folder.absolute()} does not exist; expected are '
                'data_root/train and data_root/val with one folder for each of the 1000 classes'
            )
        if not self.ann_file and self.with_label:
            found = sum(entry.is_dir() for entry in folder.iterdir())
            if found != len(self.CLASSES):
                raise DataError(
                    f'ImageNet: {folder.absolute()} has {found} class folders instead of '
                    f'{len(self.CLASSES)}; sort the validation images into one folder for each '
                    'class, or give ann_file; for a data set of your own take effvit_mm.ImageFolder'
                )
        return super().load_data_list()
