"""Linear-angular attention with a masked softmax branch for training.

You et al., "Castling-ViT: Compressing Self-Attention via Switching Towards Linear-Angular Attention
at Vision Transformer Inference", CVPR 2023, arXiv 2211.10526. The similarity of a
query and a key is their angle, ``1 - arccos(q k) / pi``; its expansion is kept to the linear term,
``1/2 + q k / pi``, so that keys and values can be summed up before the queries come. What the
expansion leaves out is learned by a depthwise convolution of the values and, while training, by
softmax attention of which only the strong entries are kept.
"""

from __future__ import annotations

from math import pi
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .caching import cached_by_size
from .mechanism import NO_GRID, Layout, Size, check_choice, register_mechanism
from .sizes import is_open

CONSTANT_TERMS = ('identity', 'sum')
OUTPUT_NORMS = ('l2', 'rowsum', 'none')
VALUE_CONVOLUTIONS = ('1d', '2d', 'none')

# The published miniature module, and the paper's equations with a convolution that knows the grid.
PRESETS = {
    'miniature': {'constant': 'identity', 'norm': 'l2', 'convolution': '1d', 'kernel_size': 9},
    'paper': {'constant': 'identity', 'norm': 'l2', 'convolution': '2d', 'kernel_size': 9},
}


def unit_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """Rows of unit L2 norm; a zero row stays zero, in half precision too."""
    return F.normalize(x.float(), dim=-1, eps=eps).to(x.dtype)


def linear_attention_product(q: Tensor, k: Tensor, v: Tensor, own: Tensor, scale: float) -> Tensor:
    """``own / 2 + scale Q K^T V`` in the cheaper order: ``(B, heads, N, e)``.

    Keys and values first costs (N + M) d e multiply-adds and no N x M matrix; the other order,
    N M (d + e), is taken where tokens are known to be fewer than channels. q: ``(B, heads, N, d)``,
    k: ``(B, heads, M, d)``, v: ``(B, heads, M, e)``, own: ``(B, heads, N or 1, e)``.
    """
    n, m, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    heads, own = q.shape[1], own.expand(-1, -1, n, -1).flatten(0, 1)
    q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    if not is_open(n, m) and n * m * (d + e) < (n + m) * d * e:
        q = q @ k.transpose(-2, -1)
    else:
        v = k.transpose(-2, -1) @ v
    return torch.baddbmm(own, q, v, beta=0.5, alpha=scale).unflatten(0, (-1, heads))


