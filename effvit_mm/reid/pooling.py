"""From what a backbone returns last to one vector for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads import pool


class Pooling(nn.Module):
    """A pooling takes maps ``(B, C, H, W)``, or vectors: a list of ``(B, C_i)``.

    Attributes:
        takes_maps: Which of the two.
    """

    takes_maps = True


class AveragePooling(Pooling):
    """The mean of the map: ``(B, C, H, W) -> (B, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return pool(x)


class GeMPooling(Pooling):
    """The generalised mean of the map with a learnt exponent: ``(B, C, H, W) -> (B, C)``.

    Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019,
    equation 2: 1 is the mean, infinity the maximum. Values below ``eps`` count as ``eps``, so that
    of a map with values of both signs the positive half is seen.

    Args:
        p: The exponent at the start.
        eps: The smallest value.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        if not p > 0:
            raise ConfigError(f'model.pooling.p={p!r}: a number above 0 is needed')
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Powers of small numbers leave the range of half precision.
        powers = x.float().clamp(min=self.eps).pow(self.p)
        return powers.mean((2, 3)).pow(1 / self.p)


class TokenPooling(Pooling):
    """Vectors that the backbone returns in place of maps, joined: ``[(B, C_i)] -> (B, sum C_i)``.

    They are its class tokens (``out_type='cls_token'``), or a torchreid model's embedding.
    """

    takes_maps = False

    def forward(self, x: Sequence[Tensor]) -> Tensor:
        return pool(x)


POOLINGS = {cls.__name__: cls for cls in (AveragePooling, GeMPooling, TokenPooling)}


def build_pooling(config: Mapping) -> Pooling:
    """A pooling of a config such as ``dict(type='GeMPooling', p=3)``, without any registry.

    Args:
        config: ``type`` is a class of :data:`POOLINGS` or its name, with its package before it or
            without; the rest are arguments of the class.

    Raises:
        ConfigError: No type, or one that is not in the table.
    """
    arguments = dict(config)
    kind = arguments.pop('type', None)
    name = str(getattr(kind, '__name__', kind))
    pooling = POOLINGS.get(name.rpartition('.')[2] if name.startswith('effvit_mm.') else name)
    if pooling is None:
        raise ConfigError(f'pooling.type={kind!r}: choose from {", ".join(POOLINGS)}')
    return pooling(**arguments)


def pooled_width(backbone: nn.Module, pooling: Pooling, in_channels: int | None) -> int:
    """Length of the pooled vector.

    Args:
        backbone: Its last map or its vectors are pooled.
        pooling: How.
        in_channels: Their width, needed of backbones that do not declare it.

    Raises:
        ConfigError: The backbone returns maps and the pooling takes vectors, or the other way
            round; the width is unknown, or another than was given.
    """
    kind = type(pooling).__name__
    if getattr(backbone, 'out_channels', None) is not None:
        gives_maps = getattr(backbone, 'out_type', 'featmap') == 'featmap'
        if pooling.takes_maps != gives_maps:
            wanted = 'featmap' if pooling.takes_maps else 'cls_token'
            raise ConfigError(
                f'model.pooling (type {kind}) takes {"maps" if pooling.takes_maps else "vectors"}, '
                f'model.backbone ({type(backbone).__name__}) returns '
                f'{"maps" if gives_maps else "class tokens"}; give the backbone '
                f'out_type={wanted!r}, where it has that, or choose another pooling'
            )
        widths: Any = backbone.out_channels if gives_maps else backbone.token_widths
        width: int = widths[-1] if gives_maps else sum(widths)
        if in_channels not in (None, width):
            raise ConfigError(
                f'model.in_channels={in_channels!r}: model.backbone returns {width} channels; '
                'leave it out'
            )
        return width
    if in_channels is None:
        raise ConfigError(
            f'model.in_channels is missing: model.backbone ({type(backbone).__name__}) does not '
            'say how many channels its last map has'
        )
    return in_channels
