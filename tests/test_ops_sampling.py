"""RoIAlign, deformable convolution and attention, against their definitions.

The operators are called through mmcv's own functions.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torchvision
from devices import every_device
from torch.autograd import gradcheck

import effvit_mm.ops  # noqa: F401

# isort: split
import mmcv.ops  # after the import hook


def uniform(*shape, low=0.0, high=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)


ROIS = [
    [0, 2, 1, 17, 13],
    [1, -6, -5, 9, 8],  # reaches beyond the map
    [1, 3.3, 4.1, 3.9, 4.4],  # smaller than a pixel
    [0, 40, 40, 60, 60],  # outside
    [0, 5, 5, 5, 5],  # empty
]


def bilinear(plane, y, x):
    """Value of a map (H, W) at a point; 0 farther than a pixel from it."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    upper = plane[y0, x0] * (1 - x + x0) + plane[y0, x1] * (x - x0)
    lower = plane[y1, x0] * (1 - x + x0) + plane[y1, x1] * (x - x0)
    return float(upper * (1 - y + y0) + lower * (y - y0))


def roi_align_of(plane, roi, size, scale, sampling, pool, aligned):
    """One region of one channel, by definition."""
    x1, y1, x2, y2 = (side * scale - 0.5 * aligned for side in roi)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    step_y, step_x = height / size[0], width / size[1]
    rows, columns = sampling or math.ceil(step_y), sampling or math.ceil(step_x)
    out = np.zeros(size)
    for p, q in product(range(size[0]), range(size[1])):
        samples = [
            bilinear(
                plane, y1 + (p + (i + 0.5) / rows) * step_y, x1 + (q + (j + 0.5) / columns) * step_x
            )
            for i, j in product(range(rows), range(columns))
        ]
        out[p, q] = pool(samples) if samples else 0
    return out


@every_device
@pytest.mark.parametrize('pool', ['avg', 'max'])
@pytest.mark.parametrize('sampling', [0, 1, 3])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_pools_bilinear_samples(aligned, sampling, pool, device):
    feature = uniform(2, 3, 6, 8, low=-1, seed=1)
    rois, size, scale = torch.tensor(ROIS, dtype=torch.float64), (3, 2), 0.5
    function = {'avg': np.mean, 'max': max}[pool]
    want = [
        [roi_align_of(plane, roi, size, scale, sampling, function, aligned) for plane in image]
        for index, *roi in ROIS
        for image in [feature[index].numpy()]
    ]
    y = mmcv.ops.roi_align(
        feature.to(device), rois.to(device), size, scale, sampling, pool, aligned
    )
    torch.testing.assert_close(y.cpu(), torch.from_numpy(np.array(want)))


