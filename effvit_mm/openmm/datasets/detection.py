"""The data sets that are built on mmdet's; imported when one is asked for, as mmdet is large."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator

from mmengine.fileio import get_local_path

from ...errors import ConfigError
from ...sample_data.digit_images import CLASSES
from ...sample_data.folders import make_once
from ...sample_data.scenes import build_digit_scenes
from ...sample_data.walker_scenes import CATEGORY, DATA_ROOT, make_walker_scenes
from ...utils.collector import collector_paused
from ...utils.silence import silent_imports
from ..registry import DATASETS
from .coco_check import box_faults
from .coco_format import category_ids, read_classes, read_coco
from .scan import SkipCorrupt, check_split
from .voc_format import VocSource, read_voc, voc_samples
from .yolo_format import yolo_split

with silent_imports():
    import mmdet.datasets as mmdet


def needs_masks(steps: Iterable) -> bool:
    """Whether one of a pipeline's transforms could look at the masks of annotations."""
    for step in steps:
        if isinstance(step, list | tuple):
            if needs_masks(step):
                return True
            continue
        known = type(step).__module__.partition('.')[0] in ('mmcv', 'mmdet', 'effvit_mm')
        if not known or getattr(step, 'with_mask', False) or type(step).__name__ == 'InstaBoost':
            return True
        if needs_masks(getattr(step, 'transforms', None) or ()):
            return True
    return False


class ReadsCoco(mmdet.CocoDataset):
    """mmdet's, of files as :func:`~.coco_format.read_coco` gives them; labels go by name."""

    def load_data_list(self) -> list[dict]:
        """The samples, as mmdet's class gives them, without its index of the file.

        Polygons that a training does not look at are left out: they are most of what its workers
        would hold.
        """
        drop_masks = not self.test_mode and not needs_masks(self.pipeline.transforms)
        with collector_paused():
            with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
                data = read_coco(path, self.data_prefix['img'])
            self.cat_ids = category_ids(data, self.metainfo['classes'], path)
            self.cat2label = {number: label for label, number in enumerate(self.cat_ids)}
            of_image: dict = defaultdict(list)
            self.cat_img_map = defaultdict(list)
            for annotation in data.pop('annotations'):
                if drop_masks:
                    annotation.pop('segmentation', None)
                of_image[annotation['image_id']].append(annotation)
                self.cat_img_map[annotation['category_id']].append(annotation['image_id'])
            samples = []
            for image in data['images']:
                # Taken out: what is not in the sample is freed.
                raw = {'raw_ann_info': of_image.pop(image['id'], []), 'raw_img_info': image}
                image['img_id'] = image['id']
                samples.append(self.parse_data_info(raw))
            return samples


@DATASETS.register_module()
class CocoDataset(SkipCorrupt, ReadsCoco):
    """mmdet's ``CocoDataset`` by the reader that checks and evaluators have; it stands for it.

    Args:
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`.
        **kwargs: mmdet's.
    """


