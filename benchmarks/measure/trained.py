"""Trained models beside each other: accuracy, multiply-adds, speed of the deployed form."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import torch
from mmcv.cnn import fuse_conv_bn
from torch import Tensor, nn

from effvit_mm.backbones import Deployable
from effvit_mm.deploy import switch_modules
from effvit_mm.errors import ConfigError
from effvit_mm.evaluation.coco import CocoFigures, read_figures
from effvit_mm.flops import count_flops, count_parameters, evaluation_mode
from effvit_mm.openmm.engine.testing import DeployHook, evaluations_of
from effvit_mm.openmm.flops import TensorPass

from .attention import AttentionCost, attention_flops
from .timing import seconds_of, time_alternately

if TYPE_CHECKING:
    from effvit_mm.reid.ranking import ReIDResults

COUNTED_IMAGES = 64


class TrainedModel(NamedTuple):
    """A trained model and what was measured of it.

    Attributes:
        name: How a table calls it.
        figures: Of its deployed form. A classifier's top-1 of each checkpoint in percent, COCO's
            figures of a detector's boxes, or those of the ranking by a re-ID model's features.
        cost: Multiply-adds of an image: of a classifier the mean of the first 64 test images; of a
            detector, up to what the heads put out, of the first test image, whose attention is not
            counted apart, nor is a re-ID model's.
        parameters: Of the deployed form.
        deployed: The model, and a batch of its test images to time it on.
    """

    name: str
    figures: tuple[float, ...] | CocoFigures | ReIDResults
    cost: AttentionCost | int
    parameters: int
    deployed: OnItsBatch


class OnItsBatch(nn.Module):
    """A model and its own input, so that models of different image sizes can be timed together.

    Args:
        model: Of mmpretrain or mmdet.
        x: (B, 3, H, W), preprocessed.
        samples: With them the model predicts: a detector's boxes are decoded and suppressed.
    """

    def __init__(self, model: nn.Module, x: Tensor, samples: Sequence | None = None) -> None:
        super().__init__()
        self.model, self.x, self.samples = model, x, samples

    def forward(self) -> object:
        mode = 'tensor' if self.samples is None else 'predict'
        return self.model(self.x, self.samples, mode=mode)


def top1(metrics: dict[str, float]) -> float:
    """Top-1 accuracy out of a test's metrics, percent."""
    if 'accuracy/top1' not in metrics:
        raise ConfigError(f'test_evaluator gives {sorted(metrics)}: accuracy/top1 is needed')
    return float(metrics['accuracy/top1'])


def test_images(model: nn.Module, dataloader, count: int) -> Tensor:
    """The first images of a data loader, at most ``count``, preprocessed: ``(N, 3, H, W)``."""
    images: list[Tensor] = []
    for batch in dataloader:
        images += model.data_preprocessor(batch, False)['inputs']
        if len(images) >= count:
            break
    if len({image.shape for image in images[:count]}) > 1:
        raise ConfigError('the test images are of different sizes: they make no batch')
    return torch.stack(images[:count])


def mean_cost(model: nn.Module, images: Tensor) -> AttentionCost:
    """Mean multiply-adds of images, each alone: the padding of sampled tokens is not counted."""
    costs = [attention_flops(model, image[None]) for image in images]
    return AttentionCost(*(round(mean(values)) for values in zip(*costs, strict=True)))


def measure_trained(name: str, runners: Sequence, batch_size: int) -> TrainedModel:
    """Test checkpoints of one config and count its model.

    Args:
        name: How the table is to call it.
        runners: One that can test for each checkpoint.
        batch_size: Images to time the model on.
    """
    accuracy = []
    for runner in runners:
        runner.register_hook(DeployHook())
        accuracy.append(top1(runner.test()))
    model = runners[0].model.eval()
    images = test_images(model, runners[0].test_dataloader, max(batch_size, COUNTED_IMAGES))
    cost = mean_cost(model, images[:COUNTED_IMAGES])
    deployed = copy.deepcopy(model)
    switch_modules(deployed)
    timed = OnItsBatch(deployed, images[:batch_size])
    return TrainedModel(name, tuple(accuracy), cost, count_parameters(deployed), timed)


def measure_detector(name: str, runner) -> TrainedModel:
    """Test a checkpoint of a detector and count it, in its deployed form.

    A detector without one, of mmdet alone, has its batch norms folded to be timed.

    Args:
        name: How the table is to call it.
        runner: One that can test, with a ``CocoMetric`` of boxes.
    """
    model = runner.bare_model.eval()
    ours = any(isinstance(module, Deployable) for module in model.modules())
    if ours:
        runner.register_hook(DeployHook())
    runner.test()
    coco, _ = evaluations_of(runner.test_evaluator)
    boxes = [evaluation for evaluation in coco if evaluation.params.iouType == 'bbox']
    if not boxes:
        raise ConfigError(f'{name}: test_evaluator evaluates no boxes: CocoMetric is needed')
    loader = runner.test_dataloader  # not iterated: workers would stay behind
    count = min(loader.batch_size, len(loader.dataset))
    batch = loader.collate_fn([loader.dataset[index] for index in range(count)])
    batch = model.data_preprocessor(batch, False)
    images, samples = batch['inputs'], batch['data_samples']
    deployed = copy.deepcopy(model)
    if ours:
        switch_modules(deployed)
    else:
        fuse_conv_bn(deployed)
    flops = count_flops(TensorPass(model), tuple(images[:1].shape))
    figures = read_figures(boxes[-1])
    timed = OnItsBatch(deployed, images, samples)
    return TrainedModel(name, figures, flops, count_parameters(deployed), timed)


def measure_reid(name: str, runner, batch_size: int) -> TrainedModel:
    """Test a checkpoint of a re-ID model and count it, in its deployed form.

    A backbone without one, of torchreid, has its batch norms folded to be timed.

    Args:
        name: How the table is to call it.
        runner: One that can test, with a ``ReIDMetric``.
        batch_size: Images to time the model on.
    """
    from effvit_mm.openmm.reid.metric import ReIDMetric

    model = runner.bare_model.eval()
    runner.register_hook(DeployHook())
    runner.test()
    metric = next((m for m in runner.test_evaluator.metrics if isinstance(m, ReIDMetric)), None)
    if metric is None:
        raise ConfigError(f'{name}: test_evaluator makes no rank lists: ReIDMetric is needed')
    images = test_images(model, runner.test_dataloader, batch_size)
    deployed = copy.deepcopy(model).switch_to_deploy()
    if not isinstance(model.backbone, Deployable):
        fuse_conv_bn(deployed.backbone)
    flops = count_flops(TensorPass(model), (1, *images.shape[1:]))
    timed = OnItsBatch(deployed, images)
    return TrainedModel(name, metric.figures, flops, count_parameters(deployed), timed)


def images_per_second(trained: Sequence[TrainedModel], repeats: int) -> list[float]:
    """Speed of the deployed forms, alternately, each on its own images; medians."""

    def time_pass(model: OnItsBatch) -> float:
        with evaluation_mode(model):
            return seconds_of(model)

    passes = [partial(time_pass, one.deployed) for one in trained]
    timings = time_alternately(passes, repeats, warm_up=1)
    return [len(m.deployed.x) / t.median for m, t in zip(trained, timings, strict=True)]
