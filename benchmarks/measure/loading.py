"""Workloads made ready: passes that can be called, and what they cost.

This runs in a process of the workload's own (:mod:`.process`), whose effvit_mm may be an older one.
Of that package it asks what its top level offers, ``create_model``, ``count_flops``, ``compile``
and a network's ``switch_to_deploy()``; of more only for detectors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import effvit_mm

from .networks import build_network, deploy
from .workload import BF16, CHANNELS_LAST, COMPILED, DEPLOYED, GEMM, TRAINING, Workload

WHOLE, BACKBONE, NETWORK, STEP = 'end to end', 'backbone', 'network', 'training step'
SEED = 0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB between 0 and 1
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05
FEWEST_CLASSES = 10  # labels of training steps lie below it
# The largest that a machine's caches like: larger ones gain nothing.
GEMM_SIDE, GEMM_PRODUCTS = 1024, 8


class Part(NamedTuple):
    """A pass through a model, or through a part of it.

    Attributes:
        run: Does it.
        count: Gives the multiply-adds of one image; of a training step, of its forward pass.
        parameters: Their number.
        compiling: Seconds that ``effvit_mm.compile`` took, of a runtime's form.
    """

    run: Callable[[], object]
    count: Callable[[], int]
    parameters: int
    compiling: float | None = None


class FixedInput(nn.Module):
    """A network that sees its own batch whatever it is called with.

    Args:
        network: Called with ``x``.
        x: The batch.
    """

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.network, self.x = network, x

    def forward(self, _: Tensor) -> object:
        return self.network(self.x)


def load(workload: Workload) -> dict[str, Part]:
    """A workload's parts by name, the whole first; nothing is run yet but by compiling."""
    torch.manual_seed(SEED)
    if workload.model == GEMM:
        names = ('float32', 'bfloat16') if BF16 in workload.form else ('float32',)
        return {name: gemm(getattr(torch, name)) for name in names}
    if workload.model_config is not None:
        return load_detector(workload)
    return load_network(workload)


def gemm(dtype: torch.dtype) -> Part:
    """Products of two square matrices: as near to the machine's peak as PyTorch gets."""
    a, b = (torch.randn(GEMM_SIDE, GEMM_SIDE).to(dtype) for _ in range(2))

    def run() -> None:
        for _ in range(GEMM_PRODUCTS):
            a @ b

    return Part(run, lambda: GEMM_PRODUCTS * GEMM_SIDE**3, 0)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or frozen."""
    return sum(p.numel() for p in model.parameters())


# Networks ----------------------------------------------------------------------------------------


def load_network(workload: Workload) -> dict[str, Part]:
    """From normalised images to whatever the network gives, or a step of its training."""
    form = workload.form
    model = build_network(workload.model, workload.size, workload.checkpoint).eval()
    if DEPLOYED in form or workload.runtime is not None:
        model = deploy(workload.model, model)
    x = normalised_images(workload)
    if CHANNELS_LAST in form:
        model, x = (value.to(memory_format=torch.channels_last) for value in (model, x))
    count, parameters = partial(count_batch, model, x), count_parameters(model)
    if workload.runtime is not None:
        count = partial(int, count())  # now, so that PyTorch's network is not kept
        network, seconds = compile_network(model, workload, workload.size)
        return {NETWORK: Part(partial(network, x), count, parameters, seconds)}
    called = torch.compile(model) if COMPILED in form else model
    if TRAINING in form:
        run = training_step(model.train(), called, x, form)
        return {STEP: Part(run, count, parameters)}
    return {NETWORK: Part(partial(predict, called, x, BF16 in form), count, parameters)}


def count_batch(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of an image, the mean over this very batch: token sampling looks at it."""
    return round(effvit_mm.count_flops(FixedInput(model, x), tuple(x.shape)) / len(x))


