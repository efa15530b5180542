"""What a re-identification model is trained with: a classifier of persons, a loss on distances.

The classifiers see features behind the BNNeck, the metric losses those before it: Luo et al., "Bag
of Tricks and A Strong Baseline for Deep Person Re-identification", CVPRW 2019, section 3.
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...errors import ConfigError, DataError
from ...reid.network import PersonClassifier
from ..registry import MODELS


@MODELS.register_module()
class SoftmaxLoss(PersonClassifier):
    """Label-smoothed cross-entropy on a linear layer without bias.

    Args:
        in_channels: Length of a feature.
        num_classes: Persons.
        label_smoothing: Share of the target that is spread over all persons.
        weight: Of the loss.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        label_smoothing: float = 0.1,
        weight: float = 1.0,
    ) -> None:
        super().__init__(in_channels, num_classes)
        if not 0 <= label_smoothing < 1:
            raise ConfigError(
                f'model.classifier.label_smoothing={label_smoothing!r}: a number from 0 to below 1 '
                'is needed'
            )
        self.label_smoothing, self.loss_weight = label_smoothing, weight

    def loss(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of features ``(B, D)``, and their logits ``(B, num_classes)``."""
        logits = self(features).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return self.loss_weight * loss, logits


@MODELS.register_module()
class ArcFaceLoss(BaseModule):
    """Classification by angles with an additive margin, by pytorch-metric-learning.

    Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.

    Args:
        in_channels: Length of a feature.
        num_classes: Persons.
        margin: In degrees.
        scale: Of the cosines.
        weight: Of the loss.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        margin: float = 28.6,
        scale: float = 64.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.arcface = _metric_learning('model.classifier (type ArcFaceLoss)').ArcFaceLoss(
            num_classes, in_channels, margin=margin, scale=scale
        )
        self.loss_weight = weight

    def loss(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of features ``(B, D)``, and their logits without margin ``(B, num_classes)``."""
        features = features.float()
        loss = self.arcface(features, labels)
        return self.loss_weight * loss, self.arcface.get_logits(features)


def hardest_distances(
    features: Tensor, labels: Tensor, cameras: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """For each image of a batch the farthest of its person and the nearest of another.

    Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, equation 5.

    Args:
        features: ``(B, D)``.
        labels: Persons, ``(B,)``.
        cameras: ``(B,)``. With them the farthest is sought among the images of other cameras,
            where the person has some: what the protocol of evaluation asks for.

    Returns:
        Euclidean distances to the farthest and to the nearest, each ``(A,)``, of the A images that
        have both.
    """
    features = features.float()
    # Differences, not products: those of near features cancel out.
    distances = torch.cdist(features, features, compute_mode='donot_use_mm_for_euclid_dist')
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if cameras is not None:
        across = positive & (cameras[:, None] != cameras)
        positive = torch.where(across.any(1, keepdim=True), across, positive)
    anchors = positive.any(1) & ~same.all(1)
    farthest = distances.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    return farthest[anchors], nearest[anchors]


@MODELS.register_module()
class TripletLoss(BaseModule):
    """Batch-hard triplet loss on Euclidean distances (Hermans et al., 2017, equation 5).

    Args:
        margin: How much nearer the farthest of the person must be than the nearest other person,
            or ``'soft'``: ``log(1 + exp(farthest - nearest))``, which goes on pulling.
        cross_camera: Seek the farthest of the person among images of other cameras.
        weight: Of the loss.
    """

    def __init__(
        self, margin: float | str = 0.3, cross_camera: bool = False, weight: float = 1.0
    ) -> None:
        super().__init__()
        number = isinstance(margin, int | float) and not isinstance(margin, bool)
        if margin != 'soft' and not (number and margin >= 0):
            raise ConfigError(
                f"model.metric_loss.margin={margin!r}: 'soft' or a number of at least 0 is needed"
            )
        self.margin, self.cross_camera, self.loss_weight = margin, cross_camera, weight

    def forward(self, features: Tensor, labels: Tensor, cameras: Tensor | None) -> Tensor:
        """The mean over the images of a batch: features ``(B, D)``, labels and cameras ``(B,)``."""
        if self.cross_camera and cameras is None:
            raise DataError(
                'model.metric_loss.cross_camera=True: the samples of the batch have no camid'
            )
        farthest, nearest = hardest_distances(
            features, labels, cameras if self.cross_camera else None
        )
        if not len(farthest):
            raise DataError(
                f'a batch of {len(labels)} images has no two of one person and one of another: '
                "model.metric_loss needs train_dataloader.sampler=dict(type='effvit_mm.PKSampler')"
            )
        gap = farthest - nearest
        loss = F.softplus(gap) if self.margin == 'soft' else F.relu(gap + self.margin)
        return self.loss_weight * loss.mean()


@MODELS.register_module()
class CircleLoss(BaseModule):
    """Pairs weighted by how far they are from their optimum, by pytorch-metric-learning.

    Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020.

    Args:
        margin: The paper's m.
        gamma: The scale.
        weight: Of the loss.
    """

    def __init__(self, margin: float = 0.4, gamma: float = 80.0, weight: float = 1.0) -> None:
        super().__init__()
        library = _metric_learning('model.metric_loss (type CircleLoss)')
        self.circle = library.CircleLoss(m=margin, gamma=gamma)
        self.loss_weight = weight

    def forward(self, features: Tensor, labels: Tensor, cameras: Tensor | None) -> Tensor:
        """The loss of a batch: features ``(B, D)``, labels ``(B,)``; cameras are not looked at."""
        return self.loss_weight * self.circle(features.float(), labels)


def _metric_learning(who: str) -> ModuleType:
    """The losses of pytorch-metric-learning.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        from pytorch_metric_learning import losses
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'{who} needs the package {error.name}: pip install pytorch-metric-learning'
        ) from error
    return losses
