"""Subjects of a benchmark made ready: passes that can be called, and what they cost.

This runs in a process of the subject's own (:mod:`.worker`), if need be with the rest of effvit_mm
from an older tree: it asks of other modules only what has been there since version 0.1, but for the
form ``onnx``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effvit_mm.deploy import switch_modules
from effvit_mm.errors import ConfigError
from effvit_mm.flops import count_parameters, flops_by_module, flops_of, zeros
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.data_checks.labels import head_classes
from effvit_mm.openmm.flops import TensorPass
from effvit_mm.utils.allocator import keep_freed_memory

from .sources import build_network
from .subjects import (
    BEFORE,
    BF16,
    CHANNELS_LAST,
    COMPILED,
    CONFIG,
    DEPLOYED,
    GEMM,
    ONNX,
    TRAINING,
    Subject,
    kind_of,
)

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
    """

    run: Callable[[], object]
    count: Callable[[], int]
    parameters: int


def prepare(subject: Subject) -> dict[str, Part]:
    """A subject's parts by name, the whole first; nothing is run yet but what exporting needs.

    Raises:
        ConfigError: There is no way yet to measure this kind of config.
    """
    torch.manual_seed(SEED)
    if subject.model == GEMM:
        return {name: gemm(getattr(torch, name)) for name in ('float32', 'bfloat16')}
    if kind_of(subject.model) != CONFIG:
        return prepare_network(subject)
    cfg = load_config(subject.model, subject.overrides)
    if cfg.get('default_scope') != 'mmdet':
        raise ConfigError(
            f'config {subject.model}: default_scope={cfg.get("default_scope")!r} cannot be '
            "measured; allowed is 'mmdet'. Networks of classifiers have names: pslt_tiny"
        )
    return prepare_detector(cfg, subject)


def gemm(dtype: torch.dtype) -> Part:
    """Products of two square matrices: as near to the machine's peak as PyTorch gets."""
    a, b = (torch.randn(GEMM_SIDE, GEMM_SIDE).to(dtype) for _ in range(2))

    def run() -> None:
        for _ in range(GEMM_PRODUCTS):
            a @ b

    return Part(run, lambda: GEMM_PRODUCTS * GEMM_SIDE**3, 0)


# Networks ----------------------------------------------------------------------------------------


def prepare_network(subject: Subject) -> dict[str, Part]:
    """From normalised images to whatever the network gives, or a step of its training."""
    form = subject.form
    model = build_network(subject.model, subject.size, subject.checkpoint).eval()
    if DEPLOYED in form:
        model.switch_to_deploy()
    x = normalised_images(subject)
    if CHANNELS_LAST in form:
        model, x = (value.to(memory_format=torch.channels_last) for value in (model, x))
    count = partial(count_batch, model, x)
    if ONNX in form:
        return {NETWORK: Part(onnx_pass(model, x), count, count_parameters(model))}
    parameters = count_parameters(model)
    called = torch.compile(model) if COMPILED in form else model
    if TRAINING in form:
        run = training_step(model.train(), called, x, form)
        return {STEP: Part(run, count, parameters)}
    return {NETWORK: Part(partial(_forward, called, x, BF16 in form), count, parameters)}


def count_batch(model: nn.Module, x: Tensor) -> int:
    """Multiply-adds of an image, the mean over this very batch: token sampling looks at it."""
    return round(flops_by_module(model, x)[''].total() / len(x))


def normalised_images(subject: Subject) -> Tensor:
    """``(B, 3, H, W)`` float32: the subject's image, or noise, another one for each image."""
    if subject.image is None:
        generator = torch.Generator().manual_seed(SEED)
        return torch.randn(subject.batch_size, 3, *subject.size, generator=generator)
    image = read_image(subject.image, subject.size).flip(0).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((image - mean) / std).repeat(subject.batch_size, 1, 1, 1)


def read_image(path: str, size: tuple[int, int]) -> Tensor:
    """An image file as ``(3, H, W)`` uint8 of this height and width, BGR."""
    import cv2

    from effvit_mm.utils.images import load_image

    array = cv2.resize(load_image(path), (size[1], size[0]))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _forward(function: Callable, x: object, bf16: bool) -> object:
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=bf16):
        return function(x)


def training_step(
    model: nn.Module, called: Callable[[Tensor], object], x: Tensor, form: Collection[str]
) -> Callable[[], Tensor]:
    """A step of training: forward, cross-entropy, backward, AdamW, in a process that keeps freed
    memory as ``tools/train.py`` does.

    Args:
        model: Whose parameters are trained.
        called: The model, or what was compiled of it.
        x: The batch.
        form: Words of the subject's form. With ``bf16`` the forward pass runs under autocast; with
            ``before`` AdamW is not fused, as it was not in the configs.

    Returns:
        A function that makes one step and gives the loss.
    """
    keep_freed_memory()
    how = {'lr': LEARNING_RATE, 'weight_decay': WEIGHT_DECAY, 'fused': BEFORE not in form}
    optimizer = torch.optim.AdamW(model.parameters(), **how)
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


def onnx_pass(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """A pass through onnxruntime with as many threads as PyTorch has; the model is deployed."""
    from effvit_mm import runtime as export

    with TemporaryDirectory() as folder:
        path = Path(folder) / 'model.onnx'
        export.export_onnx(export.source_of(model), path, tuple(x.shape[2:]))
        return partial(export.onnx_session(path, torch.get_num_threads()), x)


# Detectors ---------------------------------------------------------------------------------------


def prepare_detector(cfg, subject: Subject) -> dict[str, Part]:
    """From uint8 images to boxes after suppression; and the backbone on normalised images."""
    from effvit_mm.openmm.trained import build_detector

    from .detection import synthetic_batch

    model = build_detector(cfg, subject.model)
    if subject.checkpoint is not None:
        from effvit_mm.openmm.trained import load_trained

        load_trained(model, subject.checkpoint)
    else:
        model.init_weights()
    model.eval()
    if DEPLOYED in subject.form:
        switch_modules(model)
    batch = synthetic_batch(subject.size, subject.batch_size, head_classes(model))
    if subject.image is not None:
        batch['inputs'] = [read_image(subject.image, subject.size)] * subject.batch_size
    x = model.data_preprocessor(batch, False)['inputs']
    if CHANNELS_LAST in subject.form:
        model, x = (value.to(memory_format=torch.channels_last) for value in (model, x))
    found: dict[str, Mapping] = {}

    def count(name: str) -> int:
        if not found:  # one pass counts both
            found.update(flops_by_module(TensorPass(model), zeros(model, x.shape[1:])))
        return flops_of(name, found)

    def part(module: nn.Module, function: Callable, given: object, name: str) -> Part:
        run = partial(_forward, function, given, BF16 in subject.form)
        return Part(run, partial(count, name), count_parameters(module))

    return {
        WHOLE: part(model, model.test_step, batch, ''),
        BACKBONE: part(model.backbone, model.backbone, x, 'model.backbone'),
    }
