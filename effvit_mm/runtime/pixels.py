"""Photographs as OpenCV reads them: made as large as a network's images, normalised in a graph.

Resizing stays outside of graphs. OpenCV's and Pillow's rounding is their own, and OpenCV's differs
between processors: there is no operator of a runtime that gives the same pixels. So a file says in
its metadata which of their functions are to be called, and the graph takes what these give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .graph import need

METADATA_KEY = 'preprocess'
Photograph = str | Path | np.ndarray


class Resize(NamedTuple):
    """Make an image this large, whatever its proportions.

    Attributes:
        width, height: In pixels.
        interpolation: One of OpenCV's or Pillow's: :data:`INTERPOLATIONS`.
        backend: ``'cv2'`` or ``'pillow'``.
    """

    width: int
    height: int
    interpolation: str
    backend: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return resize(image, (self.width, self.height), self.interpolation, self.backend)


class ResizeEdge(NamedTuple):
    """Make an edge of an image this long, and keep its proportions (rounded down).

    Attributes:
        scale: In pixels.
        edge: ``'short'``, ``'long'``, ``'width'`` or ``'height'``.
        interpolation, backend: As of :class:`Resize`.
    """

    scale: int
    edge: str
    interpolation: str
    backend: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        by_width = {'short': width < height, 'long': width > height, 'width': True, 'height': False}
        if by_width[self.edge]:
            size = self.scale, int(self.scale * height / width)
        else:
            size = int(self.scale * width / height), self.scale
        return resize(image, size, self.interpolation, self.backend)


class CenterCrop(NamedTuple):
    """Cut out the middle of an image; of a smaller one, as much as there is.

    Attributes:
        width, height: In pixels.
    """

    width: int
    height: int

    def __call__(self, image: np.ndarray) -> np.ndarray:
        (rows, columns), height, width = image.shape[:2], self.height, self.width
        top, left = (max(0, round(n / 2)) for n in (rows - height, columns - width))
        return image[top : top + height, left : left + width]


Step = Resize | ResizeEdge | CenterCrop
STEPS = {'resize': Resize, 'resize_edge': ResizeEdge, 'center_crop': CenterCrop}
# Names of OpenMMLab's transforms, and the libraries' own.
INTERPOLATIONS = {
    'cv2': {
        'nearest': 'INTER_NEAREST',
        'bilinear': 'INTER_LINEAR',
        'bicubic': 'INTER_CUBIC',
        'area': 'INTER_AREA',
        'lanczos': 'INTER_LANCZOS4',
    },
    'pillow': {
        name: name.upper()
        for name in ('nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming')
    },
}


def resize(
    image: np.ndarray, size: tuple[int, int], interpolation: str, backend: str
) -> np.ndarray:
    """An image ``(H, W, 3)`` uint8 at another size, ``(width, height)``, by OpenCV or Pillow."""
    code = INTERPOLATIONS[backend][interpolation]
    if backend == 'cv2':
        cv2 = need('cv2')
        return cv2.resize(image, size, interpolation=getattr(cv2, code))
    pillow = need('PIL.Image')
    return np.array(pillow.fromarray(image).resize(size, pillow.Resampling[code]))


def _opened(photograph: Photograph) -> np.ndarray:
    if not isinstance(photograph, np.ndarray):
        need('cv2')
        from ..utils.images import load_image

        return load_image(photograph)
    shape, dtype = photograph.shape, photograph.dtype
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise ConfigError(f'photograph of shape {shape} in {dtype}: (H, W, 3) in uint8 is needed')
    return photograph


class Preprocessing(NamedTuple):
    """What makes a photograph an image of the size that a network takes.

    Attributes:
        steps: One after the other, each from ``(H, W, 3)`` uint8 to the same of another size. None
            where nothing is known of them.
    """

    steps: tuple[Step, ...] | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``(H, W, 3)`` uint8, BGR, of any size, to the same of the network's size."""
        for step in self.steps or ():
            image = step(image)
        return image

    def read(self, photographs: Photograph | Sequence[Photograph]) -> Tensor:
        """Image files, or arrays ``(H, W, 3)`` uint8, BGR, as a batch ``(B, H, W, 3)``.

        Raises:
            ConfigError: Steps are not known; there are no photographs, one is no such array, or
                what comes out is of several sizes.
            DataError: A file is missing, cut short or no image.
        """
        if self.steps is None:
            raise ConfigError(
                'preprocessing: nothing says how photographs become as large as the network takes '
                'them: scale them before, to (B, H, W, 3)'
            )
        if isinstance(photographs, Photograph):
            photographs = [photographs]
        if not photographs:
            raise ConfigError('photographs: one or more are needed')
        images = [self(_opened(photograph)) for photograph in photographs]
        sizes = sorted({image.shape[:2] for image in images})
        if len(sizes) > 1:
            text = ', '.join(f'{height} x {width}' for height, width in sizes)
            raise ConfigError(f'photographs: they become {text} pixels: give them one by one')
        return torch.from_numpy(np.stack(images))

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of what comes out; None where that depends on the photograph."""
        last = self.steps[-1] if self.steps else None
        return (last.height, last.width) if isinstance(last, Resize | CenterCrop) else None

    def to_json(self) -> str:
        names = {cls: name for name, cls in STEPS.items()}
        rows = [{'step': names[type(step)], **step._asdict()} for step in self.steps or ()]
        return json.dumps(None if self.steps is None else rows)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Undo :meth:`to_json`.

        Raises:
            ConfigError: It is none, or of a later version that has further steps.
        """
        try:
            rows = json.loads(text)
            known = rows is not None
            return cls(tuple(STEPS[row.pop('step')](**row) for row in rows) if known else None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f'{METADATA_KEY}: {text!r} is not known here: {error!r}') from error


class Normalise(nn.Module):
    """Pixels as a network takes them.

    Args:
        normalisation: ``mean`` and ``std`` of the pixels 0 to 255, one or three in the order of
            ``order``: ``'RGB'`` or ``'BGR'``.

    Shapes:
        ``(B, H, W, 3)`` uint8, BGR, to ``(B, 3, H, W)`` float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Mapping[str, Any]) -> None:
        super().__init__()
        self.reverse = normalisation['order'] == 'RGB'
        for name in ('mean', 'std'):
            value = torch.tensor(normalisation[name], dtype=torch.float32)
            self.register_buffer(name, value.view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2)
        x = x.flip(1) if self.reverse else x
        return (x.float() - self.mean) / self.std
