"""Transforms of pipelines: an image file read, or said how it is broken; digits on textures."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile

from ...errors import DataError
from ...sample_data.scenes import EDGE, choose_color, draw_texture
from ...utils.image_size import size_fault
from ...utils.images import load_image, to_bgr
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` that names the file and the fault when an image is broken.

    To train past broken files use the data sets' ``skip_corrupt=True``, which leaves them out
    before the first step. A transform cannot do that well: a test pipeline must return a sample
    for each index, and counts made in worker processes are lost with them.

    Where the annotations of the image say how large it is, it must be so. An image that was read
    already, by another project's inferencer or a camera, is taken as it is: an array ``img``, uint8
    in OpenCV's order, where there is no ``img_path``.

    Args:
        to_float32: Give float32 instead of uint8.
    """

    def __init__(self, to_float32: bool = False) -> None:
        super().__init__(to_float32=to_float32)

    def transform(self, results: dict) -> dict:
        """Add ``img``, ``img_shape`` and ``ori_shape`` for ``img_path``, or for ``img``."""
        path = results.get('img_path')
        if path is None and results.get('img') is None:
            raise DataError(
                f'LoadImage needs a file (img_path) or an array (img), and gets {list(results)}'
            )
        image = to_bgr(np.asarray(results['img'])) if path is None else load_image(path)
        said = results.get('height'), results.get('width')
        if None not in said and (fault := size_fault(said, image.shape[:2])):
            raise DataError(f'image {path or "given as an array"} {fault}')
        if self.to_float32:
            image = image.astype(np.float32)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(to_float32={self.to_float32})'


@TRANSFORMS.register_module()
class OnTexture(BaseTransform):
    """Put a bright figure on dark ground onto a texture, in a random colour that differs from it.

    Textures, colours and edges are those of the sample scenes.
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
