"""Reading an image file as three uint8 channels, or saying which file is broken and how.

OpenCV returns None for what it cannot read and, in many versions, a half-grey picture for a JPEG
that was cut short; mmcv's transform then fails with a message that names the file but not the
fault, or trains on the grey half. Here every fault is a :class:`DataError`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import CorruptImageError, DataError

JPEG_START, JPEG_END = b'\xff\xd8', b'\xff\xd9'
PNG_START = b'\x89PNG'
TIFF_STARTS = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two of files above 4 GB
ORIENTATION = 0x0112  # the EXIF tag, from 1, as it is, to 8
TRANSPOSED = (5, 6, 7, 8)
# How OpenCV flips, after the transposition: 0 upside down, 1 left to right, -1 both.
FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
START_OF_SCAN = 0xDA
# Markers without a length field: TEM and the restart markers.
BARE_MARKERS = {0x01, *range(0xD0, 0xD8)}


def jpeg_is_complete(data: bytes) -> bool:
    """Whether a JPEG's pixels are followed by the end marker.

    An embedded thumbnail has an end marker of its own, so the segments before the first scan are
    stepped over; within a scan the marker's bytes cannot occur as data. Costs microseconds.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == START_OF_SCAN:
            return data.find(JPEG_END, position) >= 0
        if marker == 0xFF:  # padding before a marker
            position += 1
        elif marker in BARE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
    return False


def decode_image(data: bytes) -> np.ndarray:
    """Decode to (H, W, 3) uint8 in BGR, turned as its EXIF orientation says, whatever the format.

    Grey and palette images are expanded, alpha is dropped, CMYK is converted; of animations and
    pages the first is taken. 16 bits are cut to their upper 8. Floats from 0 to 1 are stretched to
    255, those that go beyond, up to 255, are rounded.

    Raises:
        ValueError: What is wrong with the data, in a few words.
    """
    if not data:
        raise ValueError('the file is empty')
    if data.startswith(JPEG_START) and not jpeg_is_complete(data):
        raise ValueError('truncated JPEG: its end is missing')
    is_tiff = data.startswith(TIFF_STARTS)
    # By any other flag OpenCV cuts floats off, or cannot read them.
    flag = cv2.IMREAD_UNCHANGED if is_tiff else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise ValueError(f'OpenCV cannot decode it: {error.err}') from error
    if image is None and data.startswith((JPEG_START, PNG_START)):
        # Pillow would fill up the missing part of some of these without a word.
        raise ValueError('truncated or damaged image data')
    if image is None or (is_tiff and image.dtype == np.uint8 and image.shape[2:] == (4,)):
        return _decode_with_pillow(data)  # OpenCV multiplies a TIFF's colours by its alpha
    if is_tiff:
        return _three_channels(_as_bytes(image))
    if data.startswith((JPEG_START, PNG_START)):
        return image
    return _turned(image, data)


def _as_bytes(image: np.ndarray) -> np.ndarray:
    """What was stored with more than 8 bits, or as floats."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    low, high = image.min(), image.max()
    if image.dtype.kind == 'f' and low >= 0 and high <= 255:  # false for NaN, too
        return np.round(image * 255 if high <= 1 else image).astype(np.uint8)
    raise ValueError(
        f'{image.dtype} values from {low:g} to {high:g}: which of them are black and white is not '
        'known; convert it to 8 or 16 bits, or to floats from 0 to 1'
    )


def _three_channels(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2 or image.shape[2] == 2:  # grey, or grey with alpha
        return np.repeat(image.reshape(*image.shape[:2], -1)[..., :1], 3, axis=2)
    return np.ascontiguousarray(image[..., :3])


def _turned(image: np.ndarray, data: bytes) -> np.ndarray:
    """OpenCV follows the orientation of JPEG, PNG and TIFF files alone."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            orientation = opened.getexif().get(ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return image  # a format that Pillow lacks has no EXIF data either
    if orientation in TRANSPOSED:
        image = cv2.transpose(image)
    flip = FLIPS.get(orientation)
    return image if flip is None else cv2.flip(image, flip)


def _decode_with_pillow(data: bytes) -> np.ndarray:
    """For the formats that this build of OpenCV lacks."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return from_pillow(opened)
    except UnidentifiedImageError as error:
        raise ValueError('not an image, or of an unknown format') from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def from_pillow(image: Image.Image) -> np.ndarray:
    """An image of Pillow as :func:`decode_image` gives one: (H, W, 3) uint8, BGR, turned.

    Raises:
        OSError, ValueError, ...: Its file is cut short, or its values have no known range.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in 'IF':  # 16 or 32 bits, or floats
        return _three_channels(_as_bytes(np.asarray(image)))
    return np.ascontiguousarray(np.asarray(image.convert('RGB'))[..., ::-1])


def load_image(path: str | Path) -> np.ndarray:
    """Read an image file: (H, W, 3) uint8 in BGR, as OpenMMLab's pipelines expect.

    Raises:
        CorruptImageError: The file is empty, cut short, damaged or no image.
        DataError: It is missing or cannot be opened.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f'image {path}: {error.strerror or error}') from error
    try:
        return decode_image(data)
    except ValueError as error:
        raise CorruptImageError(f'corrupt image {path}: {error}') from error


def to_bgr(array: np.ndarray, rgb: bool = False) -> np.ndarray:
    """An array, grey, BGR or BGR with alpha (dropped, as from files), as ``(H, W, 3)`` uint8, BGR.

    Args:
        array: ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``.
        rgb: Its colours are in this order, red first.

    Raises:
        DataError: Another shape or type.
    """
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape:
        raise DataError(
            f'array of shape {array.shape}: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is needed; '
            'give several images as a list'
        )
    if array.dtype != np.uint8:
        raise DataError(f'array of {array.dtype}: uint8 from 0 to 255 is needed')
    if channels == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    array = array[..., :3]
    return np.ascontiguousarray(array[..., ::-1] if rgb else array)


def cut_out(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """The part of an image (H, W, ...) that a box (left, top, right, bottom) holds, copied.

    What lies beyond the image is left off; of a box that is no pixel wide or high one is given.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = (round(float(value)) for value in box)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    right, bottom = min(max(right, left + 1), width), min(max(bottom, top + 1), height)
    return image[top:bottom, left:right].copy()
