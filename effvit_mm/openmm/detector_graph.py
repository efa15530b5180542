"""Whole detectors as modules that can be traced: images in, a fixed number of objects out.

mmdet's ``predict`` works image by image with as many boxes as there are. Here boxes that do not
count have a score of 0 instead, so that all shapes follow from that of the images; which boxes are
left, and their figures, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from ..errors import ConfigError
from ..runtime.detections import detection_difference
from ..runtime.suppression import suppress

WH_RATIO_CLIP = 16 / 1000  # mmdet's: of a decoded box's sides to its prior's
# A region of a pixel outside of every map, where samples are 0. Of one without any extent OpenVINO
# makes values that are no numbers.
AWAY = (-9000.0, -9000.0, -8999.0, -8999.0)

Size = tuple[int, int]


class Rule(NamedTuple):
    """What a ``test_cfg`` says of the boxes to keep.

    Attributes:
        score_thr: Boxes must score more.
        nms_pre: How many of a level are looked at; None for all.
        min_bbox_size: Sides in pixels must be longer; None where any will do.
        iou_threshold: A better box that overlaps by more suppresses.
        by_class: Only one of its own class does.
        max_per_img: How many are kept.
    """

    score_thr: float
    nms_pre: int | None
    min_bbox_size: float | None
    iou_threshold: float
    by_class: bool
    max_per_img: int


def read_rule(cfg: Mapping[str, Any], name: str) -> Rule:
    """The rule of a ``test_cfg``; ``name`` is how messages call it.

    Raises:
        ConfigError: Another suppression than the greedy one, or no limit of the number of boxes.
    """
    nms = dict(cfg['nms'])
    kind, agnostic = nms.pop('type', 'nms'), nms.pop('class_agnostic', False)
    nms.pop('split_thr', None)  # from how many boxes on mmcv goes class by class: no difference
    if getattr(kind, '__name__', kind) != 'nms' or set(nms) != {'iou_threshold'}:
        raise ConfigError(
            f'{name}.nms={dict(cfg["nms"])}: a graph can be made of type "nms" with iou_threshold '
            'and class_agnostic alone'
        )
    if cfg['max_per_img'] < 1:
        raise ConfigError(f'{name}.max_per_img={cfg["max_per_img"]}: 1 or more is needed')
    pre, side = cfg.get('nms_pre', -1), cfg.get('min_bbox_size', -1)
    return Rule(
        score_thr=max(cfg.get('score_thr', 0), 0),
        nms_pre=pre if pre > 0 else None,
        min_bbox_size=side if side >= 0 else None,
        iou_threshold=nms['iou_threshold'],
        by_class=not agnostic,
        max_per_img=cfg['max_per_img'],
    )


class Candidates(NamedTuple):
    """Boxes to choose from.

    Attributes:
        boxes: (B, N, 4).
        scores: (B, N), 0 where there is no box.
        labels: (B, N), int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def choose(candidates: Candidates, rule: Rule) -> Candidates:
    """The ``max_per_img`` best that are left, best first; score 0 and label -1 where none is."""
    boxes, scores, labels = candidates
    if rule.min_bbox_size is not None:
        sides = boxes[..., 2:] - boxes[..., :2]
        scores = torch.where((sides > rule.min_bbox_size).all(-1), scores, 0)
    apart = boxes
    if rule.by_class:  # each class on a sheet of its own, at mmcv's place: sums round as there
        sheet = torch.where(scores > 0, boxes.amax(-1), 0).amax(-1, keepdim=True) + 1
        apart = boxes + (labels.to(boxes) * sheet)[..., None]
    left = suppress(apart, scores, rule.iou_threshold, rule.max_per_img)
    most = min(rule.max_per_img, left.shape[1])
    found = left.topk(most)
    scores, places = (F.pad(part, (0, rule.max_per_img - most)) for part in found)
    boxes, labels = take(boxes, places), labels.gather(1, places)
    there = scores > 0
    return Candidates(
        torch.where(there[..., None], boxes, 0), scores, torch.where(there, labels, -1)
    )


