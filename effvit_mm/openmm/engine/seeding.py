"""Randomness as a function of the seed and of how far a training is."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.hooks import CheckpointHook


def seed_everything(*entropy: int) -> None:
    """Seed python, numpy and torch (all devices) from a tuple of numbers, well mixed."""
    words = np.random.SeedSequence([abs(int(number)) for number in entropy]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))


def is_by_epoch(runner) -> bool:
    """Whether a runner's training goes by epochs."""
    loop = runner.train_loop
    return runner.log_processor.by_epoch if loop is None else hasattr(loop, 'run_epoch')


def steps_done(runner) -> int:
    """Epochs, or iterations in a training by iteration."""
    return runner.epoch if is_by_epoch(runner) else runner.iter


def reseeds_each_iteration(runner) -> bool:
    """Whether a training may be resumed after any iteration: so it, or its checkpoints, go."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return not is_by_epoch(runner) or any(not hook.by_epoch for hook in hooks)
