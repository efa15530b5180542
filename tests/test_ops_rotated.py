"""Rotated boxes: overlaps and suppression, against figures and OpenCV's polygons.

The operators are called through mmcv's own functions.
"""

import math

import cv2
import numpy as np
import pytest
import torch
from devices import every_device

import effvit_mm.ops  # noqa: F401

# isort: split
import mmcv.ops  # after the import hook

# mmcv's own tests of its compiled operators.
BOXES1 = [[1.0, 1, 3, 4, 0.5], [2, 2, 3, 4, 0.6], [7, 7, 8, 8, 0.4]]
BOXES2 = [[0.0, 2, 2, 5, 0.3], [2, 1, 3, 3, 0.5], [5, 5, 6, 7, 0.4]]
FIGURES = {
    'iou': [[0.3708, 0.4351, 0.0], [0.1104, 0.4487, 0.0424], [0.0, 0.0, 0.3622]],
    'iof': [[0.4959, 0.5306, 0.0], [0.1823, 0.5420, 0.1832], [0.0, 0.0, 0.4404]],
}


@every_device
@pytest.mark.parametrize('clockwise', [True, False])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_overlaps_are_the_compiled_ones(mode, clockwise, device):
    a, b = torch.tensor(BOXES1, device=device), torch.tensor(BOXES2, device=device)
    if not clockwise:
        a[:, 4], b[:, 4] = -a[:, 4], -b[:, 4]
    want = torch.tensor(FIGURES[mode])
    got = mmcv.ops.box_iou_rotated(a, b, mode, clockwise=clockwise)
    torch.testing.assert_close(got.cpu(), want, rtol=0, atol=1e-4)
    got = mmcv.ops.box_iou_rotated(a, b, mode, aligned=True, clockwise=clockwise)
    torch.testing.assert_close(got.cpu(), want.diag(), rtol=0, atol=1e-4)


def random_boxes(count, seed):
    random = np.random.RandomState(seed)
    parts = random.uniform(0, 20, (count, 2)), random.uniform(0.5, 12, (count, 2))
    return torch.from_numpy(np.concatenate((*parts, random.uniform(-4, 4, (count, 1))), 1))


def polygon_iou(a, b):
    """By OpenCV, whose boxes have degrees and float32 corners."""
    corners = [cv2.boxPoints((box[:2], box[2:4], math.degrees(box[4]))) for box in (a, b)]
    shared = cv2.intersectConvexConvex(*corners)[0]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def test_overlaps_are_those_of_polygons():
    a, b = random_boxes(60, 1), random_boxes(50, 2)
    want = [[polygon_iou(x, y) for y in b.tolist()] for x in a.tolist()]
    got = mmcv.ops.box_iou_rotated(a, b)
    assert ((got > 0.1) & (got < 0.9)).sum() > 200
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-4)


@every_device
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_boxes_with_common_corners_and_sides(dtype, device):
    """Equal boxes, a quarter turned, half of one, touching ones, one in another; empty ones."""
    angles = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)
    cos, sin, one = angles.cos(), angles.sin(), torch.ones_like(angles)

    def boxes(along, width, height, turn=0.0):
        columns = (50 + along * cos, 30 + along * sin, width * one, height * one, angles + turn)
        return torch.stack(columns, 1).to(device, dtype)

    base = boxes(0, 8, 3)
    for other, want in (
        (base, 1.0),
        (boxes(0, 3, 8, math.pi / 2), 1.0),
        (boxes(2, 4, 3), 0.5),
        (boxes(8, 8, 3), 0.0),
        (boxes(1, 4, 1), 4 / 24),
        (boxes(0, 8, 0), 0.0),
    ):
        got = mmcv.ops.box_iou_rotated(base, other, aligned=True)
        want = torch.full_like(got, want)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
        both = mmcv.ops.box_iou_rotated(other, base, aligned=True)
        torch.testing.assert_close(both, want, rtol=0, atol=1e-5)


@every_device
def test_no_rotated_boxes(device):
    none, one = torch.zeros(0, 5, device=device), torch.ones(1, 5, device=device)
    assert mmcv.ops.box_iou_rotated(none, one).shape == (0, 1)
    assert mmcv.ops.box_iou_rotated(one, none).shape == (1, 0)
    assert mmcv.ops.box_iou_rotated(none, none, aligned=True).shape == (0,)


@every_device
@pytest.mark.parametrize('labels', [None, [1.0, 0, 1, 0]])
def test_suppression_is_the_compiled_one(labels, device):
    """The figures of mmcv's own tests, whose labels change nothing."""
    boxes = torch.tensor(
        [[6.0, 3, 8, 7, 0.5], [3, 6, 9, 11, 0.6], [3, 7, 10, 12, 0.3], [1, 4, 13, 7, 0.6]],
        device=device,
    )
    scores = torch.tensor([0.7, 0.8, 0.5, 0.9], device=device)
    if labels is not None:
        labels = torch.tensor(labels, device=device)
    dets, index = mmcv.ops.nms_rotated(boxes, scores, 0.5, labels)
    assert index.tolist() == [3, 1, 0]
    assert torch.equal(dets, torch.cat((boxes, scores[:, None]), 1)[index])


@every_device
@pytest.mark.parametrize('threshold', [0.1, 0.5])
def test_suppression_is_greedy(threshold, device):
    boxes = random_boxes(80, 3)
    scores = torch.randperm(80, generator=torch.Generator().manual_seed(0)).double() / 80
    waiting, want = scores.argsort(descending=True).tolist(), []
    while waiting:
        want.append(waiting[0])
        overlaps = mmcv.ops.box_iou_rotated(boxes[want[-1:]], boxes[waiting])[0].tolist()
        waiting = [i for i, overlap in zip(waiting, overlaps, strict=True) if overlap < threshold]
    assert 5 < len(want) < 75
    index = mmcv.ops.nms_rotated(boxes.to(device), scores.to(device), threshold)[1]
    assert index.tolist() == want


def test_batched_suppression_keeps_classes_apart():
    boxes, scores = torch.tensor([[5.0, 5, 4, 2, 0.3]] * 3), torch.tensor([0.5, 0.9, 0.7])
    config = {'type': 'nms_rotated', 'iou_threshold': 0.5}
    index = mmcv.ops.batched_nms(boxes, scores, torch.tensor([0, 0, 1]), config)[1]
    assert index.tolist() == [1, 2]
