"""Suppression of boxes, their overlaps, and focal losses, against their definitions.

The operators are called through mmcv's own functions.
"""

import math
from itertools import product

import numpy as np
import pytest
import torch
from devices import every_device
from torch.autograd import gradcheck

import effvit_mm.ops  # noqa: F401

# isort: split
import mmcv.ops  # after the import hook

every_offset = pytest.mark.parametrize('offset', [0, 1])
f32 = np.float32


def uniform(*shape, low=0.0, high=1.0, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=dtype)


def crowd(seed, count):
    """Boxes on a small grid: equal scores, duplicates, empty boxes, overlaps of exactly 0.3."""
    random = np.random.RandomState(seed)
    corner, size = random.randint(0, 12, (count, 2)), random.randint(0, 8, (count, 2))
    boxes = np.concatenate((corner, corner + size), 1).astype(f32)
    scores = (random.randint(1, 10, count) / 10).astype(f32)
    return boxes, scores


def box_area(box, offset):
    return (box[2] - box[0] + f32(offset)) * (box[3] - box[1] + f32(offset))


def iou(a, b, offset):
    """Overlap of two boxes in float32; two empty boxes give NaN."""
    width = max(f32(0), min(a[2], b[2]) - max(a[0], b[0]) + f32(offset))
    height = max(f32(0), min(a[3], b[3]) - max(a[1], b[1]) + f32(offset))
    shared = width * height
    with np.errstate(invalid='ignore', divide='ignore'):
        return shared / (box_area(a, offset) + box_area(b, offset) - shared)


def suppression_groups(boxes, scores, suppresses, offset):
    """Greedy suppression by definition: each kept box with those that it suppresses."""
    waiting, groups = sorted(range(len(boxes)), key=lambda i: (-scores[i], i)), []
    while waiting:
        best = waiting[0]
        gone = [i for i in waiting[1:] if suppresses(iou(boxes[best], boxes[i], offset))]
        groups.append([best, *gone])
        waiting = [i for i in waiting[1:] if i not in gone]
    return groups


@every_device
@every_offset
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize('count', [1, 2, 40])
def test_nms_is_greedy_suppression(count, threshold, offset, device):
    for seed in range(5):
        boxes, scores = crowd(seed, count)
        groups = suppression_groups(boxes, scores, lambda x: x > f32(threshold), offset)
        tensors = (torch.from_numpy(x).to(device) for x in (boxes, scores))
        index = mmcv.ops.nms(*tensors, threshold, offset=offset)[1]
        assert index.tolist() == [group[0] for group in groups]


@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.7])
@pytest.mark.parametrize('count', [1, 2, 40])
def test_nms_match_keeps_the_groups(count, threshold):
    for seed in range(5):
        boxes, scores = crowd(seed, count)
        groups = suppression_groups(boxes, scores, lambda x: x >= f32(threshold), 0)
        dets = torch.from_numpy(np.concatenate((boxes, scores[:, None]), 1))
        assert [x.tolist() for x in mmcv.ops.nms_match(dets, threshold)] == groups


def soft_suppression(boxes, scores, left, min_score, offset):
    """Soft suppression as an array that shrinks: the best box comes to the front by a swap, a
    box whose score is too low is replaced by the last one."""
    items = [[i, score] for i, score in enumerate(scores)]
    front = 0
    while front < len(items):
        best = front
        for place in range(front + 1, len(items)):
            if items[place][1] > items[best][1]:
                best = place
        items[front], items[best] = items[best], items[front]
        place = front + 1
        while place < len(items):
            i, score = items[place]
            items[place][1] = score * left(iou(boxes[items[front][0]], boxes[i], offset))
            if items[place][1] < f32(min_score):
                last = items.pop()
                if place < len(items):
                    items[place] = last
            else:
                place += 1
        front += 1
    return [i for i, _ in items], [score for _, score in items]


@every_offset
@pytest.mark.parametrize('count', [1, 2, 30])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_is_soft_suppression(method, count, offset):
    left = {
        'naive': lambda x: f32(0) if x >= f32(0.3) else f32(1),
        'linear': lambda x: f32(1) - x if x >= f32(0.3) else f32(1),
        'gaussian': lambda x: np.exp(-(x * x) / f32(0.5)),
    }[method]
    for seed in range(8):
        boxes, scores = crowd(seed, count)
        want, want_scores = soft_suppression(boxes, scores, left, 0.15, offset)
        dets, index = mmcv.ops.soft_nms(
            boxes, scores, 0.3, sigma=0.5, min_score=0.15, method=method, offset=offset
        )
        assert index.tolist() == want
        np.testing.assert_array_equal(dets[:, :4], boxes[want])
        np.testing.assert_allclose(dets[:, 4], want_scores, rtol=1e-6)


@every_device
@every_offset
def test_suppression_of_no_boxes(offset, device):
    boxes, scores = torch.zeros(0, 4, device=device), torch.zeros(0, device=device)
    for function in (mmcv.ops.nms, mmcv.ops.soft_nms):
        dets, index = function(boxes, scores, 0.5, offset=offset)
        assert dets.shape == (0, 5)
        assert index.shape == (0,)
        assert index.dtype == torch.long


@every_offset
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_every_number_format(dtype, offset):
    boxes, scores = (torch.from_numpy(x) for x in crowd(3, 40))
    scores = torch.arange(40, 0, -1.0) / 64  # exact in every format
    want = mmcv.ops.nms(boxes, scores, 0.5, offset=offset)[1]
    dets, index = mmcv.ops.nms(boxes.to(dtype), scores.to(dtype), 0.5, offset=offset)
    assert dets.dtype == dtype
    assert torch.equal(index, want)


