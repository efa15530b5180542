"""Digits as the sample scenes show them, for a classifier that a detector is to start from."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform

from ...sample_data.scenes import EDGE, choose_color, draw_texture
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class OnTexture(BaseTransform):
    """Put a bright figure on dark ground onto a texture, in a random colour that differs from it.

    Textures, colours and edges are those of the sample scenes (:mod:`.scenes`).
    """

    def transform(self, results: dict) -> dict:
        """Replace ``img``, (H, W, 3) uint8."""
        generator = np.random.RandomState(np.random.randint(2**31))
        ink = results['img'].max(2).astype(np.int64)
        begin, end = (255 * percent // 100 for percent in EDGE)
        opacity = np.clip((ink - begin) * 256 // (end - begin), 0, 256)[..., None]
        ground = draw_texture(generator, *ink.shape)
        color = choose_color(generator, ground.reshape(-1, 3))
        results['img'] = ((ground * (256 - opacity) + color * opacity + 128) >> 8).astype(np.uint8)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
