"""RoIPool: the largest value in each bin of a region.

Girshick, Fast R-CNN, ICCV 2015, section 2.1. Regions are (image, x1, y1, x2, y2) in units of the
image, the last pixels included. mmcv's regions begin and end between pixels where torchvision's are
rounded to them first: each bin, which has whole pixels in both, is a region of torchvision's.
"""

from __future__ import annotations

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from .precision import working_dtype


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the largest values into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        output: (R, C, pooled_height, pooled_width); 0 in a bin without pixels.
        argmax: shaped like ``output``, where the values lie in H * W; -1 in a bin without pixels.
        pooled_height, pooled_width: bins of a region along each side.
        spatial_scale: size of the feature map over the image's.
    """
    if output.numel() == 0:
        return
    dtype = working_dtype(input, rois)
    size = pooled_height, pooled_width
    bins, filled = _bins(rois.to(dtype), spatial_scale, size, input.shape[2:])
    feature = input.to(dtype)
    values, places = torch.ops.torchvision.roi_pool(feature, bins.flatten(0, 2), 1.0, 1, 1)
    for buffer, result, nothing in ((output, values, 0), (argmax, places, -1)):
        result = result.view(*bins.shape[:3], -1).movedim(3, 1)  # R C P Q
        buffer.copy_(result.where(filled[:, None], result.new_tensor(nothing)))


def roi_pool_backward(
    grad_output: Tensor, rois: Tensor, argmax: Tensor, grad_input: Tensor, **settings: float
) -> None:
    """Write the derivative of :func:`roi_pool_forward` by ``input`` into ``grad_input``.

    ``settings``, those of the forward, have no effect: ``argmax`` says it all.
    """
    channels, pixels = grad_input.size(1), grad_input[0, 0].numel() if len(grad_input) else 0
    dtype = working_dtype(grad_output)
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    filled = argmax >= 0
    place = (plane[..., None, None] * pixels + argmax)[filled]
    derivative = grad_output.new_zeros(grad_input.numel(), dtype=dtype)
    derivative.index_add_(0, place, grad_output.to(dtype)[filled])
    grad_input.copy_(derivative.view_as(grad_input))


def _bins(
    rois: Tensor, scale: float, size: tuple[int, int], pixels: torch.Size
) -> tuple[Tensor, Tensor]:
    """Bins of regions as regions of torchvision's, and whether they have pixels.

    Args:
        rois: (R, 5).
        scale: Size of the feature map over the image's.
        size: Bins of a region, along height and width.
        pixels: Of the feature map, along height and width.

    Returns:
        (R, P, Q, 5): image, x1, y1, x2, y2 with the last pixel included; (R, P, Q).
    """
    low, high = rois[:, 1:3] * scale, (rois[:, 3:] + 1) * scale  # x, y
    extent = high - low
    shape = len(rois), *size
    sides, filled = {}, (extent > 0).all(1)[:, None, None].expand(shape)
    for axis, view in ((1, (-1, 1)), (0, (1, -1))):  # y: bins of a row; x: of a column
        count, length = size[1 - axis], pixels[1 - axis]
        number = torch.arange(count + 1, device=rois.device, dtype=rois.dtype)
        edges = number * (extent[:, axis, None] / count) + low[:, axis, None]
        first = edges[:, :-1].floor().clamp(0, length)
        end = edges[:, 1:].ceil().clamp(0, length)
        first, end = (side.view(len(rois), *view).expand(shape) for side in (first, end))
        filled = filled & (end > first)
        sides[axis] = first, end - 1
    image = rois[:, 0, None, None].expand(shape)
    (x1, x2), (y1, y2) = sides[0], sides[1]
    return torch.stack((image, x1, y1, x2, y2), 3), filled
