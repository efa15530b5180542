"""Re-ranking with k-reciprocal neighbours (Zhong et al., CVPR 2017), in bounded memory.

The method compares people by the sets of their neighbours: two are alike if the same others are
near both. Such a set has some tens of members, so sets of all N = Q + G images are rows of a sparse
matrix; distances are computed in blocks, for the nearest neighbours, and once more for the result.

The numbers are those of torchreid's ``re_ranking``, which keeps several N x N matrices: distances
are squared (torchreid's Euclidean distance, itself a square, once more) and divided by their row's
maximum. Among equal distances the order of neighbours is not defined, there or here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from .distances import Blocks, FeatureSpace

try:
    from scipy import sparse
except ModuleNotFoundError as error:
    raise ConfigError('re-ranking needs SciPy: `pip install scipy`') from error

# Products of neighbour sets are made for so many images at a time: a few hundred entries for each.
ROWS_AT_ONCE = 8192
FINAL_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Reranking:
    """Settings; the defaults are the paper's.

    Attributes:
        k1: Neighbours that count as near.
        k2: Neighbours over which a set of neighbours is averaged; 1 leaves it as it is.
        lambda_value: Share of the original distance in the final one.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        for name in ('k1', 'k2'):
            if getattr(self, name) < 1:
                raise ConfigError(f'rerank: {name}={getattr(self, name)}, must be 1 or more')
        if not 0 <= self.lambda_value <= 1:
            raise ConfigError(f'rerank: lambda_value={self.lambda_value}, must be in [0, 1]')


def rerank_blocks(
    query: np.ndarray, gallery: np.ndarray, distance: str, settings: Reranking | None = None
) -> Blocks:
    """Re-ranked distances of (Q, D) queries to a (G, D) gallery, block by block.

    A block's memory is used again for the next one.

    Raises:
        ConfigError: ``distance`` is unknown.
    """
    settings = settings or Reranking()
    space = FeatureSpace(np.concatenate([query, gallery]), distance)
    neighbours, maxima = _neighbours(space, max(settings.k1 + 1, settings.k2))
    members = _reciprocal_sets(neighbours, settings.k1)
    sets = _weighted(members, space, maxima)
    if settings.k2 > 1:
        sets = _averaged(sets, neighbours[:, : settings.k2])
    del members, neighbours
    yield from _final_blocks(sets, space, maxima, len(query), settings.lambda_value)


def _neighbours(space: FeatureSpace, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest ``count`` of all images to each, itself included, and each row's maximum.

    Returns:
        (N, count) int32 indices, nearest first, and the (N,) largest squared distances.
    """
    total = len(space)
    count = min(count, total)
    indices = np.empty((total, count), np.int32)
    maxima = np.empty(total, np.float32)
    for start, block in space.blocks(space):
        part = slice(start, start + len(block))
        # The square of a distance that rounding has made negative would be out of order.
        squares = block.square_()
        indices[part] = squares.topk(count, largest=False, sorted=True).indices.numpy()
        maxima[part] = squares.amax(dim=1).numpy()
    return indices, maxima


def _binary(indices: np.ndarray) -> sparse.csr_array:
    """A row with ones at each row's indices: (N, k) -> N x N."""
    total, count = indices.shape
    starts = np.arange(0, total * count + 1, count, dtype=np.int32)
    ones = np.ones(total * count, np.float32)
    matrix = sparse.csr_array((ones, indices.flatten(), starts), shape=(total, total))
    matrix.sort_indices()
    return matrix


def _reciprocal(indices: np.ndarray) -> sparse.csr_array:
    """Who is among the other's neighbours both ways."""
    forward = _binary(indices)
    return forward.multiply(forward.T.tocsr()).tocsr()


def _reciprocal_sets(neighbours: np.ndarray, k1: int) -> sparse.csr_array:
    """k-reciprocal neighbours, and those of members whose own set lies in it by two thirds."""
    near = _reciprocal(neighbours[:, : k1 + 1])
    nearer = _reciprocal(neighbours[:, : round(k1 / 2) + 1])
    sizes = np.diff(nearer.indptr)
    rows = []
    for start in range(0, near.shape[0], ROWS_AT_ONCE):
        part = near[start : start + ROWS_AT_ONCE]
        shared = part.multiply(part @ nearer).tocoo()  # `nearer` is symmetric
        joins = shared.data > 2.0 / 3 * sizes[shared.col]
        joining = sparse.csr_array(
            (shared.data[joins], (shared.row[joins], shared.col[joins])), shape=part.shape
        )
        rows.append((part + joining @ nearer).tocsr())
    return sparse.vstack(rows, format='csr')


def _weighted(
    members: sparse.csr_array, space: FeatureSpace, maxima: np.ndarray
) -> sparse.csr_array:
    """Each member's weight falls with its distance; a set's weights add up to one."""
    sizes = np.diff(members.indptr)
    rows = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    weights = space.pairs(rows, members.indices)
    weights = np.exp(-_normalised(weights**2, maxima[rows]))
    totals = np.bincount(rows, weights, minlength=len(sizes))
    weights /= totals[rows]
    return sparse.csr_array(
        (weights.astype(np.float32), members.indices, members.indptr), shape=members.shape
    )


def _normalised(squares: np.ndarray, maxima: np.ndarray) -> np.ndarray:
    """Squared distances as shares of the largest; all alike are all at 0."""
    return squares / np.where(maxima > 0, maxima, 1)


def _averaged(sets: sparse.csr_array, nearest: np.ndarray) -> sparse.csr_array:
    """Each set becomes the mean of its nearest images' sets."""
    chosen = _binary(nearest)
    chosen.data /= nearest.shape[1]
    return (chosen @ sets).tocsr()


def _final_blocks(
    sets: sparse.csr_array,
    space: FeatureSpace,
    maxima: np.ndarray,
    num_queries: int,
    share: float,
) -> Blocks:
    """Mix the original distances, by their share, with the Jaccard distances of the sets."""
    query, gallery = space[:num_queries], space[num_queries:]
    holders = sets[num_queries:].T.tocsr()  # member x gallery: in whose sets it is
    for start, block in query.blocks(gallery, FINAL_BLOCK_BYTES):
        distances = block.square_().numpy()
        for number, row in enumerate(distances, start):
            own = slice(*sets.indptr[number : number + 2])
            shares = holders[sets.indices[own]]
            smaller = np.repeat(sets.data[own], np.diff(shares.indptr))
            np.minimum(smaller, shares.data, out=smaller)
            # Sets' weights add up to one, so the larger of each pair add up to 2 - shared.
            shared = np.bincount(shares.indices, smaller, minlength=len(row))
            row *= share / (maxima[number] or 1)
            row += (1 - share) * (1 - shared / (2 - shared))
        yield start, distances
