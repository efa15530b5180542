"""The network of person re-identification: a backbone, a pooling, the BNNeck, a classifier.

Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification", CVPRW 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import Deployable
from .pooling import AveragePooling, Pooling, pooled_width


class BNNeck(nn.BatchNorm1d):
    """A batch norm whose bias is zero and stays so: no parameter for any optimizer."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        del self.bias
        self.register_buffer('bias', torch.zeros(num_features))


class PersonClassifier(nn.Linear):
    """Features ``(B, in_channels)`` to logits ``(B, num_classes)``: a linear layer without bias."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, bias=False)
        nn.init.normal_(self.weight, std=1e-3)


class ReIDNetwork(Deployable):
    """Images to features that are near for one person and far for different ones.

    The BNNeck lies between the pooled feature, which distances are trained on, and the classifier.
    What comes out of it is the feature to search with, under the cosine distance. Weights are named
    ``backbone.*``, ``pool.*``, ``neck.*``, ``classifier.*``.

    Args:
        backbone: Its last map, or its vectors, are pooled.
        pooling: How; the mean of the map by default.
        classifier: Makes the classifier of features of a given width; None for none.
        in_channels: Width of the backbone's last map, for backbones that do not declare it.
        **kwargs: Of the class that this one is mixed with.

    Attributes:
        num_features: Length D of a feature.

    Raises:
        ConfigError: Backbone and pooling do not fit together.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pooling: Pooling | None = None,
        classifier: Callable[[int], nn.Module] | None = None,
        in_channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.pool = AveragePooling() if pooling is None else pooling
        self.num_features = pooled_width(self.backbone, self.pool, in_channels)
        self.neck = BNNeck(self.num_features)
        self.classifier = None if classifier is None else classifier(self.num_features)
        # Nothing behind the neck would give its scale a gradient, and DDP asks for one.
        self.neck.weight.requires_grad_(self.classifier is not None)

    def pooled(self, inputs: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, normalised, to features before the BNNeck ``(B, D)``."""
        return self.pool(self.backbone(inputs)[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, normalised, to features behind the BNNeck ``(B, D)``."""
        return self.neck(self.pooled(inputs))

    def switch_to_deploy(self) -> ReIDNetwork:
        """Fold norms and drop the classifier, in place; features stay what they are."""
        super().switch_to_deploy()
        self.classifier = None
        return self
