"""Annotation files as pycocotools' and mmdet's objects, for loaders and evaluators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

from ...errors import DataError
from ...utils.silence import silent_imports
from .coco_format import category_ids, read_coco
from .coco_gaps import SIDES, fill_areas

with silent_imports():
    from mmdet.datasets.api_wrappers import COCO


class ByName:
    """Gives an object of pycocotools, or of a like library, ids of categories by label.

    mmdet takes the place in the file's list for the label; here names decide, see
    :func:`~.coco_format.category_ids`.

    Attributes:
        path: Of the file, for messages.
    """

    path = ''

    def getCatIds(self, catNms=None, supNms=None, catIds=None) -> list:  # noqa: N802, N803
        """An id for each of these names, in their order; without names the library's answer."""
        if not catNms:
            return super().getCatIds([], supNms or [], catIds or [])
        found = category_ids(self.dataset, catNms, self.path)
        self.cats = {category['id']: category for category in self.dataset['categories']}
        return found


class CocoFile(ByName, COCO):
    """A file that :func:`~.coco_format.read_coco` reads, as mmdet's object."""

    def __init__(self, annotation_file: str | None = None, folder: str | None = None) -> None:
        super().__init__(None)
        if annotation_file is not None:
            self.path, self.dataset = annotation_file, read_coco(annotation_file, folder)
            with redirect_stdout(StringIO()):
                self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


def read_faster(annotation_file: str) -> Any:
    """The same as faster-coco-eval's object."""
    import faster_coco_eval

    class FasterFile(ByName, faster_coco_eval.COCO):
        path = annotation_file

    return FasterFile(read_coco(annotation_file))


def complete_truth(truth: Any, predicted: Iterable[Mapping], images: Iterable) -> None:
    """Give an annotation file's object, in place, the sizes and areas that the file lacks.

    Args:
        truth: The object.
        predicted: Of each image that was predicted its ``img_id``, ``width`` and ``height``.
        images: Ids of those that are judged.

    Raises:
        DataError: One of those was not predicted, so that its areas cannot be found.
    """
    data, sizes = truth.dataset, {p['img_id']: p for p in predicted}
    for image in data['images']:
        if image['id'] in sizes:
            for side in SIDES:
                image.setdefault(side, sizes[image['id']][side])
    fill_areas(data['annotations'], data['images'])
    judged = set(images)
    open_ = [a for a in data['annotations'] if 'area' not in a and a['image_id'] in judged]
    if open_:
        raise DataError(
            f'annotation file {truth.path}: annotation {open_[0]["own_id"]} has no area, and its '
            f'image {open_[0]["image_id"]}, of no width and height, was not predicted; write them '
            'into the file'
        )
    with redirect_stdout(StringIO()):
        truth.createIndex()


def load_detections(truth: Any, detections: Sequence[dict]) -> Any:
    """COCO results as an object beside that of the truth; there may be none."""
    if detections:
        return truth.loadRes(list(detections))
    empty = type(truth)()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
