"""Query expansion: a query becomes the mean of itself and what is nearest to it in the gallery.

Average: Chum et al., Total Recall (2007). Weighted by similarity to the power alpha: Radenovic et
al., Fine-tuning CNN Image Retrieval with No Human Annotation (2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from ..errors import ConfigError
from .distances import FeatureSpace
from .features import ReIDFeatures

if TYPE_CHECKING:
    from .galleries import AnyGallery


@dataclass(frozen=True)
class QueryExpansion:
    """Settings, called with features.

    Attributes:
        k: Neighbours that join the query.
        alpha: A neighbour's weight is its cosine, where positive, to this power; 0 gives all the
            same weight.
    """

    k: int = 5
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f'query_expansion: k={self.k}, must be 1 or more')
        if self.alpha < 0:
            raise ConfigError(f'query_expansion: alpha={self.alpha}, must be 0 or more')

    def __call__(self, query: np.ndarray, gallery: np.ndarray, distance: str) -> np.ndarray:
        """Expanded queries: (Q, D) float32 for (Q, D) queries and a (G, D) gallery.

        With the cosine distance the unit vectors are averaged.
        """
        spaces = FeatureSpace(query, distance), FeatureSpace(gallery, distance)
        expanded = torch.empty_like(spaces[0].features)
        count = min(self.k, len(gallery))
        for start, block in spaces[0].blocks(spaces[1]):
            part = slice(start, start + len(block))
            own = spaces[0].features[part]
            nearest = block.topk(count, largest=False).indices
            neighbours = spaces[1].features[nearest]  # Q k D
            cosines = F.cosine_similarity(own[:, None], neighbours, dim=-1)
            weights = cosines.clamp(min=0) ** self.alpha if self.alpha else torch.ones_like(cosines)
            total = own + torch.einsum('qk,qkd->qd', weights, neighbours)
            expanded[part] = total / (1 + weights.sum(dim=1, keepdim=True))
        return expanded.numpy()

    def in_gallery(self, queries: ReIDFeatures, gallery: AnyGallery) -> ReIDFeatures:
        """Expanded queries, by what is nearest to each in all of a gallery of any kind.

        Raises:
            DataError: As of the gallery's search.
        """
        rows, _ = gallery.search(queries, self.k)
        expanded = np.empty_like(queries.features)
        for number, near in enumerate(rows):
            neighbours = gallery.take(near[near >= 0])[0].features
            own = queries.features[number : number + 1]
            expanded[number] = self(own, neighbours, gallery.distance)[0]
        return ReIDFeatures(
            expanded,
            queries.pids,
            queries.camids,
            queries.paths,
            queries.model,
            queries.source,
            queries.preparation,
        )
