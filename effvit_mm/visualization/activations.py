"""Where in an image a re-identification feature comes from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..reid.network import ReIDNetwork

STRENGTH = 0.5  # of the colours over the image


@torch.no_grad()
def activation_maps(model: ReIDNetwork, inputs: Tensor) -> Tensor:
    """How much each cell of the last map speaks for the image's own feature.

    A feature behind average pooling and the BNNeck is the mean of what the cells would give alone,
    so its squared length is the mean of their scalar products with it: that is a cell's value. Of
    networks with class tokens the cells are compared with the last token's part of the feature.

    Args:
        model: In evaluation mode.
        inputs: Images ``(B, 3, H, W)``, normalised.

    Returns:
        ``(B, H', W')``; above 0 for the feature, below 0 against it.

    Raises:
        ConfigError: The backbone has no map.
    """
    feature = model(inputs)
    with _as_map(model.backbone):
        cells = model.backbone(inputs)[-1]
    if not isinstance(cells, Tensor) or cells.ndim != 4:
        raise ConfigError(
            f'model.backbone ({type(model.backbone).__name__}) returns vectors alone: there is no '
            'map to show'
        )
    channels = cells.shape[1]
    neck = model.neck
    scale = (neck.weight / (neck.running_var + neck.eps).sqrt())[-channels:]
    # B C H W, as the neck would see each cell
    cells = (cells - neck.running_mean[-channels:, None, None]) * scale[:, None, None]
    return torch.einsum('bchw,bc->bhw', cells, feature[:, -channels:])


@contextmanager
def _as_map(backbone: nn.Module) -> Iterator[None]:
    """Let a network that returns its class tokens return its map."""
    kind = getattr(backbone, 'out_type', None)
    if kind == 'cls_token':
        backbone.out_type = 'featmap'
    try:
        yield
    finally:
        if kind is not None:
            backbone.out_type = kind


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """An image and the same under colours: blue for cells of no weight, red for the strongest.

    Args:
        image: (H, W, 3) uint8, RGB.
        values: (H', W'); what is below 0 counts as 0.

    Returns:
        (H, 2 W, 3) uint8, RGB.
    """
    values = np.maximum(np.asarray(values, np.float32), 0)
    values = values / max(float(values.max()), 1e-12)
    large = cv2.resize(values, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    colors = cv2.applyColorMap((large.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)
    mixed = (1 - STRENGTH) * image + STRENGTH * colors[..., ::-1]
    return np.concatenate([image, mixed.round().astype(np.uint8)], axis=1)
