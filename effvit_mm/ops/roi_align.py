"""RoIAlign: regions of a feature map, resampled to a fixed size.

He et al., Mask R-CNN, ICCV 2017, section 3. Averages run on torchvision's operator. The maximum
of each bin's samples, which torchvision lacks, is written in torch.

Regions are (image, x1, y1, x2, y2) in units of the image. A sampling ratio of 0 takes as many
samples as the region's bins have pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401 (registers torch.ops.torchvision)
from torch import Tensor

from .precision import working_dtype

MAXIMUM, AVERAGE = 0, 1
SAMPLES_AT_ONCE = 2**24  # bounds the memory of the maximum


class Bins(NamedTuple):
    """How regions are sampled: what ``mmcv.ops`` passes by name.

    Attributes:
        aligned_height, aligned_width: bins of a region along each side.
        spatial_scale: size of the feature map over the image's.
        sampling_ratio: samples a bin along each side; 0 chooses by the region's size.
        pool_mode: 0 maximum, 1 average.
        aligned: a pixel's centre lies at half-integers, and regions may be smaller than a pixel.
    """

    aligned_height: int
    aligned_width: int
    spatial_scale: float
    sampling_ratio: int
    pool_mode: int
    aligned: bool

    @property
    def averaged(self) -> bool:
        """Whether the average is wanted, not the maximum."""
        if self.pool_mode not in (MAXIMUM, AVERAGE):
            raise ValueError(f'pool_mode must be 0 (maximum) or 1 (average), got {self.pool_mode}')
        return self.pool_mode == AVERAGE


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    **settings: Any,
) -> None:
    """Write the resampled regions into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (R, 5).
        output: (R, C, aligned_height, aligned_width).
        argmax_y, argmax_x: shaped like ``output``, for the maximum only: where the largest sample
            lies on the feature map; -1 in a bin without samples, whose output is 0.
        **settings: those of :class:`Bins`.
    """
    bins = Bins(**settings)
    averaged = bins.averaged
    if output.numel() == 0:
        return
    dtype = working_dtype(input, rois)
    feature, rois = input.to(dtype), rois.to(dtype)
    if averaged:
        height, width, scale, sampling, _, aligned = bins
        output.copy_(
            torch.ops.torchvision.roi_align(feature, rois, scale, height, width, sampling, aligned)
        )
        return
    output.zero_()
    argmax_y.fill_(-1)
    argmax_x.fill_(-1)
    for part, y, x in _samples(rois, bins, feature.size(1)):
        value, where = _bilinear(feature, rois[part, 0].long(), y, x).max(-1)
        output[part] = value.to(output)
        for buffer, place in ((argmax_y, y), (argmax_x, x)):
            place = place.flatten(1, 2)[:, None].expand(-1, feature.size(1), -1, -1)  # R C PQ S
            place = place.gather(-1, where.flatten(2)[..., None])[..., 0]
            buffer[part] = place.view_as(value).to(buffer)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    **settings: Any,
) -> None:
    """Write the derivative of :func:`roi_align_forward` by ``input`` into ``grad_input``."""
    height, width, scale, sampling, _, aligned = bins = Bins(**settings)
    averaged = bins.averaged
    if grad_output.numel() == 0:
        grad_input.zero_()
        return
    dtype = working_dtype(grad_output, rois)
    grad, rois = grad_output.to(dtype), rois.to(dtype)
    shape = grad_input.shape
    if averaged:
        derivative = torch.ops.torchvision._roi_align_backward(
            grad, rois, scale, height, width, *shape, sampling, aligned
        )
    else:
        derivative = _scatter_to_corners(grad, rois, argmax_y, argmax_x, shape)
    grad_input.copy_(derivative)


class _Corners(NamedTuple):
    """The four pixels around sampling points, as indices into H * W, and their weights."""

    places: Tensor  # (4, ...)
    weight: Tensor  # (4, ...), 0 for a point farther than a pixel from the map


def _corners(y: Tensor, x: Tensor, height: int, width: int) -> _Corners:
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    y0, x0 = y.floor(), x.floor()
    y1, x1 = (y0 + 1).clamp(max=height - 1), (x0 + 1).clamp(max=width - 1)
    down, right = y - y0, x - x0
    up, left = 1 - down, 1 - right
    index = torch.stack((y0 * width + x0, y0 * width + x1, y1 * width + x0, y1 * width + x1))
    weight = torch.stack((up * left, up * right, down * left, down * right))
    return _Corners(index.long(), weight * inside)


def _samples(rois: Tensor, bins: Bins, channels: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Sampling points, for parts of the regions that have equally many in a bin.

    Yields:
        Indices of regions (R',), and y and x of their points (R', height, width, samples). Regions
        without samples are left out.
    """
    size = bins.aligned_height, bins.aligned_width
    shift = 0.5 if bins.aligned else 0.0
    start_x, start_y, end_x, end_y = (rois[:, 1:] * bins.spatial_scale - shift).unbind(1)
    width, height = end_x - start_x, end_y - start_y
    if not bins.aligned:
        width, height = width.clamp(min=1), height.clamp(min=1)
    bin_y, bin_x = height / size[0], width / size[1]
    if bins.sampling_ratio > 0:
        grids = torch.full((len(rois), 2), bins.sampling_ratio, device=rois.device)
    else:
        grids = torch.stack((bin_y.ceil(), bin_x.ceil()), 1).long()
    for grid in grids.unique(dim=0):
        if (grid <= 0).any():
            continue
        rows, columns = grid.tolist()
        members = (grids == grid).all(1).nonzero()[:, 0]
        each = channels * size[0] * size[1] * rows * columns
        for part in members.split(max(1, SAMPLES_AT_ONCE // each)):
            y = _points(start_y[part], bin_y[part], size[0], rows)  # R' P rows
            x = _points(start_x[part], bin_x[part], size[1], columns)  # R' Q columns
            shape = (len(part), *size, rows, columns)
            y = y[:, :, None, :, None].expand(shape).flatten(3)
            x = x[:, None, :, None, :].expand(shape).flatten(3)
            yield part, y, x


def _points(start: Tensor, bin_size: Tensor, bins: int, samples: int) -> Tensor:
    """Coordinates of the samples of each bin along one side: (R,) -> (R, bins, samples)."""
    of_bin = torch.arange(bins, device=start.device, dtype=start.dtype)
    of_sample = torch.arange(samples, device=start.device, dtype=start.dtype) + 0.5
    start, bin_size = start[:, None, None], bin_size[:, None, None]
    return start + of_bin[:, None] * bin_size + of_sample * bin_size / samples


def _bilinear(feature: Tensor, images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Values at points: (B, C, H, W), (R,), (R, P, Q, S) twice -> (R, C, P, Q, S)."""
    height, width = feature.shape[-2:]
    corners = _corners(y, x, height, width)
    pixels = feature.transpose(0, 1).flatten(1)  # C B*H*W
    first = (images * height * width)[:, None, None, None]
    pairs = zip(corners.places, corners.weight, strict=True)
    return sum(pixels[:, first + index] * weight for index, weight in pairs).transpose(0, 1)


def _scatter_to_corners(
    grad: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, shape: torch.Size
) -> Tensor:
    """Derivative of the maximum: each goes to the four pixels around its largest sample.

    Args:
        grad, argmax_y, argmax_x: (R, C, P, Q).
        rois: (R, 5).
        shape: of the feature map, (B, C, H, W).
    """
    _, channels, height, width = shape
    y, x = argmax_y.to(grad), argmax_x.to(grad)
    corners = _corners(y, x, height, width)
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    first = (plane * height * width)[..., None, None]  # R C 1 1
    # A bin without samples has y = -1 (one with samples may, too; compiled code skips both).
    weight = corners.weight * (y != -1)
    result = grad.new_zeros(shape.numel())
    result.index_add_(0, (first + corners.places).flatten(), (grad * weight).flatten())
    return result.view(shape)
