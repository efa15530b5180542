"""What a detector of a config needs: memory and time of training and of prediction, by size."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from effvit_mm.flops import count_parameters
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.data_checks.labels import head_classes
from effvit_mm.openmm.trained import build_detector

from .detectors import synthetic_batch
from .isolation import begin_as_tool
from .memory import peak_bytes, reset_peak

SEED = 0


class Training(NamedTuple):
    """Some steps of training.

    Attributes:
        seconds: Of the last step.
        peak: Largest resident memory of the process meanwhile, bytes.
        losses: One of each step.
    """

    seconds: float
    peak: int
    losses: tuple[float, ...]


class Prediction(NamedTuple):
    """The prediction of one image.

    Attributes:
        seconds: Of it, the network in training's form.
        peak: Largest resident memory of the process meanwhile, bytes.
        levels: Maps that ``extract_feat`` gives of the image as it is, not padded.
    """

    seconds: float
    peak: int
    levels: int


class SizeCheck(NamedTuple):
    """A detector at one image size: height and width in pixels, before padding."""

    size: tuple[int, int]
    training: Training
    prediction: Prediction


class DetectorCheck(NamedTuple):
    """A detector.

    Attributes:
        parameters: Their number.
        batch_size: Images of a training step.
        sizes: What was measured at each size.
    """

    parameters: int
    batch_size: int
    sizes: tuple[SizeCheck, ...]

    @property
    def peak(self) -> int:
        """Largest resident memory of all, bytes."""
        return max(max(one.training.peak, one.prediction.peak) for one in self.sizes)


def random_detector(config: str, overrides: Sequence[str] = ()) -> tuple[Config, nn.Module]:
    """The config and its detector, with random weights that are the same at each call.

    Neither the data set nor pretrained weights are needed.
    """
    cfg = load_config(config, overrides)
    torch.manual_seed(SEED)
    model = build_detector(cfg, config)
    model.init_weights()
    return cfg, model


def check_detector(
    config: str,
    overrides: Sequence[str] = (),
    sizes: Sequence[tuple[int, int]] = ((800, 1333), (603, 811)),
    batch_size: int | None = None,
    iterations: int = 2,
    threads: int = 1,
) -> DetectorCheck:
    """Train a detector and predict with it at several sizes, on synthetic images.

    Peaks are of this process: call it through :func:`.isolation.run_isolated`.

    Args:
        config, overrides: Config file and ``key=value`` pairs; its optimizer trains.
        sizes: Heights and widths.
        batch_size: Images of a training step; None for the config's own.
        iterations: Training steps.
        threads: Of PyTorch.
    """
    begin_as_tool(threads)
    cfg, model = random_detector(config, overrides)
    batch_size = batch_size or cfg.train_dataloader.batch_size
    # What is freed stays with the process: whatever needs more memory comes later.
    order = sorted(sizes, key=math.prod)
    predicted = {size: check_prediction(model, size) for size in order}
    with DefaultScope.overwrite_default_scope('mmdet'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    trained = {
        size: check_training(model, optimizer, size, batch_size, iterations) for size in order
    }
    checks = (SizeCheck(size, trained[size], predicted[size]) for size in sizes)
    return DetectorCheck(count_parameters(model), batch_size, tuple(checks))


def check_training(
    model: nn.Module,
    optimizer: OptimWrapper,
    size: tuple[int, int],
    batch_size: int,
    iterations: int,
) -> Training:
    """Train on one synthetic batch; raises ArithmeticError where the loss is not finite."""
    masks = getattr(model, 'with_mask', False)
    batch = synthetic_batch(size, batch_size, head_classes(model), masks)
    reset_peak()
    model.train()
    losses = []
    for step in range(iterations):
        # A runner's hook says it to preprocessors that change their size as training goes on.
        MessageHub.get_current_instance().update_info('iter', step)
        start = time.perf_counter()
        losses.append(train_step(model, optimizer, batch))
        seconds = time.perf_counter() - start
    peak = peak_bytes()
    optimizer.zero_grad()
    return Training(seconds, peak, tuple(losses))


@torch.no_grad()
def check_prediction(model: nn.Module, size: tuple[int, int]) -> Prediction:
    """Predict a synthetic image; raises ArithmeticError where the result cannot be right."""
    masks = getattr(model, 'with_mask', False)
    image = synthetic_batch(size, 1, head_classes(model), masks)
    reset_peak()
    model.eval()
    start = time.perf_counter()
    (result,) = model.test_step(image)
    seconds, peak = time.perf_counter() - start, peak_bytes()
    check_result(result, size, masks)
    return Prediction(seconds, peak, count_levels(model, image))


def train_step(model: nn.Module, optimizer: OptimWrapper, batch: Mapping) -> float:
    """The loss of one step."""
    loss = float(model.train_step(batch, optim_wrapper=optimizer)['loss'].detach())
    if not math.isfinite(loss):
        raise ArithmeticError(f'the loss is {loss}')
    return loss


def count_levels(model: nn.Module, image: Mapping) -> int:
    """Maps that the neck gives of an image without the padding that it has in a batch."""
    height, width = image['inputs'][0].shape[-2:]
    x = model.data_preprocessor(image, False)['inputs'][..., :height, :width]
    levels = model.extract_feat(x)
    if not all(level.isfinite().all() for level in levels):
        raise ArithmeticError(f'a map of an image of {height} x {width} is not finite')
    return len(levels)


def check_result(result, size: tuple[int, int], masks: bool) -> None:
    """Boxes must be finite and inside the image, masks of its size."""
    predicted = result.pred_instances
    x, y = predicted.bboxes[:, 0::2], predicted.bboxes[:, 1::2]
    inside = ((x >= 0) & (x <= size[1])).all() and ((y >= 0) & (y <= size[0])).all()
    if not inside or not predicted.scores.isfinite().all():
        raise ArithmeticError('a predicted box is not finite or outside the image')
    if masks and tuple(predicted.masks.shape) != (len(predicted), *size):
        raise ArithmeticError(f'masks of {tuple(predicted.masks.shape)} for an image of {size}')