@DATASETS.register_module()
class CocoFolder(SkipCorrupt, ReadsCoco):
    """A COCO-style set whose classes need not be typed into a config.

    Labels go by the names of the categories: files of training and validation may list them in
    another order, and a file may lack some.

    Args:
        classes_from: The annotation file that says which classes there are, that of training;
            below ``data_root`` unless absolute. Default: ``ann_file`` itself.
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`. To be used
            in training: evaluation counts what the annotation file has.
        **kwargs: ``data_root``, ``ann_file``, ``data_prefix=dict(img=...)``, ``metainfo``,
            ``pipeline`` ... of mmdet's ``CocoDataset``.

    Raises:
        DataError: A file is missing, cut short or not COCO-style, or has none of the classes.
    """

    METAINFO: dict = {}

    def __init__(self, *args, classes_from: str = '', **kwargs) -> None:
        self.classes_from = classes_from
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples; sets ``classes`` on the way."""
        if self._metainfo.get('classes') is None:
            source = self.ann_file  # joined already
            if self.classes_from:
                source = os.path.join(self.data_root or '', self.classes_from)
            self._metainfo['classes'] = read_classes(source)
        return super().load_data_list()


@DATASETS.register_module()
class YoloFolder(CocoFolder):
    """A set in YOLO's layout, read as a COCO-style one: see :mod:`~.yolo_format`.

    Args:
        ann_file: ``'data.yaml#train'``, ``#val`` or ``#test``, below ``data_root`` unless absolute.
        data_prefix: Not needed: ``data.yaml`` says where the images are.
        **kwargs: Of :class:`CocoFolder`.

    Raises:
        ConfigError: ``ann_file`` is of another form.
        DataError: ``data.yaml``, its folders or label files are missing or cannot be used.
    """

    def __init__(self, ann_file: str, *args, data_prefix: dict | None = None, **kwargs) -> None:
        if yolo_split(ann_file) is None:
            raise ConfigError(f"YoloFolder: ann_file={ann_file!r}: 'data.yaml#train' is needed")
        super().__init__(ann_file, *args, data_prefix=data_prefix or {'img': ''}, **kwargs)


class ReadsVoc:
    """Gives mmdet's data sets of XML files the reader and the rules of COCO-style sets.

    Images may be of any format. Boxes that are inverted, empty or outside of their image are left
    out, objects marked difficult and, in training, those below ``bbox_min_size`` are ignored.
    """

    def load_data_list(self) -> list[dict]:
        """The samples.

        Raises:
            DataError: A file is missing or broken, or an object lacks its name or box.
            ConfigError: There are no classes, or the filter is for training alone.
        """
        classes = self._metainfo.get('classes')
        if classes is None:
            raise ConfigError(f'{type(self).__name__}: metainfo=dict(classes=...) is needed')
        if self.test_mode and self.bbox_min_size is not None:
            raise ConfigError(
                f'{type(self).__name__}: filter_cfg.bbox_min_size={self.bbox_min_size} is for '
                'training; leave it out with test_mode=True'
            )
        self.cat2label = {name: label for label, name in enumerate(classes)}
        source = VocSource(
            self.ann_file, training=not self.test_mode, bbox_min_size=self.bbox_min_size or 0
        )
        data = read_voc(self.ann_file, self.sub_data_root, self.ann_subdir, self.img_subdir)
        labels = {c['id']: c['id'] if c['id'] in self.cat2label else None
                  for c in data['categories']}  # fmt: skip
        return [
            {
                'img_path': os.path.join(self.sub_data_root, image['file_name']),
                'img_id': image['id'], 'xml_path': image['xml'],
                'height': image['height'], 'width': image['width'],
                'instances': list(self._instances(image, annotations, labels, source)),
            }
            for image, annotations in voc_samples(data)
        ]  # fmt: skip

    def _instances(self, image, annotations, labels, source) -> Iterator[dict]:
        for annotation in annotations:
            fault = next(box_faults(annotation, image, labels, source), ('', ''))[0]
            if fault not in ('', 'small_box', 'crossing_box'):
                continue
            x, y, width, height = annotation['bbox']
            yield {
                'bbox': [x, y, x + width, y + height],
                'bbox_label': self.cat2label[annotation['name']],
                'ignore_flag': int(annotation['iscrowd'] or fault == 'small_box'),
            }


@DATASETS.register_module()
class XMLDataset(SkipCorrupt, ReadsVoc, mmdet.XMLDataset):
    """mmdet's ``XMLDataset``, read by :class:`ReadsVoc`; it stands for it."""


@DATASETS.register_module()
class VOCDataset(SkipCorrupt, ReadsVoc, mmdet.VOCDataset):
    """mmdet's ``VOCDataset``, read by :class:`ReadsVoc`; it stands for it."""


@DATASETS.register_module()
class DigitScenes(ReadsCoco):
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
    PLACE = 'data/digit_scenes'

    def __init__(self, data_root: str | None = None, split: str = 'train', **kwargs) -> None:
        super().__init__(**{**self.place(data_root, split), **kwargs})

    @classmethod
    def place(cls, data_root: str | None, split: str | None) -> dict:
        """Where annotations and images are: arguments of ``CocoDataset``; None: the default."""
        split = split or 'train'
        check_split(cls.__name__, split)
        return {
            'data_root': data_root or cls.PLACE,
            'ann_file': f'annotations/{split}.json',
            'data_prefix': {'img': f'images/{split}'},
        }

    @classmethod
    def make(cls, data_root: str | None) -> None:
        """Make the files if they are not there yet."""
        make_once(data_root or cls.PLACE, build_digit_scenes)

    def load_data_list(self) -> list[dict]:
        """The samples; makes the files if they are not there yet."""
        self.make(self.data_root)
        return super().load_data_list()


@DATASETS.register_module()
class WalkerScenes(DigitScenes):
    """Drawn pedestrians as four cameras see them: 433 frames, and 77 with other people to test.

    A part of the sample set that :mod:`effvit_mm.sample_data.walker_scenes` makes under
    ``data_root`` on first use. Arguments are those of :class:`DigitScenes`.
    """

    METAINFO = {'classes': (CATEGORY,)}
    PLACE = DATA_ROOT

    @classmethod
    def make(cls, data_root: str | None) -> None:
        """Make the files if they are not there yet."""
        make_walker_scenes(data_root)
