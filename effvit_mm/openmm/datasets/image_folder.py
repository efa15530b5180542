"""One's own images: a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from ...errors import DataError
from ...utils.image_files import EXTENSIONS, list_images
from ...utils.text import shorten
from ..registry import DATASETS
from .scan import SkipCorrupt


def list_classes(folder: Path) -> list[str]:
    """The sorted names of the class folders in ``folder``; hidden ones are none."""
    if not folder.is_dir():
        raise DataError(
            f'data folder {folder.absolute()} does not exist; expected are class folders with '
            'images, as in data_root/train/<class>/*.jpg'
        )
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != '.'
    )
    if not names:
        raise DataError(
            f'{folder.absolute()} has no class folders; expected is one folder with images for '
            'each class'
        )
    return names


class _Folders(BaseDataset):
    """The plain data set below :class:`ImageFolder`: finds classes and images."""

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        train_split: str = 'train',
        classes: str | Sequence[str] | None = None,
        allow_empty_classes: bool = False,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        if not data_root:
            raise DataError('data_root is empty: it must name the folder with the images')
        self.split = split
        self.train_split = train_split
        self.allow_empty_classes = allow_empty_classes
        # Later than the base class would, which sets nothing of ours before it loads.
        super().__init__(
            ann_file='',
            data_root=os.path.expanduser(data_root),
            data_prefix=split,
            classes=classes,
            lazy_init=True,
            **kwargs,
        )
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Samples in the order of classes and file names; sets ``classes`` on the way."""
        folder = Path(self.data_root, self.split)
        found = list_classes(folder)
        classes = self._class_names()
        unknown = [name for name in found if name not in classes]
        if unknown:
            raise DataError(
                f'{folder.absolute()} has the class folder {unknown[0]!r}, which is none of the '
                f'{len(classes)} training classes ({shorten(classes)})'
            )
        samples, empty = [], []
        for label, name in enumerate(classes):
            images = list_images(folder / name)
            samples += [{'img_path': path, 'gt_label': label} for path in images]
            if not images:
                empty.append(name)
        if not samples:
            raise DataError(
                f'{folder.absolute()} has no images in its class folders; read are files that end '
                f'in {", ".join(EXTENSIONS)}'
            )
        self._judge_empty(folder, empty)
        self._metainfo['classes'] = tuple(classes)
        return samples

    def _class_names(self) -> list[str]:
        """Given ones, or those of the training folder: the same order for every split."""
        if self.CLASSES is not None:
            return list(self.CLASSES)
        return list_classes(Path(self.data_root, self.train_split))

    def _judge_empty(self, folder: Path, empty: list[str]) -> None:
        """A class without images cannot be learned: an error in training, else a remark."""
        if not empty:
            return
        message = f'{folder.absolute()}: no images of the class {empty[0]!r}'
        if len(empty) > 1:
            message += f' and {len(empty) - 1} more ({shorten(empty[1:])})'
        if self.split == self.train_split and not self.allow_empty_classes:
            raise DataError(
                f'{message}; remove the folder, or set allow_empty_classes=True in the data set'
            )
        print_log(message, 'current')


@DATASETS.register_module()
class ImageFolder(SkipCorrupt, _Folders):
    """Images in class folders: ``data_root/<split>/<class>/*.jpg``, sub-folders included.

    Classes are the sorted names of the training split's folders, for every split.

    Args:
        data_root: The folder that holds the splits.
        split: The split's folder, ``'train'`` or ``'val'``.
        train_split: The folder whose class folders define the classes.
        classes: Their names instead, or a file with one name a line.
        allow_empty_classes: Accept class folders without images in the training split.
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`.
        **kwargs: ``pipeline``, ``test_mode``, ``indices`` ... of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: A folder is missing, a class has no images, or a split has a class of its own.
    """

    def extra_repr(self) -> list[str]:
        """Lines for ``print(dataset)``."""
        return [f'Folder: \t{Path(self.data_root, self.split)}', f'Skipped: \t{self.num_skipped}']
