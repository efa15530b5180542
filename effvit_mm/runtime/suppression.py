"""Suppression of overlapping boxes as one operator of fixed shapes, which graphs can hold.

torchvision's operator gives as many indices as there are boxes left, one image at a time: a graph
for any batch cannot be traced through it. This one gives each box a score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..ops.nms import nms

NAME = 'effvit_mm::suppress'
# Written down: PyTorch before 2.5 cannot read it off annotations that are not evaluated.
SCHEMA = '(Tensor boxes, Tensor scores, float iou_threshold, SymInt most) -> Tensor'


@torch.library.custom_op(NAME, mutates_args=(), schema=SCHEMA)
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Scores of the boxes that no better box of their image overlaps, and 0 for all others.

    Args:
        boxes: (B, N, 4): left, top, right, bottom.
        scores: (B, N), 0 where there is no box.
        iou_threshold: An overlap above it suppresses.
        most: How many boxes of an image are left at most, the best ones.

    Returns:
        (B, N).
    """
    left = torch.zeros_like(scores)
    for image, of_image, kept in zip(boxes, scores, left, strict=True):
        candidates = of_image.nonzero()[:, 0]
        best = nms(image[candidates], of_image[candidates], iou_threshold, offset=0)[:most]
        kept[candidates[best]] = of_image[candidates[best]]
    return left


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    return torch.empty_like(scores)


def onnx_translation() -> dict[Callable, Callable]:
    """An entry of ``custom_translation_table`` of ``torch.onnx.export``; needs onnxscript."""
    from onnxscript import opset18 as op

    def translate(boxes, scores, iou_threshold: float, most: int):
        chosen = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, [1]),
            op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[0.0]),  # those without a score are no candidates
        )
        places = op.Gather(chosen, [0, 2], axis=1)  # image and box; between them is the class
        return op.ScatterND(op.Mul(scores, 0.0), places, op.GatherND(scores, places))

    return {torch.ops.effvit_mm.suppress.default: translate}


def openvino_extension():
    """An ``extension`` of ``openvino.convert_model`` for programs of ``torch.export``."""
    from openvino import opset15 as op
    from openvino.frontend.pytorch import ConversionExtension

    def translate(node):
        boxes, scores = node.get_input(0), node.get_input(1)
        iou_threshold, most = (node.get_values_from_const_input(i) for i in (2, 3))
        chosen = op.non_max_suppression(
            op.reshape(boxes, np.array([0, -1, 4]), special_zero=True),  # sides may be unknown
            op.unsqueeze(scores, np.int64(1)),
            np.int64(most),
            # There an overlap equal to the threshold suppresses too.
            np.nextafter(np.float32(iou_threshold), np.float32(2)),
            np.float32(0),
            sort_result_descending=False,
        ).output(0)
        places = op.gather(chosen, np.array([0, 2]), np.int64(1))
        nothing = op.broadcast(np.float32(0), op.shape_of(scores))
        left = op.scatter_nd_update(nothing, places, op.gather_nd(scores, places))
        return left.outputs()

    return ConversionExtension('effvit_mm.suppress.default', translate)
