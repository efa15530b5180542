"""How images lie in memory, as a graph takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch


class Layout(NamedTuple):
    """Shape and type of a batch of images.

    Attributes:
        dtype: Of the values.
        channels: Axis of the three channels: 1 or 3.
    """

    dtype: torch.dtype
    channels: int

    def shape(self, batch: Any, sides: Sequence) -> list:
        """The shape of a batch: ``[B, 3, H, W]`` or ``[B, H, W, 3]``."""
        shape = [batch, *sides]
        shape.insert(self.channels, 3)
        return shape

    def sides(self, shape: Sequence) -> list:
        """Height and width of a shape."""
        return [shape[axis] for axis in self.side_axes]

    @property
    def side_axes(self) -> tuple[int, int]:
        """The axes of height and width."""
        return (2, 3) if self.channels == 1 else (1, 2)

    def __str__(self) -> str:
        shape = ', '.join(map(str, self.shape('B', 'HW')))
        return f'{str(self.dtype).removeprefix("torch.")}, ({shape})'


NORMALISED = Layout(torch.float32, 1)  # as networks take them
PIXELS = Layout(torch.uint8, 3)  # as OpenCV reads them
