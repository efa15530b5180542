"""COCO-style sets of one's own: classes come from the annotation file. Needs mmdet."""

from __future__ import annotations

import os

from mmdet.datasets import CocoDataset

from ...errors import DataError
from ..registry import DATASETS
from .coco_format import category_names, compare_classes, read_coco
from .scan import SkipCorrupt


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
