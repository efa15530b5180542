"""What token sampling costs in accuracy and saves in computation, on a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mmengine.config import Config

from effvit_mm.attention.e_attention import TokenSamplingAttention
from effvit_mm.errors import ConfigError
from effvit_mm.openmm.engine.testing import ForwardTimer

from .trained import COUNTED_IMAGES, mean_cost, test_images, top1


class SamplingResult(NamedTuple):
    """One setting of the sampling, measured on the test set.

    Attributes:
        num_samples: Sample points of each sampling block; None is no sampling at all.
        accuracy: Top-1, percent.
        multiply_adds: Mean of an image.
        kept: Mean number of patch tokens that are left at the end.
        images_per_second: Forward passes alone, at the test set's batch size.
    """

    num_samples: int | None
    accuracy: float
    multiply_adds: float
    kept: float
    images_per_second: float


def use_sampling(cfg: Config, sampled_blocks: Sequence[int] | None) -> None:
    """Give a config's VisionTransformer an attention that samples; its weights stay what they are.

    Raises:
        ConfigError: Another backbone, or an attention that has no sampling form.
    """
    backbone = cfg.model.backbone
    if str(backbone.type).rpartition('.')[2] != 'VisionTransformer':
        raise ConfigError(
            f'model.backbone.type={backbone.type!r}: token sampling needs a VisionTransformer'
        )
    attention = backbone.get('attention') or {'type': 'SoftmaxAttention'}
    name = str(attention['type']).rpartition('.')[2]
    if name == 'SoftmaxAttention':
        attention = {'type': 'effvit_mm.SampledSoftmaxAttention'}
    elif name not in ('SampledSoftmaxAttention', 'EAttention'):
        raise ConfigError(
            f'model.backbone.attention.type={name!r} has no sampling form; SoftmaxAttention, '
            'SampledSoftmaxAttention and EAttention have'
        )
    backbone.attention = attention
    if sampled_blocks is not None:
        backbone.sampled_blocks = tuple(sampled_blocks)


class TokenCounter(ForwardTimer):
    """Counts the tokens that are kept too."""

    def before_test_epoch(self, runner) -> None:
        super().before_test_epoch(runner)
        self.kept = self.images = 0

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_test_iter(runner, batch_idx, data_batch, outputs)
        self.images += len(outputs)
        if kept := runner.bare_model.backbone.kept_tokens:
            self.kept += int(kept[-1].sum())


def measure_sampling(runner, settings: Sequence[int | None]) -> list[SamplingResult]:
    """Test a trained model once for each number of sample points; nothing is trained.

    Args:
        runner: A runner that can test, of a config that :func:`use_sampling` has changed.
        settings: Numbers of sample points; None computes all tokens.
    """
    model = runner.bare_model
    layers = [m for m in model.modules() if isinstance(m, TokenSamplingAttention) and m.sample]
    if not layers:
        raise ConfigError('model.backbone.sampled_blocks: no block of the model samples tokens')
    images = test_images(model, runner.test_dataloader, COUNTED_IMAGES)
    watch = TokenCounter()
    runner.register_hook(watch)
    results = []
    for setting in settings:
        for layer in layers:
            layer.sample, layer.num_samples = setting is not None, setting
        accuracy = top1(runner.test())
        kept = watch.kept / watch.images
        speed = watch.images / watch.forward_seconds
        cost = mean_cost(model, images).model
        results.append(SamplingResult(setting, accuracy, cost, kept, speed))
    return results
