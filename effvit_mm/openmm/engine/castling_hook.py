"""Watching and ending the training-time branch of linear-angular attention."""

from __future__ import annotations

from mmengine.hooks import Hook

from ...attention import LinearAngularAttention
from ...errors import ConfigError
from ..registry import HOOKS


@HOOKS.register_module()
class MaskedSoftmaxHook(Hook):
    """Log how dense the masked softmax is, raise its threshold, and drop it.

    You et al., "Castling-ViT", CVPR 2023: as training goes on fewer of its entries stay above the
    threshold, so that the branch can be left out in the end. The mean density of each layer in each
    epoch is logged as ``density/<layer>``. Threshold and drop are functions of the epoch: a resumed
    training has them right.

    Args:
        final_threshold: Raise the threshold linearly from each layer's own to this, over the epochs
            before ``drop_epoch`` or the end. None leaves it.
        drop_epoch: Train without the branch from this epoch on, counted from 0. None keeps it. With
            several processes, a host whose position bias entered the branch then needs
            ``find_unused_parameters=True``.
    """

    priority = 'NORMAL'

    def __init__(self, final_threshold: float | None = None, drop_epoch: int | None = None) -> None:
        if final_threshold is not None and not 0 <= final_threshold <= 1:
            raise ConfigError(
                f'final_threshold={final_threshold!r}: a number from 0 to 1 is needed'
            )
        if drop_epoch is not None and (type(drop_epoch) is not int or drop_epoch < 0):
            raise ConfigError(f'drop_epoch={drop_epoch!r}: None or an epoch from 0 is needed')
        self.final_threshold, self.drop_epoch = final_threshold, drop_epoch
        self.layers: dict[str, LinearAngularAttention] = {}

    def before_train(self, runner) -> None:
        self.layers = {
            name.removeprefix('module.'): module
            for name, module in runner.model.named_modules()
            if isinstance(module, LinearAngularAttention) and module.masked_softmax
        }
        if not self.layers:
            raise ConfigError(
                'custom_hooks: MaskedSoftmaxHook finds no LinearAngularAttention with a masked '
                'softmax branch in the model'
            )
        self.first = {name: layer.threshold for name, layer in self.layers.items()}
        self.density: dict[str, list[float]] = {}

    def before_train_epoch(self, runner) -> None:
        self.density = {name: [] for name in self.layers}
        dropped = self.drop_epoch is not None and runner.epoch >= self.drop_epoch
        last = (runner.max_epochs if self.drop_epoch is None else self.drop_epoch) - 1
        done = min(runner.epoch / max(last, 1), 1.0)
        for name, layer in self.layers.items():
            layer.masked_softmax = not dropped
            if self.final_threshold is not None:
                first = self.first[name]
                layer.threshold = first + (self.final_threshold - first) * done

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        for name, layer in self.layers.items():
            if layer.masked_softmax and layer.density is not None:
                self.density[name].append(float(layer.density))

    def after_train_epoch(self, runner) -> None:
        means = {name: sum(values) / len(values) for name, values in self.density.items() if values}
        for name, mean in means.items():
            runner.message_hub.update_scalar(f'density/{name}', mean)
        if means:
            overall = sum(means.values()) / len(means)
            low, high = min(means.values()), max(means.values())
            runner.logger.info(
                f'epoch {runner.epoch + 1}: masked softmax keeps {overall:.2%} of its entries '
                f'({low:.2%} to {high:.2%} by layer)'
            )
