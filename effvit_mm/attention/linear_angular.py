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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .caching import SizeCache, cached_by_size
from .eager import on_onednn, runs_eagerly
from .softmax import NO_GRID, Layout, Size

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
    # The bound stands before the root, whose gradient at zero would be infinite.
    norm = x.float().square().sum(-1, keepdim=True).clamp_min(eps**2).sqrt()
    return (x.float() / norm).to(x.dtype)


def _lengths(x: Tensor, eps: float = 1e-6) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(eps)


def _side_by_side(q: Tensor, k: Tensor) -> Tensor:
    """``(B, heads, N, d)`` each as ``(2, B, heads, N, d)``: a view where they are parts of one."""
    step = k.storage_offset() - q.storage_offset()
    same = q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr()
    if same and step >= 0 and (q.shape, q.stride()) == (k.shape, k.stride()):
        return q.as_strided((2, *q.shape), (step, *q.stride()))
    return torch.stack([q, k])


def linear_attention_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``Q K^T V`` in the cheaper order: ``(..., N, d), (..., M, d), (..., M, e) -> (..., N, e)``.

    Keys and values first costs (N + M) d e multiply-adds and no N x M matrix; the other order,
    N M (d + e), is taken where tokens are fewer than channels.
    """
    n, m, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
    if n * m * (d + e) < (n + m) * d * e:
        return (q @ k.transpose(-2, -1)) @ v
    return q @ (k.transpose(-2, -1) @ v)


def masked_softmax(q: Tensor, k: Tensor, threshold: float, bias: Tensor | None = None) -> Tensor:
    """Softmax attention with entries below ``threshold`` set to zero, not renormalised.

    The training-time branch: ``(..., N, d), (..., M, d) -> (..., N, M)``.
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias
    weights = logits.softmax(-1)
    return F.threshold(weights, threshold, 0.0)  # keeps what is above


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
        padding = tuple(length // 2 for length in kernel)
        self.conv = nn.Conv2d(
            num_heads, num_heads, kernel, padding=padding, groups=num_heads, bias=False
        )
        self.packed = SizeCache()

    def repeat_kernels(self, width: int) -> None:
        """Keep the kernels as they are used, one for each of a head's ``width`` channels."""
        weight = self.conv.weight.detach()
        if self.dims == 2 and len(weight) == self.num_heads:
            self.conv.weight = nn.Parameter(weight.repeat_interleave(width, 0), False)
        self.packed.active = self.dims == 2

    def reaches(self, layout: Layout) -> bool:
        """Whether there are queries that it adds something to."""
        return self.dims == 1 or layout.query_grid != NO_GRID

    def forward(self, v: Tensor, layout: Layout) -> Tensor:
        if self.dims == 1:
            return self.conv(v)  # heads as channels of a map of tokens x width
        out = self.on_map(v, layout).transpose(1, 2)
        return F.pad(out, (0, 0, layout.num_extra_tokens, 0))

    def on_map(self, v: Tensor, layout: Layout) -> Tensor:
        """What ``dims=2`` gives for the tokens of the map: ``(B, H W, heads, e)``."""
        b, heads, _, width = v.shape
        extra = layout.num_extra_tokens
        # All channels at once, a head's kernel repeated for each of its channels: depthwise
        # convolution in channels-last memory is several times faster than one of B * e maps.
        groups = heads * width
        maps = v[:, :, extra:].transpose(1, 2).reshape(b, *layout.key_grid, groups)
        kernels = self.conv.weight
        if len(kernels) != groups:  # a kernel a head; else repeated already
            kernels = kernels.repeat_interleave(width, 0)
        maps, padding = maps.permute(0, 3, 1, 2), self.conv.padding
        if self.packed.active and on_onednn(maps, self.conv.weight):
            kernels, every = self._packed_kernels(maps.shape), (1, 1)
            out = torch.ops.mkldnn._convolution_pointwise.default(
                maps, kernels, None, padding, every, every, groups, 'none', [], ''
            )
        else:
            out = F.conv2d(maps, kernels, None, 1, padding, 1, groups)
        return out.permute(0, 2, 3, 1).reshape(b, -1, heads, width)

    def _packed_kernels(self, size: torch.Size) -> Tensor:
        """The kernels in oneDNN's own order, into which they are brought once a size."""
        weight, every = self.conv.weight, (1, 1)
        return self.packed.get(
            size,
            weight,
            lambda: torch.ops.mkldnn._reorder_convolution_weight(
                weight.detach(), self.conv.padding, every, every, len(weight), size
            ),
        )


@cached_by_size
def _nearest_index(query_grid: Size, key_grid: Size, extra: int, device: torch.device) -> Tensor:
    """Key that lies where each query does: ``(N,)`` indices, extra tokens first."""
    axes = []
    for queries, keys in zip(query_grid, key_grid, strict=True):
        place = torch.arange(queries)
        stride = -(-keys // max(queries, 1))
        # Queries taken from every second key; or queries finer than keys, as MViT pools them.
        axes.append(place * stride if keys >= queries else place * keys // queries)
    index = axes[0][:, None] * key_grid[1] + axes[1] + extra
    return torch.cat([torch.arange(extra), index.flatten()]).to(device)


def at_queries(values: Tensor, layout: Layout) -> Tensor:
    """Values ``(B, heads, M, e)`` at the places of the queries: ``(B, heads, N, e)``."""
    if layout.query_grid == layout.key_grid:
        return values
    return values[:, :, _nearest_index(*layout, values.device)]


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
        See :class:`SoftmaxAttention`. A ``bias`` enters the training-time branch alone.
    """

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
        given = {
            'constant': constant,
            'norm': norm,
            'convolution': convolution,
            'kernel_size': kernel_size,
        }
        chosen = {**_choice('preset', preset, PRESETS), **_without_none(given)}
        self.num_heads, self.key_dim, self.value_dim = num_heads, key_dim, value_dim
        self.constant = _choice('constant', chosen['constant'], CONSTANT_TERMS)
        self.norm = _choice('norm', chosen['norm'], OUTPUT_NORMS)
        kind = _choice('convolution', chosen['convolution'], VALUE_CONVOLUTIONS)
        self.masked_softmax, self.threshold = masked_softmax, threshold
        self.mean_over_tokens = mean_over_tokens
        self.density: Tensor | None = None  # of M in the last training step
        self.deployed = False
        if kind != 'none':
            self.value_conv = ValueConvolution(num_heads, chosen['kernel_size'], int(kind[0]))

    answers_extra_alone = True

    @property
    def takes_bias(self) -> bool:
        """Whether a bias is of use now: in the softmax branch, while it trains."""
        return self.masked_softmax and self.training

    def switch_to_deploy(self) -> LinearAngularAttention:
        """Drop the training-time branch for good; repeat the convolution's kernels once."""
        self.masked_softmax, self.density, self.deployed = False, None, True
        if hasattr(self, 'value_conv'):
            self.value_conv.repeat_kernels(self.value_dim)
        return self

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, bias: Tensor | None = None
    ) -> Tensor:
        if self.deployed and self._takes_short_way(q, k, v, layout):
            return self._short_way(q, k, v, layout)
        q_unit, k_unit = unit_length(q), unit_length(k)
        scale = self._scale(k)
        y = linear_attention_product(q_unit * scale, k_unit, v)
        if self.constant == 'identity':
            y = y + 0.5 * at_queries(v, layout)
        else:
            y = y + 0.5 * v.sum(-2, keepdim=True)
        if self.masked_softmax and self.training:
            weights = masked_softmax(q, k, self.threshold, bias)
            self.density = (weights.detach() > 0).float().mean()
            y = y + weights.to(v.dtype) @ v
        y = self._normed(y, q_unit * scale, k_unit)
        if hasattr(self, 'value_conv') and self.value_conv.reaches(layout):
            y = y + at_queries(self.value_conv(v, layout), layout)
        return y

    def _scale(self, k: Tensor) -> float:
        return 1 / (pi * k.shape[-2]) if self.mean_over_tokens else 1 / pi

    def _takes_short_way(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> bool:
        n, m, d, e = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
        return (
            (self.constant, self.norm) == ('identity', 'l2')
            and layout.query_grid == layout.key_grid
            and runs_eagerly(q, k, v)
            and q.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled(q.device.type)
            and n * m * (d + e) >= (n + m) * d * e  # keys and values first
            and (not hasattr(self, 'value_conv') or self.value_conv.dims == 2)
        )

    def _short_way(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """The same in fewer passes through memory, steps written over their own results."""
        b, heads, n, width = v.shape
        joined = _side_by_side(q, k)
        units = torch.div(joined, _lengths(joined), out=q.new_empty(joined.shape))
        q, k = units.flatten(1, 2).unbind()
        v_flat = v.flatten(0, 1)
        summed = torch.bmm(k.transpose(1, 2), v_flat)
        y = torch.baddbmm(v_flat, q, summed, beta=0.5, alpha=self._scale(k))
        # In the order of tokens, heads, channels, which the host's projection takes as it is.
        out = y.new_empty(b, n, heads, width)
        torch.div(y.view(v.shape), _lengths(y).view(b, heads, n, 1), out=out.transpose(1, 2))
        if hasattr(self, 'value_conv'):
            out[:, layout.num_extra_tokens :] += self.value_conv.on_map(v, layout)
        return out.transpose(1, 2)

    def _normed(self, y: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if self.norm == 'l2':
            return unit_length(y)
        if self.norm == 'rowsum':
            constant = 0.5 if self.constant == 'identity' else 0.5 * k.shape[-2]
            total = constant + q.float() @ k.float().sum(-2)[..., None]
            return (y.float() / total.clamp_min(1e-6)).to(y.dtype)
        return y


def _choice(name: str, value: str, allowed):
    """``allowed[value]`` of a dict, or ``value`` itself of a tuple; raise where it is neither."""
    if value not in allowed:
        raise ValueError(f'{name}={value!r}: allowed are {", ".join(map(repr, allowed))}')
    return allowed[value] if isinstance(allowed, dict) else value


def _without_none(options: dict) -> dict:
    return {key: value for key, value in options.items() if value is not None}
