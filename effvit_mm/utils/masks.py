"""Masks as COCO's files have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def encode_masks(masks: torch.Tensor | np.ndarray | Sequence) -> list[dict]:
    """``(N, H, W)`` as ``{'size': [H, W], 'counts': text}``; what is encoded already is kept."""
    from pycocotools.mask import encode

    if isinstance(masks, torch.Tensor):
        masks = masks.detach().cpu().numpy()
    encoded = [m if isinstance(m, dict) else encode(np.asfortranarray(m, np.uint8)) for m in masks]
    for mask in encoded:
        if isinstance(mask['counts'], bytes):
            mask['counts'] = mask['counts'].decode('ascii')
    return encoded
