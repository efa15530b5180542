"""What annotation files leave out though it can be found: sizes of images, areas of objects.

And what they say that upright boxes cannot hold: a rotation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ...errors import DataError
from ...utils.image_size import image_size
from ..config.arguments import is_number

SIDES = ('width', 'height')
# What tools call the angle of a box; CVAT has it among the attributes that users define.
ANGLES = ('rotation', 'angle', 'theta')

# As coco_format's: the kind of a fault, the file that it is in, and particulars.
Tell = Callable[[str, str, str], None]


def fill_gaps(data: dict, path: str | Path, folder: str | Path | None, tell: Tell) -> dict:
    """Sizes of images by their files, areas by masks or boxes; each is told.

    An image whose size cannot be found, which is told as a fault, is not in what is given back.

    Args:
        data: The records as :func:`~.coco_format.tidy_coco` gives them.
        path: Their file.
        folder: Where file names begin; None where that is not known.
        tell: Called for each gap.
    """
    images, lost = [], set()
    for image in data['images']:
        if not all(side in image for side in SIDES):
            size = _size_of(image, path, folder, tell)
            if size is None:
                lost.add(image['id'])
                continue
            image = {**dict(zip(SIDES, size, strict=True)), **image}
        images.append(image)
    annotations = [item for item in data['annotations'] if item['image_id'] not in lost]
    names = {image['id']: image['file_name'] for image in images}
    for item in fill_areas(annotations, images):
        file = names.get(item['image_id'], str(path))
        tell('absent_area', file, f'annotation {item["own_id"]}: {item["area"]:.6g}')
    return {**data, 'images': images, 'annotations': annotations}


def _size_of(
    image: Mapping, path: str | Path, folder: str | Path | None, tell: Tell
) -> tuple[int, int] | None:
    name = image['file_name']
    if folder is None:
        side = next(side for side in SIDES if side not in image)
        text = f'image {name}: it has no {side}, and without a folder of images it cannot be seen'
        tell('bad_record', str(path), text)
        return None
    size = true_size(os.path.join(folder, name), name, tell)
    if size is not None:
        tell('absent_size', name, f'{size[0]}x{size[1]}')
    return size


def true_size(file: str | Path, name: str, tell: Tell) -> tuple[int, int] | None:
    """Width and height of an image file, called ``name``; None, told, where it has none."""
    if not os.path.isfile(file):
        tell('missing_image', name, f'{file}: no such file')
        return None
    try:
        height, width = image_size(file)
    except DataError as error:
        tell('unreadable_image', name, str(error))
        return None
    return width, height


def fill_areas(annotations: Iterable[dict], images: Iterable[Mapping]) -> list[dict]:
    """Give areas, in pixels, to annotations that have none: the mask's, or the box's.

    Those with a mask in an image of unknown size are left as they are.

    Returns:
        The annotations that were given one.
    """
    sizes = {i['id']: (i['height'], i['width']) for i in images if all(s in i for s in SIDES)}
    filled = []
    for item in annotations:
        if 'area' in item:
            continue
        mask, size = item.get('segmentation'), sizes.get(item['image_id'])
        if not mask or not any(mask):
            item['area'] = item['bbox'][2] * item['bbox'][3]
        elif size is not None or isinstance(mask, Mapping):
            item['area'] = mask_area(mask, size)
        else:
            continue
        filled.append(item)
    return filled


def mask_area(mask: list | Mapping, size: tuple[int, int] | None) -> int:
    """Pixels of polygons in an image of (height, width), or of run lengths, as pycocotools counts.

    Both must be sound, as :func:`~.coco_format.tidy_coco` gives them.
    """
    from pycocotools import mask as coder

    if isinstance(mask, Mapping):
        packed = isinstance(mask['counts'], str)
        runs = mask if packed else coder.frPyObjects(mask, *mask['size'])
    else:
        runs = coder.merge(coder.frPyObjects(mask, *size))
    return int(coder.area(runs))


def rotation(annotation: Mapping) -> tuple[str, float] | None:
    """Name and value of the angle that a box without a mask is turned by, or None."""
    if annotation.get('segmentation'):
        return None  # the box is that of the outline
    attributes = annotation.get('attributes')
    given = {name: annotation.get(name) for name in ANGLES}
    if isinstance(attributes, Mapping):
        given['rotation'] = given['rotation'] or attributes.get('rotation')
    turned = [(name, angle) for name, angle in given.items() if is_number(angle) and angle]
    return turned[0] if turned else None
