"""Classification heads in plain torch, for models that are built without a config.

Weights are named as in mmpretrain's heads, so that checkpoints move between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def pool(features: Tensor | Sequence[Tensor]) -> Tensor:
    """A vector for each image, ``(B, C)``: the mean of a map, or the class tokens joined."""
    return features.mean((2, 3)) if isinstance(features, Tensor) else torch.cat(list(features), 1)


def linear(in_channels: int, num_classes: int) -> nn.Linear:
    """A linear layer, initialised as transformers' heads are."""
    layer = nn.Linear(in_channels, num_classes)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class Head(nn.Module):
    """What every head does: pool the backbone's last output and classify it.

    A subclass defines :meth:`logits`, and :meth:`branches` where a part of it is meant to follow a
    teacher. Further keyword arguments of a subclass go to the class it is mixed with:
    :mod:`effvit_mm.openmm.classifiers` joins these heads with mmpretrain's.
    """

    def pre_logits(self, feats: Sequence[Tensor | Sequence[Tensor]]) -> Tensor:
        """A backbone's output to the vectors that are classified, ``(B, C)``."""
        return pool(feats[-1])

    def logits(self, x: Tensor) -> Tensor:
        """Pooled features ``(B, C)`` to logits ``(B, num_classes)``; here the features as such."""
        return x

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits that learn from the label, and those that learn from a teacher: the same ones."""
        logits = self.logits(x)
        return logits, logits

    def forward(self, feats: Sequence[Tensor | Sequence[Tensor]]) -> Tensor:
        return self.logits(self.pre_logits(feats))


class LinearHead(Head):
    """Logits from pooled features: ``(B, C) -> (B, num_classes)``."""

    def __init__(self, in_channels: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.fc = linear(in_channels, num_classes)

    def logits(self, x: Tensor) -> Tensor:
        return self.fc(x)


class TokenHeads(Head):
    """One linear head for each class token; logits are their mean. CrossViT.

    ``x: (B, sum of widths)``, the tokens joined; returns ``(B, num_classes)``.
    """

    def __init__(self, widths: Sequence[int], num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.widths, self.num_classes = list(widths), num_classes
        self.fcs = nn.ModuleList(linear(width, num_classes) for width in widths)

    def by_token(self, x: Tensor) -> list[Tensor]:
        """Each token's own logits."""
        parts = x.split(self.widths, 1)
        return [fc(part) for fc, part in zip(self.fcs, parts, strict=True)]

    def logits(self, x: Tensor) -> Tensor:
        return self.fc(x) if self.fcs is None else torch.stack(self.by_token(x)).mean(0)


class DistilledHeads(TokenHeads):
    """The heads of a class token and of a distillation token, which follows a teacher. DeiT."""

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.fcs is None:  # deployed: they are one
            return super().branches(x)
        label, teacher = self.by_token(x)
        return label, teacher


class NormLinear(nn.Module):
    """Batch norm -> linear layer: ``(B, C) -> (B, num_classes)``."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(in_channels)
        self.linear = linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.bn(x))


class LeViTHead(Head):
    """LeViT's classifier: one head for the label, one for a teacher's answer; their mean.

    Pooled features ``(B, C)`` to logits ``(B, num_classes)``. Weights are named as in
    mmpretrain's ``LeViTClsHead``.
    """

    def __init__(self, in_channels: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.head = NormLinear(in_channels, num_classes)
        self.head_dist = NormLinear(in_channels, num_classes)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.head_dist is None:  # deployed: they are one
            return super().branches(x)
        return self.head(x), self.head_dist(x)

    def logits(self, x: Tensor) -> Tensor:
        if self.head_dist is None:
            return self.head(x)
        label, teacher = self.branches(x)
        return (label + teacher) / 2
