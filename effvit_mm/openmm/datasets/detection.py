"""The data sets that are built on mmdet's; imported when one is asked for, as mmdet is large."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from io import StringIO

from ...errors import DataError
from ...sample_data.digit_images import CLASSES
from ...sample_data.folders import make_once
from ...sample_data.scenes import build_digit_scenes
from ..registry import DATASETS
from .coco_format import category_names, compare_classes, read_coco
from .scan import SkipCorrupt, check_split

with redirect_stdout(StringIO()):  # it prints that OneDL's platform is not installed
    from mmdet.datasets import CocoDataset


@DATASETS.register_module()
class CocoFolder(SkipCorrupt, CocoDataset):
    """A COCO-style set whose classes need not be typed into a config.

    mmdet gives labels by position in the annotation file's list of categories, so the files of
    training and validation must list the same categories in the same order: that is checked.

    Args:
        classes_from: The annotation file that says which classes there are, that of training;
            below ``data_root`` unless absolute. Default: ``ann_file`` itself.
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`. To be used
            in training: evaluation counts what the annotation file has.
        **kwargs: ``data_root``, ``ann_file``, ``data_prefix=dict(img=...)``, ``metainfo``,
            ``pipeline`` ... of mmdet's ``CocoDataset``.

    Raises:
        DataError: A file is missing, cut short or not COCO-style; the categories do not fit.
    """

    METAINFO: dict = {}

    def __init__(self, *args, classes_from: str = '', **kwargs) -> None:
        self.classes_from = classes_from
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples; sets ``classes`` on the way."""
        own = category_names(read_coco(self.ann_file), self.ann_file)
        source = os.path.join(self.data_root or '', self.classes_from or self.ann_file)
        classes = self._metainfo.get('classes')
        if classes is None:
            same = not self.classes_from or source == self.ann_file
            classes = own if same else category_names(read_coco(source), source)
        else:
            source = 'the config'
        message = compare_classes(tuple(classes), own)
        if message:
            raise DataError(f'annotation file {self.ann_file}: {message} (classes from {source})')
        self._metainfo['classes'] = tuple(classes)
        return super().load_data_list()


@DATASETS.register_module()
class DigitScenes(CocoDataset):
    """Handwritten digits on textured canvases, with boxes and masks: 600 scenes, and 150 to test.

    The files are made under ``data_root`` on first use: ``images/{train,test}/*.png`` and
    ``annotations/{train,test}.json``, COCO-style. The digits of the test scenes occur in no
    training scene.

    Args:
        data_root: Where the files are, or shall be.
        split: ``'train'`` or ``'test'``.
        **kwargs: ``pipeline``, ``filter_cfg``, ``test_mode`` ... of mmdet's ``CocoDataset``.
    """

    METAINFO = {'classes': CLASSES}

    def __init__(
        self, data_root: str = 'data/digit_scenes', split: str = 'train', **kwargs
    ) -> None:
        super().__init__(**{**self.place(data_root, split), **kwargs})

    @staticmethod
    def place(data_root: str | None, split: str | None) -> dict:
        """Where annotations and images are: arguments of ``CocoDataset``; None: the default."""
        split = split or 'train'
        check_split('DigitScenes', split)
        return {
            'data_root': data_root or 'data/digit_scenes',
            'ann_file': f'annotations/{split}.json',
            'data_prefix': {'img': f'images/{split}'},
        }

    @staticmethod
    def make(data_root: str | None) -> None:
        """Make the files if they are not there yet."""
        make_once(DigitScenes.place(data_root, None)['data_root'], build_digit_scenes)

    def load_data_list(self) -> list[dict]:
        """The samples; makes the files if they are not there yet."""
        self.make(self.data_root)
        return super().load_data_list()
