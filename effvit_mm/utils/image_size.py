"""The size that an image will have when it is decoded, from the first bytes of its file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .images import load_image

ORIENTATION = 0x0112  # EXIF's tag
TURNED = (5, 6, 7, 8)  # its values with which width and height change places
# Of JPEG: bytes that are read, and markers.
HEAD = 4096
FRAMES, HUFFMAN, START_OF_SCAN = (0xC0, 0xC1, 0xC2), 0xC4, 0xDA
TABLES, EXIF, LAST = 0xDB, 0xE1, 0xFE  # quantisation, others, APP0 to 15 (EXIF), comments
MOST_PIXELS = 50_000_000


def image_size(path: str | Path) -> tuple[int, int]:
    """Height and width of an image, turned as its EXIF orientation says.

    Raises:
        DataError: The file is missing, empty, or no image.
    """
    try:
        if (size := _plain_jpeg_size(path)) is not None:
            return size
        with Image.open(path) as image:
            width, height = image.size
            # The general way: Pillow's own for PNG decodes the image.
            turned = Image.Image.getexif(image).get(ORIENTATION) in TURNED
            # Of a TIFF file Pillow gives the size as it is turned.
            return (width, height) if turned and image.format != 'TIFF' else (height, width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return load_image(path).shape[:2]


def _plain_jpeg_size(path: str | Path) -> tuple[int, int] | None:
    """Height and width of a JPEG file without EXIF, as most are, in a quarter of Pillow's time.

    None of all others, and of whatever is odd: Pillow is asked then.
    """
    with open(path, 'rb', buffering=0) as file:
        head = file.read(HEAD)
    if head[:2] != b'\xff\xd8':
        return None
    place, size = 2, None
    while place + 9 < len(head) and head[place] == 0xFF:
        marker, end = head[place + 1], place + 2 + _number(head, place + 2)
        if marker == START_OF_SCAN:  # as far as Pillow reads, too
            return size if end <= len(head) else None
        if marker in FRAMES and size is None:
            size = _number(head, place + 5), _number(head, place + 7)
            if not 0 < size[0] * size[1] <= MOST_PIXELS:
                return None
        elif not (TABLES <= marker <= LAST or marker == HUFFMAN) or marker == EXIF:
            return None
        place = end
    return None


def _number(content: bytes, place: int) -> int:
    """Two bytes as a number."""
    return content[place] << 8 | content[place + 1]


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