@every_device
@every_offset
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps_is_shared_over_whole_area(mode, offset, device):
    a, b = crowd(1, 9)[0], crowd(2, 9)[0]
    want = np.array([[iou(x, y, offset) for y in b] for x in a])
    if mode == 'iof':
        both = np.array([[box_area(x, offset) + box_area(y, offset) for y in b] for x in a])
        first = np.array([[box_area(x, offset)] for x in a])
        with np.errstate(invalid='ignore', divide='ignore'):
            want = (want * both / (1 + want)) / first  # shared = iou * both / (1 + iou)
    ta, tb = torch.from_numpy(a).to(device), torch.from_numpy(b).to(device)
    got = mmcv.ops.bbox_overlaps(ta, tb, mode=mode, offset=offset).cpu().numpy()
    valid = ~np.isnan(want)
    assert valid.sum() > 40
    np.testing.assert_allclose(got[valid], want[valid], rtol=1e-5, atol=1e-7)
    pairs = mmcv.ops.bbox_overlaps(ta, tb, mode=mode, aligned=True, offset=offset).cpu()
    np.testing.assert_array_equal(pairs, np.diag(got))


TARGETS = torch.tensor([0, 2, 3, 1, 1, 3, 2])  # of 3 classes; 3 is the background


def focal(p, alpha, gamma):
    return -alpha * (1 - p) ** gamma * math.log(p)


@every_device
@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_focal_loss_by_definition(weighted, device):
    logits, weight = uniform(7, 3, low=-6, high=6), torch.tensor([0.5, 2.0, 3.0]).double()
    want = torch.zeros(7, 3, dtype=torch.float64)
    for n, c in product(range(7), range(3)):
        p, t = logits[n, c].sigmoid().item(), TARGETS[n].item()
        loss = focal(p, 0.3, 1.5) if t == c else focal(1 - p, 0.7, 1.5)
        want[n, c] = loss * (weight[t].item() if weighted and t < 3 else 1)
    args = (
        logits.to(device),
        TARGETS.to(device),
        1.5,
        0.3,
        weight.to(device) if weighted else None,
    )
    for reduction, value in (('none', want), ('sum', want.sum()), ('mean', want.sum() / 7)):
        got = mmcv.ops.sigmoid_focal_loss(*args, reduction)
        torch.testing.assert_close(got.cpu(), value)


@every_device
@pytest.mark.parametrize('weighted', [False, True])
def test_softmax_focal_loss_by_definition(weighted, device):
    logits, weight = uniform(7, 3, low=-3, high=3), torch.tensor([0.5, 2.0, 3.0]).double()
    want = torch.zeros(7, dtype=torch.float64)
    for n, t in enumerate(TARGETS.tolist()):
        if t < 3:
            p = logits[n].softmax(0)[t].item()
            want[n] = focal(p, 0.3, 1.5) * (weight[t].item() if weighted else 1)
    args = (
        logits.to(device),
        TARGETS.to(device),
        1.5,
        0.3,
        weight.to(device) if weighted else None,
    )
    for reduction, value in (('none', want), ('sum', want.sum()), ('mean', want.sum() / 7)):
        got = mmcv.ops.softmax_focal_loss(*args, reduction)
        torch.testing.assert_close(got.cpu(), value)


@every_device
@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('loss', ['sigmoid_focal_loss', 'softmax_focal_loss'])
def test_focal_loss_gradient_is_the_derivative(loss, reduction, weighted, device):
    logits = uniform(7, 3, low=-3, high=3).to(device).requires_grad_()
    targets = TARGETS.to(device)
    weight = torch.tensor([0.5, 2.0, 3.0], device=device).double() if weighted else None
    function = getattr(mmcv.ops, loss)
    assert gradcheck(lambda x: function(x, targets, 1.5, 0.3, weight, reduction), (logits,))


@every_device
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize('loss', ['sigmoid_focal_loss', 'softmax_focal_loss'])
def test_focal_loss_stays_finite_on_extreme_logits(loss, dtype, device):
    logits = torch.tensor([[200.0, -200, 0], [-200, 200, 0]], device=device).to(dtype)
    logits.requires_grad_()
    value = getattr(mmcv.ops, loss)(logits, torch.tensor([1, 1], device=device), 2.0, 0.25, None)
    value.backward()
    assert value.dtype == dtype
    # float32's smallest number bounds the logarithm: -log(2^-126) = 87.3
    terms = 0.25 * 87.3365 + (0.75 * 87.3365 if loss == 'sigmoid_focal_loss' else 0)
    middle = 2 * 0.75 * 0.25 * math.log(2) if loss == 'sigmoid_focal_loss' else 0
    assert value.item() == pytest.approx((terms + middle) / 2, rel=1e-2)
    assert logits.grad.isfinite().all()


@every_device
@pytest.mark.parametrize('loss', ['sigmoid_focal_loss', 'softmax_focal_loss'])
def test_focal_loss_of_no_samples(loss, device):
    logits = torch.zeros(0, 3, device=device, requires_grad=True)
    targets = torch.zeros(0, dtype=torch.long, device=device)
    value = getattr(mmcv.ops, loss)(logits, targets, 2.0, 0.25, None, 'sum')
    value.backward()
    assert value.item() == 0
    assert logits.grad.shape == (0, 3)
