"""Optimizers: mixed precision on the CPU, few parameter groups, layer-wise learning rates."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mmengine.registry as root
import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ...errors import ConfigError
from ...utils.bfloat16 import has_bfloat16
from ...utils.text import shorten
from ..config.arguments import node_class
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


def check_optimizer_fits(optimizer: Mapping | None, model: nn.Module) -> None:
    """Muon is for matrices.

    Raises:
        ConfigError: It is PyTorch's, and the model has other weights too; names what takes them.
    """
    muon = getattr(torch.optim, 'Muon', None)  # of newer versions
    cls = node_class(root.OPTIMIZERS, optimizer) if isinstance(optimizer, Mapping) else None
    if cls is None or cls is not muon:
        return
    trained = [(name, p.ndim) for name, p in model.named_parameters() if p.requires_grad]
    others = [name for name, ndim in trained if ndim != 2]
    if others:
        raise ConfigError(
            f"optim_wrapper.optimizer.type='Muon': PyTorch's takes weights of two dimensions "
            f'alone, and {len(others)} of {len(trained)} are others ({shorten(others, 2)}); '
            'timm has one that gives vectors to AdamW: '
            'optim_wrapper.optimizer.type=timm.optim.Muon (pip '
            'install timm), which takes other arguments'
        )


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 autocast on the CPU; weights and optimizer stay float32.

    mmengine's ``AmpOptimWrapper`` refuses the CPU. bfloat16 has float32's range, so no loss scaling
    is needed and the checkpoints are a plain ``OptimWrapper``'s. It is logged where the processor
    has no instructions for it.

    Args:
        dtype: ``'bfloat16'`` or None; float16 has no fast path on CPUs and would need loss scaling.
        **kwargs: Of ``OptimWrapper``: ``optimizer``, ``accumulative_counts``, ``clip_grad``.
    """

    def __init__(self, dtype: str | torch.dtype | None = None, **kwargs) -> None:
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise ConfigError(
                f"optim_wrapper.dtype={dtype!r}: on the CPU mixed precision is 'bfloat16' only"
            )
        super().__init__(**kwargs)
        if has_bfloat16() is False:  # None is not known
            print_log(
                'mixed precision: this processor has no bfloat16 instructions, so a step takes '
                'several times as long as in float32; leave out --amp',
                'current',
                logging.WARNING,
            )

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass, within what accumulation needs."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's parameter groups, those of equal settings joined.

    With ``paramwise_cfg`` mmengine makes a group of each parameter, of which PSLT-tiny with a
    detector's head has 1,400. Joined, they are two or three, over which the optimizer takes a few
    large operations instead of thousands of small ones.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', is_dcn_module=None
    ) -> None:
        """mmengine's groups, one a parameter; at the end of the recursion merged."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        merged: dict[tuple, dict] = {}
        for group in params:
            (parameter,) = group.pop('params')
            key = self.settings_of(parameter, group, module)
            merged.setdefault(key, {'params': [], **group})['params'].append(parameter)
        params[:] = merged.values()

    def settings_of(self, parameter: nn.Parameter, group: dict, model: nn.Module) -> tuple:
        """What parameters must have in common to share a group; may change ``group``."""
        return tuple(sorted(group.items()))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(MergedOptimWrapperConstructor):
    """Merged parameter groups, with layer-wise decay of the learning rate.

    Clark et al., "ELECTRA", ICLR 2020, section 3.1, and every ViT detector since: a layer's rate is
    ``layer_decay_rate`` times that of the layer above it. The backbone is asked which layer a
    parameter belongs to, so one constructor serves classifiers, detectors and re-identification;
    what lies outside the backbone keeps the full rate. All of mmengine's ``paramwise_cfg`` works
    besides.

    Args:
        optim_wrapper_cfg: As in mmengine; ``optimizer.lr`` is the rate of the last layer.
        paramwise_cfg: ``layer_decay_rate``, above 0 and at most 1, and mmengine's options.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ConfigError(
                f'optim_wrapper.paramwise_cfg.layer_decay_rate={rate!r}: a number above 0 and at '
                'most 1 is needed'
            )
        if self.base_lr is None:
            raise ConfigError('optim_wrapper.optimizer.lr is missing: layers get fractions of it')
        self.rate = rate
        self.scales: dict[nn.Parameter, tuple[float, int]] | None = None

    def settings_of(self, parameter: nn.Parameter, group: dict, model: nn.Module) -> tuple:
        """Equal settings of the same layer; the group's rate becomes the layer's."""
        if self.scales is None:
            self.scales = self._scales(model)
        scale, depth = self.scales[parameter]
        group['lr'] = group.get('lr', self.base_lr) * scale
        return (depth, *super().settings_of(parameter, group, model))

    def _scales(self, model: nn.Module) -> dict[nn.Parameter, tuple[float, int]]:
        """The factor of each parameter's rate, and its layer."""
        layered = (n for n, m in model.named_modules() if hasattr(m, 'get_layer_depth') and n)
        path = next(layered, None)
        if path is None:
            raise ConfigError(
                'optim_wrapper.constructor: layer-wise decay needs a backbone that knows its '
                f'layers (get_layer_depth); {type(model).__name__} has none'
            )
        backbone = model.get_submodule(path)
        scales = {}
        for name, parameter in model.named_parameters():
            depth, count = backbone.get_layer_depth(name, f'{path}.')
            scales[parameter] = (self.rate ** (count - 1 - depth), depth)
        return scales
