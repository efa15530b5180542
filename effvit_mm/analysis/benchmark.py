"""Speed, memory and size of models side by side, whole and in parts.

A subject (a config and what is to be done with it) is prepared as a candidate: a few passes that
can be called, and what they cost. A new kind of model is a new entry of ``PREPARERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..deploy import switch_modules
from ..engine.configure import load_config
from ..engine.data_checks import head_classes
from ..errors import ConfigError
from ..inference.model import build_detector, load_trained
from .flops import TensorPass, count_parameters, flops_by_module, flops_of, zeros
from .latency import Timing, interleaved_timings
from .memory import begin_as_tool, peak_bytes, reset_peak, resident_bytes, run_apart

WHOLE, BACKBONE = 'end to end', 'backbone'


class Subject(NamedTuple):
    """What is to be measured.

    Attributes:
        config: Config file.
        checkpoint: Weights; random ones where it is None.
        deploy: Measure the form that ``switch_to_deploy()`` makes.
        overrides: ``key=value`` pairs for the config.
        shape: Height and width of the images in pixels.
        batch_size: Images of a batch.
        image: ``(3, H, W)`` uint8, BGR, of that shape; noise where it is None.
    """

    config: str
    checkpoint: str | None
    deploy: bool
    overrides: tuple[str, ...]
    shape: tuple[int, int]
    batch_size: int
    image: Tensor | None = None


class Part(NamedTuple):
    """A pass through a model, or through a part of it.

    Attributes:
        run: Does it.
        multiply_adds: Of one image.
        parameters: Their number.
    """

    run: Callable[[], object]
    multiply_adds: int
    parameters: int


class Row(NamedTuple):
    """What was measured of a part of a subject.

    Attributes:
        subject, part: Which.
        timing: Seconds of a batch.
        images_per_second: By the median.
        memory: Largest resident memory above that before the first pass, bytes.
        process: Largest resident memory of the whole process, bytes.
        multiply_adds, parameters: See :class:`Part`.
    """

    subject: Subject
    part: str
    timing: Timing
    images_per_second: float
    memory: int
    process: int
    multiply_adds: int
    parameters: int


def measure(subjects: Sequence[Subject], repeats: int = 20, warm_up: int = 2) -> list[Row]:
    """Measure subjects: times in turns in this process, memory of each in one of its own."""
    threads = torch.get_num_threads()
    memory = [run_apart(peak_memory, subject, threads).result for subject in subjects]
    parts = [(s, name, part) for s in subjects for name, part in prepare(s).items()]
    timings = interleaved_timings([part.run for *_, part in parts], repeats, warm_up)
    peaks = [found[name] for s, found in zip(subjects, memory, strict=True) for name in found]
    return [
        Row(
            subject,
            name,
            timing,
            subject.batch_size / timing.median,
            *peak,
            part.multiply_adds,
            part.parameters,
        )
        for (subject, name, part), timing, peak in zip(parts, timings, peaks, strict=True)
    ]


def peak_memory(subject: Subject, threads: int) -> dict[str, tuple[int, int]]:
    """``{part: (bytes above those before the first pass, bytes of the process)}``.

    Of this process, which ought to be a fresh one. The whole model is run last: it needs more than
    its parts, and what they free may stay with the process.
    """
    begin_as_tool(threads)
    parts = prepare(subject, count=False)
    before = resident_bytes()
    found = {}
    for name in reversed(parts):
        reset_peak()
        parts[name].run()
        peak = peak_bytes()
        found[name] = (peak - before, peak)
    return {name: found[name] for name in parts}


def prepare(subject: Subject, count: bool = True) -> dict[str, Part]:
    """A subject's parts, the whole first; ``count=False`` leaves out multiply-adds.

    Raises:
        ConfigError: There is no way yet to measure this kind of config.
    """
    cfg = load_config(subject.config, subject.overrides)
    scope = cfg.get('default_scope')
    if scope not in PREPARERS:
        raise ConfigError(
            f'config {subject.config}: default_scope={scope!r} cannot be measured; allowed are '
            f'{", ".join(map(repr, PREPARERS))}'
        )
    return PREPARERS[scope](cfg, subject, count)


def prepare_detector(cfg, subject: Subject, count: bool) -> dict[str, Part]:
    """From uint8 images to boxes after suppression; and the backbone on normalised images."""
    from .detection import SEED, synthetic_batch

    torch.manual_seed(SEED)
    model = build_detector(cfg, subject.config)
    if subject.checkpoint is not None:
        load_trained(model, subject.checkpoint)
    else:
        model.init_weights()
    model.eval()
    if subject.deploy:
        switch_modules(model)
    batch = synthetic_batch(subject.shape, subject.batch_size, head_classes(model))
    if subject.image is not None:
        batch['inputs'] = [subject.image] * subject.batch_size
    x = model.data_preprocessor(batch, False)['inputs']
    flops: Mapping = {}
    if count:
        flops = flops_by_module(TensorPass(model), zeros(model, x.shape[1:]))
    return {
        WHOLE: Part(
            partial(_without_gradients, model.test_step, batch),
            flops_of('', flops) if count else 0,
            count_parameters(model),
        ),
        BACKBONE: Part(
            partial(_without_gradients, model.backbone, x),
            flops_of('model.backbone', flops),
            count_parameters(model.backbone),
        ),
    }


@torch.no_grad()
def _without_gradients(function: Callable, x: object) -> object:
    return function(x)


# By default_scope of the config.
PREPARERS = {'mmdet': prepare_detector}
