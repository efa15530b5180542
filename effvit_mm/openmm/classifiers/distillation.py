"""Learning from a teacher as well as from labels, for every classifier, by config alone.

Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML
2021 (arXiv 2012.12877): soft distillation is its equation 2, hard distillation its equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor

from ...errors import ConfigError
from ..config.arguments import is_number
from ..registry import MODELS
from .teacher import Normalisation, Teacher, TeacherSettings, check_values, count_classes


def distillation_loss(
    student: Tensor, teacher: Tensor, mode: str, temperature: float = 1.0
) -> Tensor:
    """How far the student's answer is from the teacher's; the mean over the images.

    ``hard`` is the cross-entropy with the class that the teacher finds likeliest. ``soft`` is
    ``temperature ** 2`` times the Kullback-Leibler divergence of the student's softmax from the
    teacher's, both of logits divided by the temperature, so that gradients keep their size whatever
    the temperature. It is summed over the classes, as in the paper; DeiT's code divides it by their
    number as well, which makes it a thousand times weaker on ImageNet.

    Logits are ``(B, num_classes)``; no gradient flows into the teacher's.
    """
    student, teacher = student.float(), teacher.detach().float()
    if mode == 'hard':
        return F.cross_entropy(student, teacher.argmax(1))
    divergence = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction='batchmean',
        log_target=True,
    )
    return divergence * temperature**2


# Key -> (whether a value can be, what is needed).
OPTIONS = {
    'mode': (('hard', 'soft').__contains__, "'hard' or 'soft'"),
    'weight': (lambda v: is_number(v) and 0 <= v <= 1, 'a number from 0 to 1'),
    'temperature': (lambda v: is_number(v) and v > 0, 'a number above 0'),
}


class Distillation(NamedTuple):
    """How a student learns from its teacher.

    Attributes:
        mode: ``'hard'`` or ``'soft'``.
        weight: The teacher's share of the loss, from 0 to 1; the label has the rest.
        temperature: Of ``soft``.
    """

    mode: str = 'hard'
    weight: float = 0.5
    temperature: float = 1.0

    @classmethod
    def from_config(cls, config: Any) -> Distillation:
        """The settings of ``dict(mode='soft', weight=0.1, temperature=3.0)``, for one."""
        path, known = 'model.distillation', ', '.join(OPTIONS)
        config = {} if config is None else config
        if not isinstance(config, Mapping):
            raise ConfigError(f'{path}={config!r}: a dict is needed, of {known}')
        for key, value in config.items():
            if key not in OPTIONS:
                raise ConfigError(f'{path}.{key}={value!r}: no such key; there are {known}')
        check_values(path, config, OPTIONS)
        return cls(**config)


@MODELS.register_module()
class DistilledClassifier(ImageClassifier):
    """An image classifier that learns from a teacher beside the labels.

    The loss is ``(1 - weight) * loss of the label + weight * loss of the teacher``, logged as
    ``loss_label`` and ``loss_distillation``, each with its weight. The teacher sees the very images
    that the student sees, augmented and mixed, with its own normalisation. A head with branches
    (``DistilledClsHead``, ``LeViTClsHead``) has one learn from the label and one from the teacher;
    any other head's logits learn from both.

    The arguments are checked when the classifier is built. The teacher itself is built, with its
    weights, by :meth:`init_weights`, which OpenMMLab's runners call before a training and not
    before a test: testing needs neither the teacher's file nor its memory. Checkpoints are those of
    an ``ImageClassifier`` with the same backbone and head.

    Args:
        backbone: As in ``ImageClassifier``.
        head: A head with the loss of mmpretrain's ``ClsHead``, ours or not.
        teacher: One of ``config=`` (a file), ``timm=``, ``mmpretrain=`` and ``model=`` (names; the
            last is of :func:`effvit_mm.list_models`), with one of ``checkpoint=`` (a file or web
            address, read as data; ``trust=True`` unpickles), ``pretrained=True`` (what timm or
            mmpretrain published) and ``untrained=True`` (random weights, for a trial). Further keys
            go to the constructor or, where there is a config, are ``backbone``, ``neck`` and
            ``head``, to be merged into it. ``mean``, ``std`` (of pixels of 0 to 255) and ``to_rgb``
            replace what the teacher itself says of its images; ``input_size`` and
            ``interpolation`` (``'bicubic'``, ``'bilinear'``) resize them.
        distillation: ``mode`` (``'hard'``, ``'soft'``), ``weight`` (the teacher's, from 0 to 1)
            and, for soft, ``temperature``.
        **kwargs: Of ``ImageClassifier``: ``neck``, ``train_cfg``, ``data_preprocessor`` ...
    """

    def __init__(
        self,
        backbone: dict,
        head: dict,
        teacher: dict,
        distillation: dict | None = None,
        **kwargs,
    ) -> None:
        settings, chosen = TeacherSettings(teacher), Distillation.from_config(distillation)
        super().__init__(backbone=backbone, head=head, **kwargs)
        if not isinstance(self.head, ClsHead) or type(self.head).loss is not ClsHead.loss:
            raise ConfigError(
                f'model.head (type {type(self.head).__name__}): distillation needs a head with '
                "the loss of mmpretrain's ClsHead"
            )
        self.distillation = chosen
        self.teacher = Teacher(settings)

    def init_weights(self) -> None:
        """Initialise the student, and build the teacher."""
        super().init_weights()
        self.build_teacher()

    def build_teacher(self) -> None:
        """Build the teacher, unless it is there."""
        self.teacher.build(Normalisation.of(self.data_preprocessor), count_classes(self))

    def branches(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Images to logits that learn from the label, and to logits that learn from the teacher."""
        feats = self.extract_feat(inputs)
        if hasattr(self.head, 'branches'):
            return self.head.branches(self.head.pre_logits(feats))
        logits = self.head(feats)
        return logits, logits

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of label and teacher, weighted: their sum is what is minimised."""
        self.build_teacher()  # for those who train without a runner
        answer = self.teacher(inputs)
        label, follower = self.branches(inputs)
        if answer.shape != follower.shape:
            raise ConfigError(
                f'{self.teacher.settings.title} tells apart {answer.shape[1]} classes, the student '
                f'{follower.shape[1]}'
            )
        losses = self.head._get_loss(label, data_samples)
        weight = self.distillation.weight
        losses['loss_label'] = (1 - weight) * losses.pop('loss')
        losses['loss_distillation'] = weight * distillation_loss(
            follower, answer, self.distillation.mode, self.distillation.temperature
        )
        return losses
