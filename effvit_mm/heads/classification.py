"""Classification heads in plain torch, for models that are built without a config.

Weights are named as in mmpretrain's heads, so that checkpoints move between the two.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..backbones.levit import NormLinear


def pool(features: Tensor | Sequence[Tensor]) -> Tensor:
    """A vector for each image, ``(B, C)``: the mean of a map, or the class tokens joined."""
    return features.mean((2, 3)) if isinstance(features, Tensor) else torch.cat(list(features), 1)


def linear(in_channels: int, num_classes: int) -> nn.Linear:
    """A linear layer, initialised as transformers' heads are."""
    layer = nn.Linear(in_channels, num_classes)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(nn.Module):
    """Logits from pooled features: ``(B, C) -> (B, num_classes)``."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class TokenHeads(nn.Module):
    """One linear head for each class token; logits are their mean. CrossViT.

    ``x: (B, sum of widths)``, the tokens joined; returns ``(B, num_classes)``.
    """

    def __init__(self, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.fcs = nn.ModuleList(linear(width, num_classes) for width in widths)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.widths, 1)
        logits = [fc(part) for fc, part in zip(self.fcs, parts, strict=True)]
        return torch.stack(logits).mean(0)


class LeViTHead(nn.Module):
    """LeViT's classifier: one head for the label, one for a teacher's answer; their mean.

    Pooled features ``(B, C)`` to logits ``(B, num_classes)``. Weights are named as in
    mmpretrain's ``LeViTClsHead``.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.head = NormLinear(in_channels, num_classes)
        self.head_dist = NormLinear(in_channels, num_classes)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits for the label and for the teacher, apart: what distillation trains."""
        return self.head(x), self.head_dist(x)

    def forward(self, x: Tensor) -> Tensor:
        label, teacher = self.branches(x)
        return (label + teacher) / 2
