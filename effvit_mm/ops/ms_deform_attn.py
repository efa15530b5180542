"""Multi-scale deformable attention by bilinear sampling.

Zhu et al., Deformable DETR: Deformable Transformers for End-to-End Object Detection, ICLR 2021,
equation 3: each query reads a few points of every feature map, outside of which there are zeros.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import working_dtype


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sums of sampled values, weighted by attention.

    Args:
        value: (B, K, heads, D), the K keys of all levels one after the other.
        value_spatial_shapes: (levels, 2), int64: height and width.
        value_level_start_index: (levels,), int64: where a level begins among the keys.
        sampling_locations: (B, Q, heads, levels, points, 2): x and y in [0, 1].
        attention_weights: (B, Q, heads, levels, points).
        im2col_step: of no effect.

    Returns:
        (B, Q, heads * D).
    """
    dtype = working_dtype(value, sampling_locations, attention_weights)
    batch, _, heads, dim = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    # B Q h L P 2 -> L Bh Q P 2, in grid_sample's range of -1 to 1
    grids = sampling_locations.to(dtype).permute(3, 0, 2, 1, 4, 5).flatten(1, 2) * 2 - 1
    weights = attention_weights.to(dtype).permute(3, 0, 2, 1, 4).flatten(1, 2)  # L Bh Q P
    values = value.to(dtype).permute(0, 2, 3, 1)  # B h D K
    output = values.new_zeros(batch * heads, dim, queries)
    levels = zip(value_spatial_shapes.tolist(), value_level_start_index.tolist(), strict=True)
    for level, ((height, width), start) in enumerate(levels):
        keys = values[..., start : start + height * width]
        maps = keys.reshape(batch * heads, dim, height, width)
        if queries and points and maps.numel():
            sampled = F.grid_sample(maps, grids[level], align_corners=False)  # Bh D Q P
            output = output + (sampled * weights[level][:, None]).sum(-1)
    output = output.view(batch, heads * dim, queries).transpose(1, 2)
    return output.contiguous().to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the derivatives of :func:`ms_deform_attn_forward`.

    Args:
        grad_output: (B, Q, heads * D).
        grad_value, grad_sampling_loc, grad_attn_weight: outputs, shaped like ``value``,
            ``sampling_locations`` and ``attention_weights``.
    """
    dtype = working_dtype(value, sampling_locations, attention_weights)
    inputs = [
        tensor.detach().to(dtype).requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        output = ms_deform_attn_forward(
            inputs[0],
            value_spatial_shapes,
            value_level_start_index,
            inputs[1],
            inputs[2],
            im2col_step,
        )
    if not output.requires_grad:  # nothing was sampled
        return
    by_value, by_location, by_weight = torch.autograd.grad(output, inputs, grad_output.to(dtype))
    # Exactly a pixel before the map grid_sample gives the slope on the map's side, mmcv the zeros'.
    sizes = value_spatial_shapes.flip(1).to(inputs[1])[:, None]  # L 1 2: width, height
    points = inputs[1].detach() * sizes - 0.5
    inside = ((points > -1) & (points < sizes)).all(-1, keepdim=True)
    grads = by_value, by_location * inside, by_weight
    for buffer, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        buffer.copy_(grad)
