"""The table of covered operators: mmcv's name, our function, what it runs on.

They take what ``mmcv.ops`` passes: the arguments of ``mmcv/ops/csrc/pytorch/pybind.cpp``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision

from . import boxes, deform_conv, focal_loss, ms_deform_attn, nms, roi_align, roi_pool, rotated


class Operator(NamedTuple):
    """A covered operator and what serves it: ``'torchvision'`` or ``'torch'``."""

    function: Callable[..., Any]
    backend: str


def get_compiler_version() -> str:
    """What ``mmcv.utils.collect_env`` reports as the compiler of mmcv's operators."""
    return f'none (effvit_mm.ops on torchvision {torchvision.__version__})'


def get_compiling_cuda_version() -> str:
    """What ``mmcv.utils.collect_env`` reports as CUDA of mmcv's operators: torch's own."""
    return str(torch.version.cuda or 'not available')


_TORCHVISION = (
    nms.nms,
    roi_align.roi_align_forward,
    roi_align.roi_align_backward,
    roi_pool.roi_pool_forward,
    roi_pool.roi_pool_backward,
    deform_conv.deform_conv_forward,
    deform_conv.deform_conv_backward_input,
    deform_conv.deform_conv_backward_parameters,
    deform_conv.modulated_deform_conv_forward,
    deform_conv.modulated_deform_conv_backward,
)
_TORCH = (
    nms.softnms,
    nms.nms_match,
    boxes.bbox_overlaps,
    rotated.box_iou_rotated,
    rotated.nms_rotated,
    focal_loss.sigmoid_focal_loss_forward,
    focal_loss.sigmoid_focal_loss_backward,
    focal_loss.softmax_focal_loss_forward,
    focal_loss.softmax_focal_loss_backward,
    ms_deform_attn.ms_deform_attn_forward,
    ms_deform_attn.ms_deform_attn_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)

OPERATORS: dict[str, Operator] = {
    function.__name__: Operator(function, backend)
    for backend, functions in (('torchvision', _TORCHVISION), ('torch', _TORCH))
    for function in functions
}
