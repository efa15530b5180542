"""What can be wrong with annotations, and what training and evaluation do about it.

Knows nothing of mmdet: what is said of it was found by reading ``CocoDataset.parse_data_info``,
``filter_data``, ``LoadAnnotations``, ``Resize`` and ``CocoMetric`` of mmdet 3.
"""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A sort of fault.

    Attributes:
        title: In the plural.
        training: What a training does with it.
        evaluation: What an evaluation does with it; nothing where that is the same.
        fatal: Nothing is begun with such a set.
        remedy: What helps.
        lost: Something is left out, which is told before the start.
        told: The same of what is not left out.
    """

    title: str
    training: str
    evaluation: str = ''
    fatal: bool = False
    remedy: str = ''
    lost: bool = False
    told: bool = False


_STOPS = 'stops while the annotations are read'
_STOPS_LATER = 'stops when their turn comes'
_BACKGROUND = 'boxes are left out; what they show is learned as background'
_LEFT_OUT = 'are left out'
_TO_FIND = 'are objects to find'  # pycocotools looks at none of it
_ALLOW = 'to leave such boxes out, set data_checks.allow_unknown_categories=True'
_SKIP = 'bring the files back, or take them out of the annotations'
_IN_PIXELS = 'boxes count in pixels, from the upper left corner of the image'


def _fatal(title: str, training: str, remedy: str = '') -> Kind:
    return Kind(title, training, fatal=True, remedy=remedy)


def _lost(title: str, training: str, evaluation: str = '', remedy: str = '') -> Kind:
    return Kind(title, training, evaluation, remedy=remedy, lost=True)


KINDS = {
    'bad_record': _fatal('records that cannot be used', _STOPS, 'mend them, or take them out'),
    'duplicate_image_id': _fatal(
        'image ids used twice', _STOPS, 'give each image an id of its own'
    ),
    'duplicate_category': _fatal(
        'categories listed twice', _STOPS, 'give each category one id and a name of its own'
    ),
    'wrong_classes': _fatal(
        'categories of other names than the classes', 'all boxes are left out',
        "give metainfo.classes as the file lists them, or take type='effvit_mm.CocoFolder'",
    ),
    'unknown_category': _fatal('category ids that the file does not list', _BACKGROUND, _ALLOW),
    'unused_category': _fatal(
        'boxes of categories that the config does not know', _BACKGROUND,
        f'give all in metainfo.classes; {_ALLOW}',
    ),
    'missing_image': _fatal('image files that do not exist', _STOPS_LATER, _SKIP),
    'empty_file': _fatal('image files of zero bytes', _STOPS_LATER, _SKIP),
    'unreadable_image': _fatal('image files that cannot be decoded', _STOPS_LATER, _SKIP),
    'other_size': _fatal(
        'images of another size than their annotations say', _STOPS_LATER,
        'give the pictures that were annotated',
    ),
    'missing_mask': _fatal(
        'objects without a mask', _STOPS_LATER, 'train a detector without masks, or add them'
    ),
    'mask_size': _fatal(
        'masks of another size than their image', _STOPS_LATER,
        'a mask has the height and the width of its image',
    ),
    'nothing_to_learn': _fatal(
        'no image has an object', 'stops, or learns nothing but background',
        'give an ann_file with objects to learn',
    ),
    'nothing_to_find': _fatal(
        'no image has an object to find', '',
        'to predict alone, set {evaluator}.format_only=True and {evaluator}.outfile_prefix=PLACE',
    ),
    'partly_tested': _fatal(
        'sets of which not all images are tested, though all are judged', '',
        'set test_mode=True without indices, or give set and evaluator a file of those images',
    ),
    'no_box': _lost('classes without a box', 'are never learned', 'have no figures'),
    'crowd': _lost(
        'crowd regions, or objects marked difficult',
        'are not learned, nor spared as background', 'are ignored',
        'set iscrowd (in VOC difficult) of single objects to 0',
    ),
    'ignored': _lost('annotations marked ignore', _LEFT_OUT, _TO_FIND, 'set ignore to 0'),
    'inverted_box': _lost('boxes of negative width or height', _LEFT_OUT, _TO_FIND, _IN_PIXELS),
    'empty_box': _lost('boxes below one pixel', _LEFT_OUT, _TO_FIND, _IN_PIXELS),
    'no_area': _lost(
        'boxes whose area is 0', _LEFT_OUT, _TO_FIND, 'give the area in pixels, of mask or box'
    ),
    'corner_boxes': _lost(
        'sets whose boxes look like two corners', 'are read as left, top, width and height',
        remedy='write them so',
    ),
    'outside_box': _lost('boxes outside of their image', _LEFT_OUT, _TO_FIND, _IN_PIXELS),
    'small_box': _lost(
        'boxes below filter_cfg.bbox_min_size', 'are not learned',
        remedy='lower filter_cfg.bbox_min_size',
    ),
    'invalid_mask': _lost(
        'masks of no use', 'their objects are ignored',
        remedy='give them polygons of three points or more, or run lengths',
    ),
    'unknown_image': _lost(
        'annotations of images that the file does not list', _LEFT_OUT, remedy='list the images'
    ),
    'small_image': _lost(
        'images below filter_cfg.min_size', _LEFT_OUT, 'are tested', 'lower filter_cfg.min_size'
    ),
    'no_usable_objects': _lost(
        'images whose every box is left out', 'are kept, as nothing but background', 'are tested'
    ),
    'duplicate_file': _lost(
        'image files listed twice',
        'are trained on twice, each time with a part of the boxes',
        'are tested twice, each time with a part of the objects',
    ),
    'unused_label': _lost(
        'label files without an image', _LEFT_OUT,
        remedy='bring the images back, or delete the files',
    ),
    'duplicate_name': _lost('names listed twice', 'are read once'),
    'rotated_box': Kind(
        'rotated boxes', 'are learned upright, as if they were not turned',
        'are judged upright, as if they were not turned',
        remedy='give polygons, or boxes around the turned objects, and take the rotation out',
        told=True,
    ),
    'duplicate_box': Kind(
        'boxes listed twice', 'are learned twice', 'are two objects to find',
        remedy='leave one of them out', told=True,
    ),
    'absent_size': Kind(
        'images whose width or height is not said', "have their files' size", told=True
    ),
    'absent_area': Kind(
        'annotations without area', "have their mask's, or without a mask their box's", told=True
    ),
    'no_objects': Kind('images without objects', '', 'are tested'),
    'crossing_box': Kind(
        'boxes that reach beyond their image', 'are cut off by Resize', 'are taken whole'
    ),
    'duplicate_annotation_id': Kind('annotation ids used twice', 'are numbered anew'),
    'unused_copy': Kind('names of categories listed twice', 'those without a box are left out'),
    'odd_mask': Kind('masks with polygons of two points or less', 'the others are taken'),
}  # fmt: skip
