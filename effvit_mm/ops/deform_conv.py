"""Deformable convolution, plain and modulated, on torchvision's operator.

Dai et al., Deformable Convolutional Networks, ICCV 2017, and Zhu et al., Deformable ConvNets v2,
CVPR 2019. Offsets are pairs (y, x), one for each kernel element and group of channels.

``columns``, ``ones``, ``bufs`` and ``im2col_step`` are scratch space and chunk size of the
compiled operators; here they have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from .precision import working_dtype


class Geometry(NamedTuple):
    """What the operator needs beside tensors, in the order of its arguments."""

    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    groups: int
    offset_groups: int

    @classmethod
    def of(cls, sizes: Mapping[str, int]) -> Geometry:
        """From the keyword arguments of mmcv's operators, plain or modulated."""
        names = MODULATED if 'stride_h' in sizes else PLAIN
        return cls(*(int(sizes[name]) for name in names))


PLAIN = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
MODULATED = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', *PLAIN[-2:])


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **sizes: int,
) -> None:
    """Write the convolution of ``input`` at displaced points into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kH, kW).
        offset: (B, deformable_group * kH * kW * 2, H', W').
        output: (B, O, H', W').
        columns, ones: Scratch space.
        **sizes: kW and kH, which ``weight`` has, too; strides dW, dH; padW, padH, dilationW,
            dilationH; group and deformable_group, groups of channels for the weight and for the
            offsets; im2col_step.
    """
    output.copy_(_forward(input, weight, offset, None, None, Geometry.of(sizes)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803 (mmcv's names)
    gradInput: Tensor,  # noqa: N803
    gradOffset: Tensor,  # noqa: N803
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Write the derivatives of :func:`deform_conv_forward` into ``gradInput``, ``gradOffset``."""
    grads = _backward(gradOutput, input, weight, offset, None, Geometry.of(sizes))
    gradInput.copy_(grads.input)
    gradOffset.copy_(grads.offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,  # noqa: N803
    gradWeight: Tensor,  # noqa: N803
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **sizes: int,
) -> None:
    """Add ``scale`` times the derivative by the weight to ``gradWeight``."""
    # The derivative by the weight does not depend on its values.
    grads = _backward(gradOutput, input, gradWeight, offset, None, Geometry.of(sizes))
    gradWeight.add_(grads.weight.to(gradWeight), alpha=scale)


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
    **sizes: int,
) -> None:
    """Write the modulated convolution of ``input`` at displaced points into ``output``.

    Args:
        input: (B, C, H, W).
        weight: (O, C / group, kernel_h, kernel_w).
        bias: (O,), read if ``with_bias``.
        offset: (B, deformable_group * kernel_h * kernel_w * 2, H', W').
        mask: Factors of the sampled values (B, deformable_group * kernel_h * kernel_w, H', W').
        output: (B, O, H', W').
        ones, columns: Scratch space.
        with_bias: Whether there is one.
        **sizes: kernel_h, kernel_w, which ``weight`` has, too; stride_h, stride_w, pad_h, pad_w,
            dilation_h, dilation_w; group and deformable_group, groups of channels for the weight
            and for the offsets.
    """
    bias = bias if with_bias else None
    output.copy_(_forward(input, weight, offset, mask, bias, Geometry.of(sizes)))


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
    **sizes: int,
) -> None:
    """Write the derivatives of :func:`modulated_deform_conv_forward` into the ``grad_...``."""
    grads = _backward(grad_output, input, weight, offset, mask, Geometry.of(sizes))
    grad_input.copy_(grads.input)
    grad_weight.copy_(grads.weight)
    grad_offset.copy_(grads.offset)
    grad_mask.copy_(grads.mask)
    if with_bias:
        grad_bias.copy_(grads.bias)


class _Gradients(NamedTuple):
    """What torchvision's backward operator returns, in its order."""

    input: Tensor
    weight: Tensor
    offset: Tensor
    mask: Tensor
    bias: Tensor


def _forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: Geometry,
) -> Tensor:
    dtype = working_dtype(input, weight, offset)
    input, weight, offset = input.to(dtype), weight.to(dtype), offset.to(dtype)
    mask_values = offset.new_zeros(len(input), 1) if mask is None else mask.to(dtype)
    bias = weight.new_zeros(len(weight)) if bias is None else bias.to(dtype)
    return torch.ops.torchvision.deform_conv2d(
        input, weight, offset, mask_values, bias, *geometry, mask is not None
    )


def _backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
) -> _Gradients:
    dtype = working_dtype(input, weight, offset)
    input, weight, offset = input.to(dtype), weight.to(dtype), offset.to(dtype)
    mask_values = offset.new_zeros(len(input), 1) if mask is None else mask.to(dtype)
    bias = weight.new_zeros(len(weight))
    return _Gradients(
        *torch.ops.torchvision._deform_conv2d_backward(
            grad.to(dtype), input, weight, offset, mask_values, bias, *geometry, mask is not None
        )
    )