@every_device
@pytest.mark.parametrize('pool', ['avg', 'max'])
@pytest.mark.parametrize('sampling', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_gradient_is_the_derivative(aligned, sampling, pool, device):
    feature = uniform(2, 2, 6, 8, low=-1, seed=2).to(device).requires_grad_()
    rois = torch.tensor(ROIS, dtype=torch.float64, device=device)
    assert gradcheck(
        lambda x: mmcv.ops.roi_align(x, rois, (3, 2), 0.5, sampling, pool, aligned), (feature,)
    )


@every_device
@pytest.mark.parametrize('pool', ['avg', 'max'])
@pytest.mark.parametrize('images', [0, 2])
def test_roi_align_of_no_regions(images, pool, device):
    feature = torch.ones(images, 3, 6, 8, device=device, requires_grad=True)
    y = mmcv.ops.roi_align(feature, torch.zeros(0, 5, device=device), (3, 2), 1.0, 0, pool)
    assert y.shape == (0, 3, 3, 2)
    y.sum().backward()
    assert feature.grad.shape == feature.shape
    assert not feature.grad.any()


@every_device
@pytest.mark.parametrize('pool', ['avg', 'max'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_reduced_precision(dtype, pool, device):
    """Rounded inputs, then the float32 result, rounded."""
    feature = uniform(2, 4, 9, 9, low=-2, high=2).to(device, dtype).requires_grad_()
    rois = torch.tensor(ROIS, device=device).to(dtype)
    y = mmcv.ops.roi_align(feature, rois, (3, 2), 0.5, 2, pool)
    y.sum().backward()
    exact = feature.detach().float().requires_grad_()
    want = mmcv.ops.roi_align(exact, rois.float(), (3, 2), 0.5, 2, pool)
    want.sum().backward()
    assert y.dtype == feature.grad.dtype == dtype
    torch.testing.assert_close(y, want.to(dtype))
    if pool == 'avg':  # the place of the maximum is kept in this format, too
        torch.testing.assert_close(feature.grad, exact.grad.to(dtype))


def roi_pool_of(plane, roi, size, scale):
    """One region of one channel, by definition: from its first pixel's begin to its last's end."""
    x1, y1, x2, y2 = roi[0] * scale, roi[1] * scale, (roi[2] + 1) * scale, (roi[3] + 1) * scale
    out = np.zeros(size)
    if x2 <= x1 or y2 <= y1:
        return out
    for p, q in product(*map(range, size)):
        top, left = y1 + p * (y2 - y1) / size[0], x1 + q * (x2 - x1) / size[1]
        bottom, right = y1 + (p + 1) * (y2 - y1) / size[0], x1 + (q + 1) * (x2 - x1) / size[1]
        rows = slice(max(math.floor(top), 0), max(math.ceil(bottom), 0))
        columns = slice(max(math.floor(left), 0), max(math.ceil(right), 0))
        out[p, q] = max(plane[rows, columns].ravel(), default=0)
    return out


POOLED = [*ROIS, [0, 5, 5, 4, 4], [1, 6, 6, 2, 9]]  # the last ones: no pixel, turned


@every_device
@pytest.mark.parametrize('scale', [1.0, 0.5, 0.3])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.float16])
def test_roi_pool_takes_the_largest_of_each_bin(dtype, scale, device):
    values = -1.0 - torch.randperm(288, generator=torch.Generator().manual_seed(1))
    feature = values.view(2, 3, 6, 8).to(device, dtype).requires_grad_()
    rois, size = torch.tensor(POOLED, dtype=torch.float64), (3, 2)
    planes = feature.detach().cpu().numpy()
    want = [
        [roi_pool_of(plane, roi, size, scale) for plane in planes[int(i)]]
        for i, *roi in rois.to(dtype).tolist()
    ]
    y = mmcv.ops.roi_pool(feature, rois.to(device, dtype), size, scale)
    assert y.dtype == dtype
    assert np.array_equal(y.detach().cpu().double(), np.array(want))
    assert (y != 0).sum() > 40
    # Each value that is not 0 has one pixel, which gets what comes back to it.
    weight = torch.arange(1.0, y.numel() + 1, device=device).view_as(y).to(dtype)
    (y * weight).sum().backward()
    want_grad = torch.zeros(2, 3, 6, 8, dtype=torch.float64)
    for (r, c, p, q), value in np.ndenumerate(y.detach().cpu().numpy()):
        place = np.argwhere(planes[int(POOLED[r][0]), c] == value) if value else []
        for row, column in place[:1]:
            want_grad[int(POOLED[r][0]), c, row, column] += weight[r, c, p, q].item()
    torch.testing.assert_close(feature.grad.cpu(), want_grad.to(dtype))


@every_device
@pytest.mark.parametrize('images', [0, 2])
def test_roi_pool_of_no_regions(images, device):
    feature = torch.ones(images, 3, 6, 8, device=device, requires_grad=True)
    y = mmcv.ops.roi_pool(feature, torch.zeros(0, 5, device=device), (3, 2), 1.0)
    assert y.shape == (0, 3, 3, 2)
    y.sum().backward()
    assert not feature.grad.any()


# stride, padding, dilation, groups, deform_groups
GEOMETRIES = [
    (1, 1, 1, 1, 1),
    ((2, 1), (1, 0), (1, 2), 2, 1),
    (1, (0, 1), 1, 1, 2),
    (2, 1, 1, 2, 2),
]


def convolution_inputs(geometry, device='cpu', seed=0):
    """Input, offset, mask, weight and bias: 4 channels of 5 x 6 pixels, a kernel of 2 x 3."""
    stride, padding, dilation, groups, deform_groups = geometry
    shape = torch.nn.functional.conv2d(
        torch.zeros(2, 4, 5, 6), torch.zeros(4, 4, 2, 3), None, stride, padding, dilation
    ).shape[-2:]
    return [
        tensor.to(device).requires_grad_()
        for tensor in (
            uniform(2, 4, 5, 6, low=-1, seed=seed),
            uniform(2, deform_groups * 12, *shape, low=-1.9, high=1.9, seed=seed + 1),
            uniform(2, deform_groups * 6, *shape, seed=seed + 2),
            uniform(4, 4 // groups, 2, 3, low=-1, seed=seed + 3),
            uniform(4, low=-1, seed=seed + 4),
        )
    ]


def zero_padded(plane, y, x):
    """Bilinear value of a map (H, W) that continues with zeros."""
    height, width = plane.shape
    value = 0.0
    for row, column in product(
        (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
    ):
        if 0 <= row < height and 0 <= column < width:
            value += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return value


def deform_conv_by_definition(x, offset, mask, weight, bias, geometry):
    (sy, sx), (py, px), (dy, dx) = (np.broadcast_to(v, 2).tolist() for v in geometry[:3])
    groups, deform_groups = geometry[3:]
    x, offset, mask, weight, bias = (t.detach().numpy() for t in (x, offset, mask, weight, bias))
    out = np.zeros((len(x), len(weight), *offset.shape[-2:])) + bias[:, None, None]
    inputs, elements = weight.shape[1], list(product(range(2), range(3)))
    for n, o, i, j, c in product(*map(range, (*out.shape, inputs))):
        channel = o // (len(weight) // groups) * inputs + c
        first = channel // (x.shape[1] // deform_groups) * len(elements)
        for k, (a, b) in enumerate(elements, first):
            row = i * sy - py + a * dy + offset[n, 2 * k, i, j]
            column = j * sx - px + b * dx + offset[n, 2 * k + 1, i, j]
            sample = zero_padded(x[n, channel], row, column) * mask[n, k, i, j]
            out[n, o, i, j] += weight[o, c, a, b] * sample
    return torch.from_numpy(out)


@every_device
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deform_conv_is_a_convolution_at_displaced_points(geometry, device):
    x, offset, mask, weight, bias = convolution_inputs(geometry)
    want = deform_conv_by_definition(x, offset, mask, weight, bias, geometry)
    args = [t.to(device) for t in (x, offset, mask, weight, bias)]
    y = mmcv.ops.modulated_deform_conv2d(*args, *geometry)
    torch.testing.assert_close(y.cpu(), want)
    ones, zeros = torch.ones_like(mask), torch.zeros_like(bias)
    want = deform_conv_by_definition(x, offset, ones, weight, zeros, geometry)
    y = mmcv.ops.deform_conv2d(args[0], args[1], args[3], *geometry)
    torch.testing.assert_close(y.cpu(), want)


@every_device
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deform_conv_gradients_are_the_derivatives(geometry, device):
    x, offset, mask, weight, bias = convolution_inputs(geometry, device, seed=10)
    fast = {'fast_mode': True}
    for b in (bias, None):
        inputs = (x, offset, mask, weight, b)
        assert gradcheck(
            lambda *args: mmcv.ops.modulated_deform_conv2d(*args, *geometry), inputs, **fast
        )
    assert gradcheck(
        lambda *args: mmcv.ops.deform_conv2d(*args, *geometry), (x, offset, weight), **fast
    )


@every_device
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_deform_conv_in_reduced_precision(dtype, device):
    """Rounded inputs, then the float32 result, rounded."""
    args = [t.detach().to(dtype) for t in convolution_inputs(GEOMETRIES[0], device)]
    y = mmcv.ops.modulated_deform_conv2d(*args, *GEOMETRIES[0])
    want = mmcv.ops.modulated_deform_conv2d(*(t.float() for t in args), *GEOMETRIES[0])
    assert y.dtype == dtype
    torch.testing.assert_close(y, want.to(dtype))


@every_device
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_a_fresh_deform_conv_has_the_compiled_gradients(dtype, device):
    """The figures of mmcv's own test of its compiled operator: offsets of zero, and padding."""
    x = torch.tensor([[[[1.0, 2, 3]] * 3]], device=device, dtype=dtype, requires_grad=True)
    layer = mmcv.ops.ModulatedDeformConv2dPack(1, 1, (2, 2), padding=1, bias=False)
    layer.weight.data.fill_(1.0)
    layer.to(device, dtype)(x).sum().backward()
    bias = [-3.0, -1.5, -3.0, -1.5, -3.0, -1.5, -3.0, -1.5, 4.5, 4.5, 4.5, 4.5]
    assert layer.conv_offset.bias.grad.tolist() == bias
    first = [[[-7.0, -4], [0, 0]], [[-9, 7.5], [-6, 5]], [[-4, -7], [0, 0]]]
    assert layer.conv_offset.weight.grad[:3, 0].tolist() == first
    assert x.grad.tolist() == [[[[2.0] * 3] * 3]]


@every_device
@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('groups', [1, 2])
def test_points_on_the_border_have_the_slope_outside(modulated, groups, device):
    """A kernel of 2 x 3, stride (2, 1), padding (1, 2), dilation (1, 2), of 5 x 6 pixels."""
    stride, padding, dilation = (2, 1), (1, 2), (1, 2)
    rows = torch.arange(2)[:, None] + torch.arange(3) * 2 - 1  # of elements and outputs
    columns = torch.arange(3)[:, None] * 2 + torch.arange(6) - 2
    border = (rows == -1)[:, None, :, None] | (columns == -1)[None, :, None]
    border = border[None, :, :, None].expand(groups, 2, 3, 2, 3, 6).reshape(1, -1, 3, 6)
    x, weight = uniform(1, 2, 5, 6, seed=1), uniform(2, 2, 2, 3, low=0.5, seed=2)
    offset = torch.zeros(1, groups * 12, 3, 6, dtype=torch.float64).requires_grad_()
    mask = uniform(1, groups * 6, 3, 6, seed=3) if modulated else None
    y = torchvision.ops.deform_conv2d(x, offset, weight, None, stride, padding, dilation, mask)
    (slope_inside,) = torch.autograd.grad(y.sum(), offset)
    x, weight, offset = (t.detach().to(device) for t in (x, weight, offset))
    offset.requires_grad_()
    geometry = (stride, padding, dilation, 1, groups)
    if modulated:
        y = mmcv.ops.modulated_deform_conv2d(x, offset, mask.to(device), weight, None, *geometry)
    else:
        y = mmcv.ops.deform_conv2d(x, offset, weight, *geometry)
    y.sum().backward()
    assert slope_inside[border].abs().max() > 0.1
    torch.testing.assert_close(offset.grad.cpu(), slope_inside.masked_fill(border, 0))


SHAPES = torch.tensor([[4, 5], [2, 3]])
STARTS = torch.tensor([0, 20])


def attention_inputs(device='cpu'):
    """Values (2, 26, 2, 3), locations (2, 4, 2, 2, 3, 2), some outside, weights (2, 4, 2, 2, 3)."""
    tensors = (
        uniform(2, 26, 2, 3, low=-1, seed=1),
        uniform(2, 4, 2, 2, 3, 2, low=-0.2, high=1.2, seed=2),
        uniform(2, 4, 2, 2, 3, seed=3),
    )
    return [t.to(device).requires_grad_() for t in tensors]


def attend(value, locations, weights):
    shapes, starts = SHAPES.to(value.device), STARTS.to(value.device)
    function = mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    return function.apply(value, shapes, starts, locations, weights, 64)


@every_device
def test_deformable_attention_sums_samples_of_all_levels(device):
    value, locations, weights = (t.detach().numpy() for t in attention_inputs())
    want = np.zeros((2, 4, 2, 3))
    for n, q, h, level, p, d in product(*map(range, (*weights.shape, 3))):
        (height, width), start = SHAPES[level].tolist(), STARTS[level].item()
        plane = value[n, start : start + height * width, h, d].reshape(height, width)
        x, y = locations[n, q, h, level, p]
        sample = zero_padded(plane, y * height - 0.5, x * width - 0.5)
        want[n, q, h, d] += weights[n, q, h, level, p] * sample
    got = attend(*attention_inputs(device))
    torch.testing.assert_close(got.cpu(), torch.from_numpy(want).flatten(2))


@every_device
def test_deformable_attention_gradients_are_the_derivatives(device):
    assert gradcheck(attend, attention_inputs(device))


@every_device
def test_attention_points_on_the_border_have_the_slope_outside(device):
    """Maps of 4 x 4: -0.125 is exactly a pixel before the first."""
    value = uniform(1, 16, 1, 3, low=0.5).to(device)
    shapes, starts = torch.tensor([[4, 4]], device=device), torch.tensor([0], device=device)
    places = [[-0.125, 0.4], [0.4, -0.125], [-0.125 + 1e-6, 0.4], [0.4, -0.125 + 1e-6]]
    locations = torch.tensor(places, device=device, dtype=torch.float64).view(1, 4, 1, 1, 1, 2)
    locations.requires_grad_()
    weights = torch.ones(1, 4, 1, 1, 1, dtype=torch.float64, device=device)
    function = mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    function.apply(value, shapes, starts, locations, weights, 64).sum().backward()
    slope = locations.grad.view(4, 2).cpu()
    assert not slope[:2].any()
    assert slope[2, 0] > 1
    assert slope[3, 1] > 1


@every_device
def test_deformable_attention_without_queries_or_images(device):
    value, locations, weights = attention_inputs(device)
    for images, queries in ((2, 0), (0, 4)):
        y = attend(value[:images], locations[:images, :queries], weights[:images, :queries])
        assert y.shape == (images, queries, 6)
        value.grad = None
        y.sum().backward()
        assert not value.grad.any()
