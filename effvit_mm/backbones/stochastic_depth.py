"""Stochastic depth: in training, residual branches are left out for some images of a batch.

torchvision has this layer, too, but to import it loads all of torchvision and with it, in 0.29,
PyTorch's compiler: two fifths of the time that ``import effvit_mm`` took.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Zero a residual branch for images drawn at random, and scale it up for the others.

    Each image's branch stays with probability ``1 - p`` and is divided by it, so that what is
    added is the same in the mean; in evaluation nothing happens. From "Deep Networks with
    Stochastic Depth" (Huang et al., ECCV 2016), by image as in later work. With the same seed,
    what torchvision's layer of this name gives in its mode ``'row'``.

    Args:
        p: Probability in [0, 1) with which an image's branch is left out.

    Shape:
        Any ``(B, ...)`` to the same shape; one draw for each of ``B``.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        stays = torch.empty(x.shape[0], *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x * stays.bernoulli_(1 - self.p).div_(1 - self.p)

    def extra_repr(self) -> str:
        return f'p={self.p}'