def masked_softmax(q: Tensor, k: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention with entries below ``threshold`` set to zero, not renormalised.

    The training-time branch: ``(..., N, d), (..., M, d) -> (..., N, M)``.
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    return F.threshold(logits.softmax(-1), threshold, 0.0)  # keeps what is above


class ValueConvolution(nn.Module):
    """Depthwise convolution of the values, one kernel for all channels of a head.

    Args:
        num_heads: Kernels.
        kernel_size: Odd length of the kernel.
        dims: 1 slides along the token axis, as published: it wraps from row to row and mixes class
            tokens with patches. 2 slides over the map of the values and leaves extra tokens alone.

    Shapes:
        v: ``(B, heads, M, e)``; returns the same, zeros for extra tokens where ``dims`` is 2.
    """

    def __init__(self, num_heads: int, kernel_size: int, dims: int) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size={kernel_size} must be odd')
        self.num_heads, self.dims = num_heads, dims
        kernel = (kernel_size, 1 if dims == 1 else kernel_size)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(
            num_heads, num_heads, kernel, padding=padding, groups=num_heads, bias=False
        )

    def reaches(self, layout: Layout) -> bool:
        """Whether there are queries that it adds something to."""
        return self.dims == 1 or layout.query_grid != NO_GRID

    def forward(self, v: Tensor, layout: Layout) -> Tensor:
        if self.dims == 1:
            return self.conv(v)  # heads as channels of a map of tokens x width
        heads, width = v.shape[1], v.shape[3]
        extra = layout.num_extra_tokens
        # All channels at once, a head's kernel repeated for each of its channels: depthwise
        # convolution in channels-last memory is several times faster than one of B * e maps.
        groups = heads * width
        maps = v[:, :, extra:].transpose(1, 2).reshape(-1, *layout.key_grid, groups)
        kernels = self.conv.weight
        if len(kernels) != groups:  # a kernel a head; else repeated already
            kernels = kernels.repeat_interleave(width, 0)
        out = F.conv2d(
            maps.permute(0, 3, 1, 2), kernels, None, 1, self.conv.padding, 1, groups
        )  # B C H W
        out = out.flatten(2).unflatten(1, (heads, width)).transpose(-2, -1)  # B heads H*W e
        return F.pad(out, (0, 0, extra, 0))


@cached_by_size
def _nearest_index(query_grid: Size, key_grid: Size, extra: int, device: torch.device) -> Tensor:
    """Key that lies where each query does: ``(N,)`` indices, extra tokens first."""
    axes = []
    for queries, keys in zip(query_grid, key_grid, strict=True):
        place = torch.arange(queries)
        asked = max(queries, 1)  # none: extra tokens alone ask
        stride = (keys + asked - 1) // asked  # no negatives: ONNX rounds them to zero
        # Queries taken from every second key; or queries finer than keys, as MViT pools them.
        axes.append(place * stride if keys >= queries else place * keys // queries)
    index = axes[0][:, None] * key_grid[1] + axes[1] + extra
    return torch.cat([torch.arange(extra), index.flatten()]).to(device)


def at_queries(values: Tensor, layout: Layout) -> Tensor:
    """Values ``(B, heads, M, e)`` at the places of the queries: ``(B, heads, N, e)``."""
    if layout.query_grid == layout.key_grid:
        return values
    return values[:, :, _nearest_index(*layout, values.device)]


@register_mechanism
class LinearAngularAttention(nn.Module):
    """``V/2 + Q^ (K^T V)/pi + M V``, normed, plus a depthwise convolution of the values.

    Q^ and K^ have rows of unit length. M is softmax attention of which only entries above a
    threshold are kept; it runs while training alone, so that evaluation costs linear time.

    Args:
        num_heads, key_dim, value_dim: Heads, and widths of one head.
        preset: ``'paper'`` (a 2-D convolution) or ``'miniature'`` (the authors' published module:
            1-D convolution). The following override it.
        constant: ``'identity'`` adds half a token's own value; ``'sum'`` half of all values, which
            is what the kernel's expansion has.
        norm: Of each head's output: ``'l2'`` to unit length, ``'rowsum'`` by the sum of the linear
            weights, ``'none'``.
        convolution: ``'1d'`` along the tokens, ``'2d'`` on the map, ``'none'``.
        kernel_size: Of the convolution.
        masked_softmax: Have the training-time branch.
        threshold: Entries of M at or below it are zero.
        mean_over_tokens: Divide the linear term by the number of keys, so that the balance of the
            terms does not shift with the resolution.

    Shapes:
        q: ``(B, heads, N, key_dim)``; k: ``(B, heads, M, key_dim)``; v: ``(B, heads, M,
        value_dim)``; bias: broadcastable to ``(B, heads, N, M)``, for the training-time branch
        alone. Returns ``(B, heads, N, value_dim)``.
    """

    takes_extra_queries = True

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int,
        preset: str = 'paper',
        constant: str | None = None,
        norm: str | None = None,
        convolution: str | None = None,
        kernel_size: int | None = None,
        masked_softmax: bool = True,
        threshold: float = 0.02,
        mean_over_tokens: bool = False,
    ) -> None:
        super().__init__()
        given = (constant, norm, convolution, kernel_size)
        rows = zip(PRESETS[check_choice('preset', preset, PRESETS)].items(), given, strict=True)
        chosen: dict[str, Any] = {
            name: default if value is None else value for (name, default), value in rows
        }
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.constant = check_choice('constant', chosen['constant'], CONSTANT_TERMS)
        self.norm = check_choice('norm', chosen['norm'], OUTPUT_NORMS)
        kind = check_choice('convolution', chosen['convolution'], VALUE_CONVOLUTIONS)
        self.masked_softmax, self.threshold = masked_softmax, threshold
        self.mean_over_tokens = mean_over_tokens
        self.density: Tensor | None = None  # of M in the last training step
        if kind != 'none':
            self.value_conv = ValueConvolution(num_heads, chosen['kernel_size'], int(kind[0]))

    @property
    def takes_bias(self) -> bool:
        """Whether a bias is of use now: in the softmax branch, while it trains."""
        return self.masked_softmax and self.training

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        scale = 1 / (pi * k.shape[-2]) if self.mean_over_tokens else 1 / pi
        q_unit, k_unit = (unit_length(t.contiguous()) for t in (q, k))
        own = at_queries(v, layout) if self.constant == 'identity' else v.sum(-2, keepdim=True)
        y = linear_attention_product(q_unit, k_unit, v, own, scale)
        if self.masked_softmax and self.training:
            weights = masked_softmax(q, k, self.threshold, bias)
            self.density = (weights.detach() > 0).float().mean()
            y = y + weights.to(v.dtype) @ v
        y = self._normed(y, q_unit * scale if self.norm == 'rowsum' else q_unit, k_unit)
        if hasattr(self, 'value_conv') and self.value_conv.reaches(layout):
            y = y + at_queries(self.value_conv(v, layout), layout)
        return y

    def _normed(self, y: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if self.norm == 'l2':
            return unit_length(y)
        if self.norm == 'rowsum':
            constant = 0.5 if self.constant == 'identity' else 0.5 * k.shape[-2]
            total = constant + q.float() @ k.float().sum(-2)[..., None]
            return (y.float() / total.clamp_min(1e-6)).to(y.dtype)
        return y