def take(values: Tensor, places: Tensor) -> Tensor:
    """Rows of ``(B, N, C)`` at places ``(B, K)``."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def decode_deltas(coder: Any, priors: Tensor, deltas: Tensor, shown: Tensor) -> Tensor:
    """Boxes ``(..., 4)`` of shifts and scalings of priors, as mmdet's ``DeltaXYWHBBoxCoder``."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    centres = (priors[..., :2] + priors[..., 2:]) * 0.5
    sides = priors[..., 2:] - priors[..., :2]
    centres = centres + sides * deltas[..., :2]
    limit = abs(math.log(WH_RATIO_CLIP))
    halves = sides * deltas[..., 2:].clamp(-limit, limit).exp() * 0.5
    return clip(torch.cat((centres - halves, centres + halves), -1), coder, shown)


def decode_distances(coder: Any, points: Tensor, distances: Tensor, shown: Tensor) -> Tensor:
    """Boxes ``(..., 4)`` of points' distances from their sides, as ``DistancePointBBoxCoder``."""
    boxes = torch.cat((points - distances[..., :2], points + distances[..., 2:]), -1)
    return clip(boxes, coder, shown)


def clip(boxes: Tensor, coder: Any, shown: Tensor) -> Tensor:
    """What of boxes ``(B, ..., 4)`` lies within what their images show, ``(B, 2)``."""
    if not coder.clip_border:
        return boxes
    limits = shown.flip(1).repeat(1, 2)  # width, height, width, height
    return boxes.clamp(min=0).minimum(limits.view(-1, *[1] * (boxes.ndim - 2), 4))


DECODERS = {
    'DeltaXYWHBBoxCoder': decode_deltas,
    'DistancePointBBoxCoder': decode_distances,
}


