"""The size that an image will have when it is decoded, from the first bytes of its file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .images import load_image

ORIENTATION = 0x0112  # EXIF's tag
TURNED = (5, 6, 7, 8)  # its values with which width and height change places


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image, turned as its EXIF orientation says.

    Raises:
        DataError: The file is missing, empty, or no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # The general way: Pillow's own for PNG decodes the image.
            turned = Image.Image.getexif(image).get(ORIENTATION) in TURNED
            # Of a TIFF file Pillow gives the size as it is turned.
            return (width, height) if turned and image.format != 'TIFF' else (height, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return load_image(path).shape[:2]


def size_fault(said: tuple[int, int], actual: tuple[int, int]) -> str:
    """What is wrong where annotations say another (height, width) than the image has, or nothing.

    Boxes and masks would lie elsewhere. The rule is the same for all formats and all data sets.
    """
    if said == actual:
        return ''
    text = (
        f'has {actual[1]}x{actual[0]} pixels, its annotations say {said[1]}x{said[0]}: boxes and '
        'masks would lie elsewhere'
    )
    if said == actual[::-1]:
        return f'{text}; if it is turned by its EXIF orientation, take that out of the file'
    return f'{text}; write the true size, or take the image that was annotated'
