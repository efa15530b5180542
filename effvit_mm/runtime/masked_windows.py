"""Masks of shifted windows as four channels more of queries and keys.

A mask is a matrix for each window, of which a graph keeps all: 85 MB in PSLT-base at 800 x 1344
pixels, twice its weights. Which part of the map each token is from says as much.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.ladder import MASKED, Cut, rolled_parts
from ..attention.softmax import SoftmaxAttention
from ..deploy.modules import GatheredWindowAttention

PARTS = 4  # of a map that was rolled along both axes


class MaskInChannels(GatheredWindowAttention):
    """Softmax attention within shifted windows, its mask being a part of the product ``Q K^T``.

    A key's further channels are one where its part of the map is, a query's are :data:`MASKED`
    everywhere but there: their product is 0 within a part, exactly, and ``MASKED`` between two.

    Args:
        attention: Whose weights it takes over.
    """

    def __init__(self, attention: GatheredWindowAttention) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy(attention).__dict__)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cut: Cut, batch: int) -> Tensor:
        mechanism: Any = self.mechanism
        scale, (_, window, shift) = mechanism.key_dim**-0.5, cut
        if shift:
            part = rolled_parts(*cut)[..., None] == torch.arange(PARTS)  # windows L 4
            part = part.to(q.dtype)[:, None].repeat(batch, self.num_heads, 1, 1)
            q = torch.cat((q, (1 - part) * (MASKED / scale)), -1)
            k = torch.cat((k, part), -1)
        bias = self.relative_positions(window)[None].to(q.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def mask_in_channels(attention: GatheredWindowAttention) -> nn.Module:
    """A layer as :class:`MaskInChannels`, where its mechanism is softmax attention.

    Padding that is to be masked has no part of its own: such a layer stays as it is.
    """
    fits = type(attention.mechanism) is SoftmaxAttention and not attention.mask_padding
    return MaskInChannels(attention) if fits and attention.shift else attention
