"""A person re-identification model for mmengine's runner: backbone, pooling, BNNeck, losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ...errors import ConfigError
from ...reid.network import ReIDNetwork
from ...reid.pooling import POOLINGS
from ..registry import MODELS

for _pooling in POOLINGS.values():
    MODELS.register_module(module=_pooling)

PREPROCESSOR = {
    'type': 'mmengine.ImgDataPreprocessor',
    'mean': (123.675, 116.28, 103.53),
    'std': (58.395, 57.12, 57.375),
    'bgr_to_rgb': True,
}


@MODELS.register_module()
class ReIDModel(ReIDNetwork, BaseModel):
    """The network of re-identification with its losses, as mmengine's runner trains it.

    Args:
        backbone: Config of any backbone.
        pooling: Config of one of :mod:`effvit_mm.reid.pooling`; None is the mean of the last map.
        num_classes: Persons that are trained on; where it is left out, the runner takes it from
            the training set. Without it there is no classifier, nor need of one to predict.
        classifier: Config of the loss behind the BNNeck, such as ``SoftmaxLoss``; None for none.
        metric_loss: Config of the loss before it, such as ``TripletLoss``; None for none.
        in_channels: Width of the backbone's last map, for backbones that do not declare it.
        data_preprocessor: As in mmengine; what it does not say is ImageNet's mean and deviation,
            RGB.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: Parts that do not fit together.
    """

    def __init__(
        self,
        backbone: Mapping,
        pooling: Mapping | None = None,
        num_classes: int | None = None,
        classifier: Mapping | None = None,
        metric_loss: Mapping | None = None,
        in_channels: int | None = None,
        data_preprocessor: Mapping | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = {**PREPROCESSOR, **(data_preprocessor or {})}
        super().__init__(
            MODELS.build(backbone),
            None if pooling is None else MODELS.build(pooling),
            _classifier_builder(classifier, num_classes),
            in_channels,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.num_classes = num_classes
        self._classifies = classifier is not None
        self.metric_loss = None if metric_loss is None else MODELS.build(metric_loss)

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = 'tensor',
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """What mmengine's loops call.

        Args:
            inputs: Images ``(B, 3, H, W)``, normalised.
            data_samples: With ``gt_label`` (and ``camid``) to train; what is predicted goes into
                them.
            mode: ``'tensor'`` for features ``(B, D)`` behind the BNNeck, not normalised;
                ``'predict'`` for data samples that have theirs as ``feature``, ``(D,)`` float32;
                ``'loss'`` for a dict of losses.
        """
        if mode == 'tensor':
            return super().forward(inputs)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise ValueError(f"mode={mode!r}: allowed are 'tensor', 'predict' and 'loss'")

    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None
    ) -> list[BaseDataElement]:
        """Data samples with the images' features; new ones where none are given."""
        features = super().forward(inputs).float()
        samples = data_samples or [BaseDataElement() for _ in features]
        for sample, feature in zip(samples, features, strict=True):
            sample.feature = feature
        return list(samples)

    def loss(self, inputs: Tensor, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        """Losses by name, and the share of the batch that is classified right."""
        if self.classifier is None and self._classifies:
            raise ConfigError(
                'model.num_classes is missing: only effvit_mm.Runner takes it from the training set'
            )
        if self.classifier is None and self.metric_loss is None:
            raise ConfigError('model: classifier and metric_loss are missing, one is needed')
        pooled = self.pooled(inputs)
        labels = torch.cat([sample.gt_label.reshape(1) for sample in data_samples])
        labels = labels.to(pooled.device)
        features = self.neck(pooled)  # without a classifier too: its statistics are wanted
        losses = {}
        if self.classifier is not None:
            losses['loss_id'], logits = self.classifier.loss(features, labels)
            losses['accuracy'] = (logits.detach().argmax(1) == labels).float().mean()
        if self.metric_loss is not None:
            cameras = [sample.get('camid') for sample in data_samples]
            camids = None if None in cameras else torch.tensor(cameras, device=pooled.device)
            losses['loss_metric'] = self.metric_loss(pooled, labels, camids)
        return losses

    def switch_to_deploy(self) -> ReIDModel:
        """Fold norms and drop classifier and losses, in place; features stay what they are."""
        super().switch_to_deploy()
        self.metric_loss = None
        return self


def _classifier_builder(
    config: Mapping | None, persons: int | None
) -> Callable[[int], nn.Module] | None:
    """What makes the classifier when the features' width is known; None without one."""
    if config is None or persons is None:
        return None
    if type(persons) is not int or persons < 2:
        raise ConfigError(
            f'model.num_classes={persons!r}: a whole number of persons, 2 or more, is needed'
        )
    return lambda width: MODELS.build({**config, 'in_channels': width, 'num_classes': persons})
