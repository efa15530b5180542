"""The common corruptions of images, by the package that mmdet's ``Corrupt`` calls as well.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, 2019; for detectors Michaelis et al., Benchmarking Robustness in Object Detection,
2019, whose package it is.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from ...errors import ConfigError, DataError
from ..registry import TRANSFORMS

COMMON = (
    'gaussian_noise', 'shot_noise', 'impulse_noise', 'defocus_blur', 'glass_blur', 'motion_blur',
    'zoom_blur', 'snow', 'frost', 'fog', 'brightness', 'contrast', 'elastic_transform', 'pixelate',
    'jpeg_compression',
)  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)
LEAST_SIDE = 32  # pixels
# Draw from generators of their own, which NumPy's seed does not reach.
SEEDED = ('impulse_noise', 'glass_blur')


@TRANSFORMS.register_module()
class CommonCorruption(BaseTransform):
    """Corrupt an image in one of fifteen ways; equal images are corrupted equally in each run.

    mmdet's ``Corrupt`` hands on the image with blue first, where the package takes red first, and
    leaves ``impulse_noise`` and ``glass_blur`` to chance, whatever the seed is.

    Args:
        name: One of ``COMMON``; None leaves images as they are. May be set between passes.
        severity: 1 to 5. May be set, too.
    """

    def __init__(self, name: str | None = None, severity: int = 1) -> None:
        if name is not None and name not in COMMON:
            raise ConfigError(f'CommonCorruption: name={name!r}: allowed are {", ".join(COMMON)}')
        if severity not in SEVERITIES:
            raise ConfigError(f'CommonCorruption: severity={severity!r}: allowed are 1 to 5')
        self.name, self.severity = name, severity

    def transform(self, results: dict) -> dict:
        """Replace ``img``, (H, W, 3) uint8, blue first."""
        if self.name is None:
            return results
        image, path = results['img'], results.get('img_path') or ''
        if image.dtype != np.uint8 or min(image.shape[:2]) < LEAST_SIDE:
            height, width = image.shape[:2]
            raise DataError(
                f'image {path}: CommonCorruption gets {height} x {width} pixels of {image.dtype}: '
                f'uint8 and at least {LEAST_SIDE} x {LEAST_SIDE} are needed'
            )
        seed = zlib.crc32('/'.join((self.name, *Path(path).parts[-2:])).encode())
        results['img'] = corrupted(image, self.name, self.severity, seed)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name={self.name!r}, severity={self.severity})'


def corrupted(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """An image ``(H, W, 3)``, uint8, blue first, corrupted; NumPy's generator stays as it was."""
    from imagecorruptions import corrupt

    state = np.random.get_state()
    np.random.seed(seed)
    try:
        options = {'seed': seed} if name in SEEDED else {}
        red_first = np.ascontiguousarray(image[..., ::-1])
        found = corrupt(red_first, severity, corruption_name=name, **options)
    finally:
        np.random.set_state(state)
    return np.ascontiguousarray(found[..., ::-1])
