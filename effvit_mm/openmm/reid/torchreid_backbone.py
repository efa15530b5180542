"""torchreid's networks as backbones of :class:`ReIDModel`: to be trained by the same recipe."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...errors import ConfigError
from ...torchreid import import_torchreid
from ..registry import MODELS


@MODELS.register_module()
class TorchreidBackbone(BaseModule):
    """A network of torchreid without its classifier; what it would classify is its one vector.

    Args:
        name: In torchreid's model factory: ``'osnet_x1_0'``.
        pretrained: Load torchreid's ImageNet weights, which are downloaded, when a training starts.
        init_cfg: As in mmengine.

    Raises:
        ConfigError: torchreid is missing or has no such model, or it cannot be used in this way.
    """

    out_type = 'cls_token'

    def __init__(
        self, name: str, pretrained: bool = False, init_cfg: dict | list | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.name, self.pretrained = name, pretrained
        self.model = self._build(pretrained=False)
        if not isinstance(getattr(self.model, 'classifier', None), nn.Linear):
            raise ConfigError(
                f'model.backbone.name={name!r}: only networks with one linear classifier can be a '
                'backbone'
            )
        width = self.model.classifier.in_features
        self.model.classifier = nn.Identity()
        self.out_channels = self.token_widths = (width,)

    def _build(self, pretrained: bool) -> nn.Module:
        models = import_torchreid('models')
        factory = vars(models)['__model_factory']
        if self.name not in factory:
            raise ConfigError(
                f'model.backbone.name={self.name!r}: torchreid has no such model; it has '
                f'{", ".join(sorted(factory))}'
            )
        with redirect_stdout(StringIO()):
            return models.build_model(
                self.name, num_classes=1, loss='triplet', pretrained=pretrained, use_gpu=False
            )

    def init_weights(self) -> None:
        """torchreid has initialised the network already; pretrained weights come here."""
        if not self._is_init and self.pretrained:
            state = self._build(pretrained=True).state_dict()
            own = self.model.state_dict()
            self.model.load_state_dict({name: state[name] for name in own})
        super().init_weights()

    def forward(self, x: Tensor) -> tuple[list[Tensor]]:
        """Images ``(B, 3, H, W)`` to a tuple of one, the list of one vector ``(B, C)``."""
        out = self.model(x)
        return ([out[1] if self.training else out],)
