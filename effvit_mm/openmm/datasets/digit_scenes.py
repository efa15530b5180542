"""The sample set for detection: made by :mod:`.scenes`, read by mmdet."""

from __future__ import annotations

from mmdet.datasets import CocoDataset

from ...errors import DataError
from ...sample_data.digit_images import CLASSES, SPLITS
from ...sample_data.folders import make_once
from ...sample_data.scenes import build_digit_scenes
from ..registry import DATASETS


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
        if split not in SPLITS:
            raise DataError(f"DigitScenes has the splits 'train' and 'test', not {split!r}")
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
