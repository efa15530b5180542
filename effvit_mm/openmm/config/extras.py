"""What a flag of ``tools/train.py`` adds to a config: early stopping, further places to log to."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from mmengine.config import Config, ConfigDict

from ...errors import ConfigError
from .arguments import has_type, metric_nodes

# The flag, mmengine's place to log to, and the package that it needs.
LOGGERS = (
    ('tensorboard', 'TensorboardVisBackend', 'tensorboard'),
    ('wandb', 'WandbVisBackend', 'wandb'),
)
LEAST_GAIN = 1e-6  # without one, mmengine takes an equal figure for a better one
# Of an evaluator: the figure by which trainings are compared.
FIGURES = {
    'Accuracy': 'accuracy/top1',
    'CocoMetric': 'coco/bbox_mAP',
    'FasterCocoMetric': 'coco/bbox_mAP',
    'VOCMetric': 'pascal_voc/mAP',
    'ReIDMetric': 'reid/mAP',
}


def add_loggers(cfg: Config, args: argparse.Namespace) -> None:
    """Let a training log where its flags say, beside its own file.

    Raises:
        ConfigError: A package is missing.
    """
    for flag, kind, package in LOGGERS:
        if not getattr(args, flag):
            continue
        if find_spec(package) is None:
            raise ConfigError(f'--{flag} needs the package {package}: `pip install {package}`')
        visualizer = cfg.setdefault('visualizer', ConfigDict(type='Visualizer'))
        backends = list(visualizer.get('vis_backends') or [{'type': 'LocalVisBackend'}])
        if not any(has_type(backend, kind) for backend in backends):
            visualizer.vis_backends = [*backends, {'type': kind}]


def stop_early(cfg: Config, patience: int) -> None:
    """End a training whose main figure gets no better.

    That is the one by which the best checkpoint is kept, where the config names it; else mAP, or
    the top-1 accuracy. More is better.

    Args:
        cfg: Gets the hook.
        patience: Validations without a better one.

    Raises:
        ConfigError: There is no validation, or nothing says which figure is meant.
    """
    if patience < 1:
        raise ConfigError(f'--early-stopping {patience}: 1 or more is needed')
    if not cfg.get('val_evaluator'):
        raise ConfigError('--early-stopping: the training has no validation, which it goes by')
    best = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    monitor = best if isinstance(best, str) and best != 'auto' else _main_figure(cfg)
    hook = {'type': 'EarlyStoppingHook', 'monitor': monitor, 'rule': 'greater'}
    hooks = [one for one in cfg.get('custom_hooks') or [] if not has_type(one, hook['type'])]
    cfg.custom_hooks = [*hooks, {**hook, 'min_delta': LEAST_GAIN, 'patience': patience}]


def _main_figure(cfg: Config) -> str:
    for _, evaluator in metric_nodes(cfg.val_evaluator):
        for kind, figure in FIGURES.items():
            if has_type(evaluator, kind):
                return figure
    raise ConfigError(
        '--early-stopping: which figure of val_evaluator it goes by is not known: add '
        '--cfg-options default_hooks.checkpoint.save_best=NAME'
    )