def normalised_images(workload: Workload) -> Tensor:
    """``(B, 3, H, W)`` float32: the workload's image, or noise, another one for each image."""
    if workload.image is None:
        generator = torch.Generator().manual_seed(SEED)
        return torch.randn(workload.batch_size, 3, *workload.size, generator=generator)
    image = read_image(workload.image, workload.size).flip(0).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((image - mean) / std).repeat(workload.batch_size, 1, 1, 1)


def read_image(path: str, size: tuple[int, int]) -> Tensor:
    """An image file as ``(3, H, W)`` uint8 of this height and width, BGR."""
    import cv2

    array = cv2.resize(cv2.imread(path, cv2.IMREAD_COLOR), (size[1], size[0]))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def predict(function: Callable, x: object, bf16: bool) -> object:
    """Call a network without gradients, under autocast to bfloat16 or not."""
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=bf16):
        return function(x)


def training_step(
    model: nn.Module, called: Callable[[Tensor], object], x: Tensor, form: Collection[str]
) -> Callable[[], Tensor]:
    """A step of training: forward, cross-entropy, backward, fused AdamW.

    Args:
        model: Whose parameters are trained.
        called: The model, or what was compiled of it.
        x: The batch.
        form: Words of the workload's form. With ``bf16`` the forward pass runs under autocast.

    Returns:
        A function that makes one step and gives the loss.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    labels = torch.arange(len(x)) % FEWEST_CLASSES

    def step() -> Tensor:
        with torch.autocast('cpu', torch.bfloat16, enabled=BF16 in form):
            outputs = called(x)
            # Networks with several heads give the logits of each.
            logits = [outputs] if isinstance(outputs, Tensor) else list(outputs)
            loss = sum(F.cross_entropy(one.float(), labels) for one in logits)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def compile_network(
    model: nn.Module, workload: Workload, size: tuple[int, int]
) -> tuple[nn.Module, float]:
    """A network as the workload's runtime computes it, and the seconds until it was ready.

    Args:
        model: Maps images to tensors.
        workload: Says the runtime, the precision, and where compiled files are kept.
        size: Height and width of the images in pixels.
    """
    start = perf_counter()
    network = effvit_mm.compile(
        model, workload.runtime, size, precision=workload.precision, cache=workload.cache
    )
    return network, perf_counter() - start


# Detectors ---------------------------------------------------------------------------------------


def load_detector(workload: Workload) -> dict[str, Part]:
    """From uint8 images to boxes after suppression; and the backbone on normalised images.

    A runtime's form has the backbone run by it, in both parts; PyTorch does the rest, in float32.
    """
    from .detectors import build_detector, deploy_parts, synthetic_batch, tensor_pass

    model = build_detector(workload.model_config, workload.checkpoint)
    if DEPLOYED in workload.form or workload.runtime is not None:
        deploy_parts(model)
    batch = synthetic_batch(workload.size, workload.batch_size)
    if workload.image is not None:
        batch['inputs'] = [read_image(workload.image, workload.size)] * workload.batch_size
    x = model.data_preprocessor(batch, False)['inputs']
    if CHANNELS_LAST in workload.form:
        model, x = (value.to(memory_format=torch.channels_last) for value in (model, x))
    shape = tuple(x.shape[1:])  # padded
    counts = {
        WHOLE: partial(effvit_mm.count_flops, tensor_pass(model), shape),
        BACKBONE: partial(effvit_mm.count_flops, model.backbone, shape),
    }
    parameters = {WHOLE: count_parameters(model), BACKBONE: count_parameters(model.backbone)}
    seconds, bf16 = None, BF16 in workload.form
    if workload.runtime is not None:
        counts = {name: partial(int, count()) for name, count in counts.items()}
        model.backbone, seconds = compile_network(model.backbone, workload, shape[1:])
        bf16 = False  # that is the runtime's
    runs = {
        WHOLE: partial(predict, model.test_step, batch, bf16),
        BACKBONE: partial(predict, model.backbone, x, bf16),
    }
    return {name: Part(run, counts[name], parameters[name], seconds) for name, run in runs.items()}
