"""Our backbones and attention mechanisms in OpenMMLab's registries.

A backbone here is that of :mod:`effvit_mm.backbones` with OpenMMLab's ``init_cfg``.
"""

from __future__ import annotations

from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT
from torch import nn

from .. import backbones
from ..attention.mechanism import LOOKUPS, MECHANISMS
from ..weights import load_checkpoint
from .config.arguments import has_type
from .registry import MODELS


class InitConfigured(nn.Module):
    """Gives a backbone ``init_cfg`` and :meth:`init_weights`, which OpenMMLab's models call.

    Args:
        init_cfg: As in OpenMMLab; ``dict(type='Pretrained', checkpoint=..., prefix=...,
            use_ema=True)`` loads weights safely and reports how many matched.
        **kwargs: Of the backbone.
    """

    def __init__(self, *args, init_cfg: dict | list | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.init_cfg, self.is_init = init_cfg, False

    def init_weights(self) -> None:
        """Apply ``init_cfg``, once. The constructor has done the default initialisation already.

        Raises:
            ValueError: ``init_cfg`` of type Pretrained has unknown keys.
            CheckpointError: Its checkpoint cannot be read, or nothing in it fits.
        """
        if self.is_init:
            return
        if any(has_type(self.init_cfg, name) for name in ('Pretrained', 'PretrainedInit')):
            self._load_pretrained(**{k: v for k, v in self.init_cfg.items() if k != 'type'})
        elif self.init_cfg:
            from mmengine.model import initialize  # here: it loads torch.distributed's optimizers

            initialize(self, self.init_cfg)
        self.is_init = True

    def _load_pretrained(
        self, checkpoint: str, prefix: str | None = None, use_ema: bool = True, **unknown
    ) -> None:
        if unknown := set(unknown) - {'map_location'}:
            raise ValueError(f'init_cfg of type Pretrained has unknown keys {sorted(unknown)}')
        report = load_checkpoint(self, checkpoint, prefix=prefix, use_ema=use_ema)
        # Not print_log: the console shows what comes from this package.
        MMLogger.get_current_instance().info(f'{type(self).__name__}: {report}')


def register_backbone(cls: type[backbones.Backbone]) -> type[backbones.Backbone]:
    """Register a backbone as ``effvit_mm.Name`` and, unless that is taken, as ``Name``.

    Returns:
        The class that configs build: ``cls`` with ``init_cfg``.
    """
    configured = type(
        cls.__name__, (InitConfigured, cls), {'__doc__': cls.__doc__, '__module__': __name__}
    )
    MODELS.register_module(module=configured)
    if cls.__name__ not in ROOT.module_dict:
        ROOT.register_module(module=configured)
    return configured


PSLT = register_backbone(backbones.PSLT)
CrossViT = register_backbone(backbones.CrossViT)
LeViT = register_backbone(backbones.LeViT)
MViTv2 = register_backbone(backbones.MViTv2)
VisionTransformer = register_backbone(backbones.VisionTransformer)

for _mechanism in MECHANISMS.values():
    MODELS.register_module(module=_mechanism)
# Not MODELS.build: that looks in the registry of the default scope, which is mmpretrain's or
# mmdet's while one of their models is built.
LOOKUPS += [MODELS.module_dict.get, MODELS.get]
