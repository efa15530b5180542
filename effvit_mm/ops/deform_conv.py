"""Deformable convolution, plain and modulated, on torchvision's operator.

Dai et al., Deformable Convolutional Networks, ICCV 2017, and Zhu et al., Deformable ConvNets v2,
CVPR 2019. Offsets are pairs (y, x), one for each kernel element and group of channels.

``mmcv.ops`` passes numbers by name: strides, padding, dilation, ``group`` and
``deformable_group`` (of channels, for the weight and for the offsets). The kernel's size, which the
weight has too, and the compiled operators' scratch space (``columns``, ``ones``) and
``im2col_step`` have no effect here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from .precision import working_dtype

# The numbers that torchvision's operator takes, in its order, by the names that mmcv gives them.
PLAIN = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
MODULATED = (
    'stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group',
    'deformable_group',
)  # fmt: skip


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **numbers: int,
) -> None:
    """Write the convolution of ``input`` at displaced points into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kH, kW).
        offset: (B, deformable_group * kH * kW * 2, H', W').
        output: (B, O, H', W').
        columns, ones: of no effect.
        **numbers: those of :data:`PLAIN`.
    """
    operands = _operands(input, weight, offset, None, None, numbers, PLAIN)
    output.copy_(torch.ops.torchvision.deform_conv2d(*operands))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803 (mmcv's names)
    gradInput: Tensor,  # noqa: N803
    gradOffset: Tensor,  # noqa: N803
    weight: Tensor,
    columns: Tensor,
    **numbers: int,
) -> None:
    """Write the derivatives of :func:`deform_conv_forward` into ``gradInput``, ``gradOffset``."""
    operands = _operands(input, weight, offset, None, None, numbers, PLAIN)
    by_input, _, by_offset, _, _ = _derivatives(gradOutput, operands)
    gradInput.copy_(by_input)
    gradOffset.copy_(by_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803
    gradWeight: Tensor,  # noqa: N803
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **numbers: int,
) -> None:
    """Add ``scale`` times the derivative by the weight to ``gradWeight``."""
    # The derivative by the weight does not depend on its values.
    operands = _operands(input, gradWeight, offset, None, None, numbers, PLAIN)
    by_weight = _derivatives(gradOutput, operands)[1]
    gradWeight.add_(by_weight.to(gradWeight), alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **numbers: int,
) -> None:
    """Write the modulated convolution of ``input`` at displaced points into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kernel_h, kernel_w).
        bias: (O,), read if ``with_bias``.
        offset: (B, deformable_group * kernel_h * kernel_w * 2, H', W').
        mask: factors of the sampled values (B, deformable_group * kernel_h * kernel_w, H', W').
        output: (B, O, H', W').
        ones, columns: of no effect.
        with_bias: whether there is a bias.
        **numbers: those of :data:`MODULATED`.
    """
    operands = _operands(
        input, weight, offset, mask, bias if with_bias else None, numbers, MODULATED
    )
    output.copy_(torch.ops.torchvision.deform_conv2d(*operands))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **numbers: int,
) -> None:
    """Write the derivatives of :func:`modulated_deform_conv_forward` into the ``grad_...``."""
    operands = _operands(input, weight, offset, mask, None, numbers, MODULATED)
    buffers = [grad_input, grad_weight, grad_offset, grad_mask, grad_bias][: 5 if with_bias else 4]
    for buffer, derivative in zip(buffers, _derivatives(grad_output, operands), strict=False):
        buffer.copy_(derivative)


def _operands(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    numbers: Mapping[str, int],
    names: tuple[str, ...],
) -> tuple[Tensor | int | bool, ...]:
    """The arguments of torchvision's operator, which its backward operator takes, too."""
    dtype = working_dtype(input, weight, offset)
    factors = offset.new_zeros(len(input), 1) if mask is None else mask
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    tensors = (tensor.to(dtype) for tensor in (input, weight, offset, factors, bias))
    return (*tensors, *(numbers[name] for name in names), mask is not None)


def _derivatives(grad: Tensor, operands: tuple) -> tuple[Tensor, ...]:
    """Derivatives by input, weight, offset, mask and bias.

    Where a point lies exactly a pixel before the input, the value has a kink: torchvision gives the
    slope on the side of the input, mmcv that of the zeros outside. Fresh layers, whose offsets are
    zero, have such points all along the padding.
    """
    by_input, by_weight, by_offset, by_mask, by_bias = (
        torch.ops.torchvision._deform_conv2d_backward(grad.to(operands[0]), *operands)
    )
    return by_input, by_weight, by_offset * _inside(operands), by_mask, by_bias


def _inside(operands: tuple) -> Tensor:
    """Whether points lie less than a pixel from the input, for each of the two offsets of each."""
    input, weight, offset = operands[:3]
    starts = zip(*(operands[i : i + 2] for i in (5, 7, 9)), input.shape[2:], strict=True)
    batch, _, *size = offset.shape  # size: H' W'
    kernel = weight.shape[2:]
    pairs = offset.reshape(batch, -1, *kernel, 2, *size)  # B deformable_group kH kW 2 H' W'
    inside = torch.ones_like(pairs[:, :, :, :, 0], dtype=torch.bool)
    for axis, (stride, padding, dilation, length) in enumerate(starts):
        # In compiled mmcv's order of sums: whether a point is on the border hangs on rounding.
        first = torch.arange(size[axis], device=offset.device) * stride - padding
        element = torch.arange(kernel[axis], device=offset.device) * dilation
        grid = first + element[:, None]  # k n
        shape = [1, 1, 1, 1, 1, 1]
        shape[2 + axis], shape[4 + axis] = grid.shape
        point = grid.view(shape) + pairs[:, :, :, :, axis]
        inside &= (point > -1) & (point < length)
    return inside.unsqueeze(4).expand_as(pairs).reshape(offset.shape)