def decoder_of(head: nn.Module) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Boxes of priors and what the head says of them, within what images show ``(B, 2)``.

    Raises:
        ConfigError: The head's boxes are coded in a way that is not known here.
    """
    coder = head.bbox_coder
    kind = type(coder).__name__
    if kind not in DECODERS or getattr(coder, 'add_ctr_clamp', False):
        raise ConfigError(
            f'bbox_coder.type={kind} of {type(head).__name__}: allowed in a graph are '
            f'{" and ".join(DECODERS)}, without add_ctr_clamp'
        )
    return partial(DECODERS[kind], coder)


class DenseCandidates(nn.Module):
    """A head on all places of the maps, and what it finds there before suppression.

    Args:
        head: mmdet's.
        rule: Of which ``score_thr`` and ``nms_pre`` are for here.
        maps: What the head is given of images of the graph's size.
    """

    def __init__(self, head: nn.Module, rule: Rule, maps: Sequence[Tensor]) -> None:
        super().__init__()
        self.head, self.rule = head, rule
        self.decode = decoder_of(head)
        sizes = [one.shape[2:] for one in maps]
        priors = head.prior_generator.grid_priors(sizes, maps[0].dtype, maps[0].device)
        for level, values in enumerate(priors):
            self.register_buffer(f'priors_{level}', values, persistent=False)

    def forward(self, maps: Sequence[Tensor], shown: Tensor) -> tuple[Candidates, Tensor]:
        """The candidates, and of each its level: (B, N), int64."""
        found = [
            self._of_level(logits, deltas, level)
            for level, (logits, deltas) in enumerate(zip(*self.head(maps), strict=True))
        ]
        priors, deltas, scores, labels, levels = (
            torch.cat(parts, 1) for parts in zip(*found, strict=True)
        )
        return Candidates(self.decode(priors, deltas, shown), scores, labels), levels

    def _of_level(self, logits: Tensor, deltas: Tensor, level: int) -> tuple[Tensor, ...]:
        """Priors, deltas, scores, labels and level of the best of a level."""
        classes = self.head.cls_out_channels
        logits = logits.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, classes))
        deltas = deltas.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        scores = logits.sigmoid() if self.head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
        classes = scores.shape[-1]
        scores = torch.where(scores > self.rule.score_thr, scores, 0).flatten(1)
        count = min(self.rule.nms_pre or scores.shape[1], scores.shape[1])
        scores, places = scores.topk(count)
        labels = places % classes
        places = places // classes
        priors = getattr(self, f'priors_{level}')[places]
        return priors, take(deltas, places), scores, labels, torch.full_like(labels, level)


class RegionFeatures(nn.Module):
    """Feature maps on boxes, each from the level of its size: mmdet's ``SingleRoIExtractor``.

    All levels lie below each other on one sheet, so that each box costs its own level's samples
    alone, in shapes that are fixed.

    Args:
        extractor: mmdet's.
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.layers, self.finest_scale = list(extractor.roi_layers), extractor.finest_scale

    def forward(self, maps: Sequence[Tensor], regions: Tensor) -> Tensor:
        """Regions (R, 5) to (R, C, h, w); zeros for one without any extent."""
        maps = maps[: len(self.layers)]
        images, boxes = regions.split((1, 4), 1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        level = (area.sqrt() / self.finest_scale + 1e-6).log2().floor()
        level = torch.where(area > 0, level.clamp(0, len(maps) - 1), 0).long()
        sheet, tops = one_sheet(maps)
        scales = boxes.new_tensor([layer.spatial_scale for layer in self.layers])
        shifts = boxes.new_tensor([[1, top, 1, top] for top in tops])
        own = boxes * scales[level][:, None] + shifts[level]
        own = torch.where((area > 0)[:, None], own, boxes.new_tensor(AWAY))
        layer = self.layers[0]
        sampling = layer.output_size, 1.0, layer.sampling_ratio, layer.aligned
        return roi_align(sheet, torch.cat((images, own), 1), *sampling)


def one_sheet(maps: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """Maps ``(B, C, H, W)`` below each other, and the row of each one's first.

    Each has a border of its own values, as samples beside a map are taken from its edge.
    """
    width = maps[0].shape[3]
    framed = [F.pad(part, (1, 1, 1, 1), mode='replicate') for part in maps]
    sheet = torch.cat([F.pad(part, (0, width - part.shape[3] + 2)) for part in framed], 2)
    heights = [part.shape[2] for part in framed]
    return sheet, [1 + sum(heights[:place]) for place in range(len(maps))]


def as_regions(boxes: Tensor) -> Tensor:
    """(B, N, 4) boxes to (B * N, 5): the image's number in front of each."""
    images = torch.arange(boxes.shape[0], device=boxes.device).to(boxes)
    return torch.cat((images[:, None, None].expand(-1, boxes.shape[1], 1), boxes), 2).flatten(0, 1)


class Regions(nn.Module):
    """The second stage: proposals to objects and their masks, as mmdet's ``StandardRoIHead``.

    Args:
        head: mmdet's.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.rule = read_rule(head.test_cfg, 'test_cfg.rcnn')
        self.box_features = RegionFeatures(head.bbox_roi_extractor)
        self.mask_features = RegionFeatures(head.mask_roi_extractor)
        self.box_head, self.mask_head = head.bbox_head, head.mask_head
        self.decode = decoder_of(head.bbox_head)

    def forward(
        self, maps: Sequence[Tensor], proposals: Candidates, shown: Tensor
    ) -> tuple[Tensor, ...]:
        """Boxes, scores, labels, and masks ``(B, K, h, w)``."""
        logits, deltas = self.box_head(self.box_features(maps, as_regions(proposals.boxes)))
        count = proposals.boxes.shape[1]
        scores = logits.softmax(-1)[:, :-1].unflatten(0, (-1, count))  # B N classes
        there = (scores > self.rule.score_thr) & (proposals.scores > 0)[..., None]
        deltas = deltas.unflatten(1, (-1, 4)).unflatten(0, (-1, count))
        boxes = self.decode(proposals.boxes[:, :, None], deltas, shown).expand(*scores.shape, 4)
        labels = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
        candidates = (boxes.flatten(1, 2), torch.where(there, scores, 0).flatten(1))
        found = choose(Candidates(*candidates, labels.flatten(1)), self.rule)
        return *found, self.masks(maps, found)

    def masks(self, maps: Sequence[Tensor], found: Candidates) -> Tensor:
        """Probabilities on the regions of objects: ``(B, K, h, w)``, 0 where there is none."""
        there = (found.scores > 0).flatten()
        # Those without an object cost nothing; but the first always counts: none would be no batch.
        rows = torch.cat((torch.ones_like(there[:1]), there[1:])).nonzero().squeeze(1)
        torch._check(rows.shape[0] > 0)  # tells torch.export so
        regions = as_regions(found.boxes).index_select(0, rows)
        probabilities = self.mask_head(self.mask_features(maps, regions)).sigmoid()
        labels = found.labels.flatten().clamp(min=0).index_select(0, rows)
        own = torch.zeros_like(labels) if self.mask_head.class_agnostic else labels
        own = own[:, None, None, None].expand(-1, 1, *probabilities.shape[2:])
        chosen = probabilities.gather(1, own).squeeze(1)
        masks = chosen.new_zeros(there.shape[0], *chosen.shape[1:]).index_copy(0, rows, chosen)
        return torch.where(there[:, None, None], masks, 0).unflatten(0, found.scores.shape)


class DetectorGraph(nn.Module):
    """A detector of mmdet's, whole, for images of one size.

    It gives what mmdet's ``predict`` gives without rescaling, in shapes that do not depend on what
    is in the images, so that ``torch.export`` can trace it, for any batch; suppression is inside.

    Args:
        detector: A RetinaNet, an RTMDet or a Mask R-CNN of mmdet's, trained; is used, not copied.
        size: Height and width of the images in pixels. What the detector's ``data_preprocessor``
            pads is padded inside.

    Attributes:
        output_names: Of what a call returns.
        one_size: True, for :func:`effvit_mm.runtime.find_shapes`.

    Raises:
        ConfigError: A detector or a head of another kind, or a size that it does not take.
    """

    one_size = True

    def __init__(self, detector: nn.Module, size: Size) -> None:
        super().__init__()
        check_kinds(detector)
        detector.eval()
        self.backbone, self.size = detector.backbone, tuple(size)
        self.neck = detector.neck if detector.with_neck else nn.Identity()
        preprocessor = detector.data_preprocessor
        self.padding = [-side % preprocessor.pad_size_divisor for side in size]
        self.pad_value = preprocessor.pad_value
        two_stages = hasattr(detector, 'roi_head')
        head = detector.rpn_head if two_stages else detector.bbox_head
        rule = read_rule(head.test_cfg, 'test_cfg.rpn' if two_stages else 'test_cfg')
        try:
            with torch.no_grad():
                maps = self.maps(torch.zeros(1, 3, *size))
        except (ValueError, RuntimeError) as error:  # the network, or PyTorch, knows what it takes
            reason = str(error).partition('\n')[0] or type(error).__name__
            raise ConfigError(f'size {size[0]} {size[1]}: {reason}') from error
        self.dense = DenseCandidates(head, rule, maps)
        self.regions = Regions(detector.roi_head) if two_stages else None
        self.rule = self.regions.rule if two_stages else rule
        self.output_names = ('boxes', 'scores', 'labels', 'masks')[: 4 if two_stages else 3]

    def maps(self, images: Tensor) -> Sequence[Tensor]:
        """What backbone and neck give of images, padded as in mmdet."""
        bottom, right = self.padding
        padded = F.pad(images, (0, right, 0, bottom), value=self.pad_value)
        return self.neck(self.backbone(padded))

    def further_inputs(self, batch: int, seed: int) -> dict[str, Tensor]:
        """Examples of what is given beside images, by name: see ``shown`` of :meth:`forward`."""
        shares = torch.rand(batch, 2, generator=torch.Generator().manual_seed(seed))
        return {'shown': ((shares / 2 + 0.5) * torch.tensor(self.size)).ceil()}

    def forward(self, images: Tensor, shown: Tensor | None = None) -> tuple[Tensor, ...]:
        """Objects in images.

        Args:
            images: (B, 3, H, W), normalised.
            shown: (B, 2), float32: height and width in pixels of what each image shows from its top
                left corner on; the rest is filled. Boxes end there, before they suppress each
                other. None where all are whole.

        Returns:
            ``boxes`` (B, K, 4): left, top, right, bottom in pixels of the images; ``scores``
            (B, K), best first, and ``labels`` (B, K), int64: K is ``max_per_img`` of the
            ``test_cfg``, and where there is no object they are 0 and -1. Of a Mask R-CNN also
            ``masks`` (B, K, h, w): probabilities on the boxes' regions, see
            :func:`effvit_mm.runtime.detections.paste_masks`.

        Raises:
            ValueError: Images of another size.
        """
        if images.shape[2:] != self.size:
            given, own = (' x '.join(map(str, size)) for size in (images.shape[2:], self.size))
            raise ValueError(f'images of {given} pixels: this detector was prepared for {own}')
        if shown is None:
            shown = images.new_tensor(self.size).expand(len(images), 2)
        maps = self.maps(images)
        candidates, levels = self.dense(maps, shown)
        if self.regions is None:
            return tuple(choose(candidates, self.rule))
        # All proposals are of one class: those of a level suppress each other.
        proposals = choose(candidates._replace(labels=levels), self.dense.rule)
        return self.regions(maps, proposals, shown)

    def difference(self, actual: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
        """How far the objects of two lists of outputs lie apart."""
        return detection_difference(actual, wanted, self.rule.score_thr)


KINDS = {
    'RetinaNet': {'bbox_head': ('RetinaHead',)},
    'RTMDet': {'bbox_head': ('RTMDetHead', 'RTMDetSepBNHead')},
    'MaskRCNN': {
        'rpn_head': ('RPNHead',),
        'roi_head': ('StandardRoIHead',),
        'roi_head.bbox_roi_extractor': ('SingleRoIExtractor',),
        'roi_head.bbox_head': ('Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'ConvFCBBoxHead'),
        'roi_head.mask_roi_extractor': ('SingleRoIExtractor',),
        'roi_head.mask_head': ('FCNMaskHead',),
    },
}


def check_kinds(detector: nn.Module) -> None:
    """Raise where a detector or one of its heads computes what is not known here."""
    kind = type(detector).__name__
    if kind not in KINDS:
        raise ConfigError(
            f'model.type={kind}: graphs of whole detectors are made of {", ".join(KINDS)}'
        )
    for name, allowed in KINDS[kind].items():
        part = reduce(lambda module, child: getattr(module, child, None), name.split('.'), detector)
        check_part(part, f'model.{name}', allowed, 'roi_head' in KINDS[kind])


def check_part(part: nn.Module | None, name: str, allowed: Sequence[str], two_stages: bool) -> None:
    """Raise where a part of a detector is none of these classes, or set up in another way."""
    if type(part).__name__ not in allowed:
        raise ConfigError(
            f'{name}.type={type(part).__name__}: allowed in a graph are {" and ".join(allowed)}'
        )
    if getattr(part, 'with_shared_head', False):
        raise ConfigError(f'{name}.shared_head: a graph can have none')
    coder = getattr(part, 'bbox_coder', None)
    if two_stages and coder is not None and not coder.clip_border:
        raise ConfigError(
            f'{name}.bbox_coder.clip_border=False: regions of a graph end at the image'
        )
    loss = getattr(part, 'loss_cls', None)
    if getattr(loss, 'custom_cls_channels', False):
        raise ConfigError(f'{name}.loss_cls.type={type(loss).__name__}: no graph knows its scores')
    for layer in getattr(part, 'roi_layers', ()):
        if type(layer).__name__ != 'RoIAlign' or layer.pool_mode != 'avg':
            raise ConfigError(f'{name}.roi_layer: RoIAlign and "avg" are needed, not {layer}')
