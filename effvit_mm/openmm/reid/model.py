"""A person re-identification model for mmengine's runner: backbone, pooling, BNNeck, losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ...backbones import Deployable
from ...errors import ConfigError
from ..registry import MODELS
from .pooling import pooled_width

PREPROCESSOR = {
    'type': 'mmengine.ImgDataPreprocessor',
    'mean': (123.675, 116.28, 103.53),
    'std': (58.395, 57.12, 57.375),
    'bgr_to_rgb': True,
}


class BNNeck(nn.BatchNorm1d):
    """A batch norm whose bias is zero and stays so: no parameter for any optimizer."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        del self.bias
        self.register_buffer('bias', torch.zeros(num_features))


@MODELS.register_module()
class ReIDModel(Deployable, BaseModel):
    """Images to features that are near for one person and far for different ones.

    Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification", CVPRW 2019:
    a batch norm whose bias stays zero, the BNNeck, lies between the pooled feature, which distances
    are trained on, and the classifier. What comes out of it is the feature to search with, under
    the cosine distance. Weights are named ``backbone.*``, ``pool.*``, ``neck.*``, ``classifier.*``.

    Args:
        backbone: Config of any backbone.
        pooling: Config; None is the mean of the last map. See :mod:`.pooling`.
        num_classes: Persons that are trained on; where it is left out, the runner takes it from
            the training set. Without it there is no classifier, nor need of one to predict.
        classifier: Config of the loss behind the BNNeck, None for none; see :mod:`.losses`.
        metric_loss: Config of the loss before it, None for none.
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
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = MODELS.build(backbone)
        self.pool = MODELS.build(pooling or {'type': 'effvit_mm.AveragePooling'})
        self.num_features = pooled_width(self.backbone, self.pool, in_channels)
        self.neck = BNNeck(self.num_features)
        self.num_classes = num_classes
        self._classifies = classifier is not None
        self.classifier = self._build_classifier(classifier)
        # Nothing behind the neck would give its scale a gradient, and DDP asks for one.
        self.neck.weight.requires_grad_(self.classifier is not None)
        self.metric_loss = None if metric_loss is None else MODELS.build(metric_loss)

    def _build_classifier(self, classifier: Mapping | None) -> nn.Module | None:
        persons = self.num_classes
        if classifier is None or persons is None:
            return None
        if type(persons) is not int or persons < 2:
            raise ConfigError(
                f'model.num_classes={persons!r}: a whole number of persons, 2 or more, is needed'
            )
        sizes = {'in_channels': self.num_features, 'num_classes': persons}
        return MODELS.build({**classifier, **sizes})

    def pooled(self, inputs: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)``, normalised, to features before the BNNeck ``(B, D)``."""
        return self.pool(self.backbone(inputs)[-1])

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
            return self.neck(self.pooled(inputs))
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        raise ValueError(f"mode={mode!r}: allowed are 'tensor', 'predict' and 'loss'")

    def predict(
        self, inputs: Tensor, data_samples: Sequence[BaseDataElement] | None = None
    ) -> list[BaseDataElement]:
        """Data samples with the images' features; new ones where none are given."""
        features = self.neck(self.pooled(inputs)).float()
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
            known = None if None in cameras else torch.tensor(cameras, device=pooled.device)
            losses['loss_metric'] = self.metric_loss(pooled, labels, known)
        return losses

    def switch_to_deploy(self) -> ReIDModel:
        """See :class:`Deployable`. What is for training alone is gone."""
        super().switch_to_deploy()
        self.classifier = self.metric_loss = None
        return self
