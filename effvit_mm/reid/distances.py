"""Distances between two sets of features, a block of rows at a time.

A whole matrix of MSMT17's size takes 3.8 GB; a block of :data:`BLOCK_BYTES` is large enough for
the matrix product to run at full speed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError

DISTANCES = ('cosine', 'euclidean')
BLOCK_BYTES = 128 * 2**20

Blocks = Iterator[tuple[int, np.ndarray]]  # first row, (rows, N) float32 that the taker may change


def check_distance(distance: str) -> None:
    """Raise :class:`ConfigError` for a name that is no distance."""
    if distance not in DISTANCES:
        raise ConfigError(f'distance={distance!r}: choose from {", ".join(DISTANCES)}')


def rows_in_block(columns: int, block_bytes: int = BLOCK_BYTES) -> int:
    """How many rows of so many float32 make a block."""
    return max(1, block_bytes // (4 * max(columns, 1)))


class FeatureSpace:
    """Features made ready for distances of one kind.

    ``'cosine'`` is 1 - cosine, ``'euclidean'`` the squared distance, as in torchreid.

    Args:
        features: (N, D) float32.
        distance: One of :data:`DISTANCES`.
        ready: They are the ``features`` of another such space.
    """

    def __init__(
        self, features: np.ndarray | Tensor, distance: str, *, ready: bool = False
    ) -> None:
        check_distance(distance)
        self.distance = distance
        features = torch.as_tensor(features)
        if distance == 'cosine':
            self.features = features if ready else F.normalize(features, dim=1)
            self.offsets = torch.ones(1)
            self.scale = -1.0
        else:
            self.features = features
            self.offsets = torch.einsum('nd,nd->n', features, features)
            self.scale = -2.0

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: slice) -> FeatureSpace:
        """Some of the features, without a copy."""
        part = copy.copy(self)
        part.features = self.features[rows]
        if self.distance == 'euclidean':
            part.offsets = self.offsets[rows]
        return part

    def block(self, rows: slice, other: FeatureSpace, out: Tensor) -> Tensor:
        """Distances of some rows to all of ``other``: (rows, M), in the memory of ``out``."""
        chosen = self.features[rows]
        out = out[: len(chosen)]
        torch.addmm(other.offsets, chosen, other.features.T, alpha=self.scale, out=out)
        if self.distance == 'euclidean':
            out += self.offsets[rows, None]
        return out

    def blocks(
        self, other: FeatureSpace, block_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[int, Tensor]]:
        """All distances to ``other`` in order: first row and (rows, M), valid until the next."""
        step = min(rows_in_block(len(other), block_bytes), max(len(self), 1))
        buffer = torch.empty(step, len(other))
        for start in range(0, len(self), step):
            yield start, self.block(slice(start, start + step), other, buffer)

    def pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Distances of pairs within the set: (P,) float32 for P indices each."""
        result = torch.empty(len(rows))
        step = rows_in_block(2 * self.features.shape[1])
        first, second = torch.as_tensor(rows).long(), torch.as_tensor(columns).long()
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            left, right = self.features[first[part]], self.features[second[part]]
            product = torch.einsum('nd,nd->n', left, right)
            if self.distance == 'euclidean':
                offsets = self.offsets[first[part]] + self.offsets[second[part]]
            else:
                offsets = self.offsets
            result[part] = offsets + self.scale * product
        return result.numpy()


def distance_blocks(
    query: np.ndarray, gallery: np.ndarray, distance: str, block_bytes: int = BLOCK_BYTES
) -> Blocks:
    """Distances of (Q, D) queries to a (G, D) gallery: first query and (rows, G), block by block.

    A block's memory is used again for the next one.

    Raises:
        ConfigError: ``distance`` is not one of :data:`DISTANCES`.
    """
    spaces = FeatureSpace(query, distance), FeatureSpace(gallery, distance)
    for start, block in spaces[0].blocks(spaces[1], block_bytes):
        yield start, block.numpy()
