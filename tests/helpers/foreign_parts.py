"""A mechanism, a backbone and a runtime as another project has them: they inherit nothing of ours.

mypy checks this file with the package: that they fit is checked without running them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from effvit_mm.attention import Layout, Mechanism
from effvit_mm.backbones import Backbone, FeatureMaps
from effvit_mm.runtime.layout import NORMALISED
from effvit_mm.runtime.sessions import Session


class MeanAttention(nn.Module):
    """Every query gets the mean of all values."""

    takes_bias = takes_mask = samples_tokens = False
    takes_extra_queries = True

    def __init__(self, num_heads: int, key_dim: int, value_dim: int) -> None:
        super().__init__()

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        return v.mean(2, keepdim=True).expand(-1, -1, q.shape[2], -1)


class Strided(nn.Module):
    """One convolution, one map."""

    min_size = 16
    out_channels = (8,)
    out_strides = (16.0,)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 16, 16)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.stem(x),)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        return 0, 1


class MeanSession:
    """Runs no file: the mean of each image's channels."""

    def __init__(self, path: str | Path, precision: str = 'fp32', **options: Any) -> None:
        self.path = Path(path)
        self.layout = NORMALISED
        self.sides = (None, None)
        self.further = ()
        self.about = {'outputs': 'mean'}

    @staticmethod
    def checked(precision: str, options: Mapping[str, Any]) -> dict[str, Any]:
        return dict(options)

    def __call__(self, images: Tensor, *further: Tensor) -> list[np.ndarray]:
        return [images.mean((2, 3)).numpy()]


def fits(ours: Backbone) -> tuple[Mechanism, FeatureMaps, FeatureMaps, type[Session]]:
    """What the annotations claim is what mypy checks."""
    return MeanAttention(1, 8, 8), Strided(), ours, MeanSession
