"""mmdet's detection metrics that keep what they computed, and print nothing themselves.

They give the figures that mmdet's give, under the same names. mmdet's keep of an evaluation a few
means rounded to three digits; tables by class and size need the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmengine.fileio import get_local_path

from ..errors import ConfigError
from ..evaluation.coco import MAX_DETECTIONS, read_figures
from ..evaluation.voc import VocFigures
from ..utils.collector import collector_paused
from ..utils.silence import silent_imports
from .datasets.coco_api import CocoFile, complete_truth, load_detections, read_faster
from .registry import METRICS

with silent_imports():
    import mmdet.evaluation as mmdet
    from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP
    from mmdet.evaluation.functional import eval_map

KINDS, PROPOSALS = ('bbox', 'segm'), 'proposal'
# Places in ``COCOeval.stats``, under mmdet's names.
STATS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000',
         'AR_s@1000', 'AR_m@1000', 'AR_l@1000')  # fmt: skip


def _text(counts: str | bytes) -> str:
    """Compressed run lengths as JSON has them."""
    return counts.decode() if isinstance(counts, bytes) else counts


@METRICS.register_module()
class CocoMetric(mmdet.CocoMetric):
    """COCO's figures of boxes and masks by pycocotools, the arguments being those of mmdet's.

    Attributes:
        evaluations: After an evaluation, ``{'bbox': COCOeval, 'segm': COCOeval}`` of the kinds that
            were asked for, accumulated.
    """

    def __init__(self, ann_file: str | None = None, *args, **kwargs) -> None:
        self.evaluations: dict[str, Any] = {}
        if kwargs.get('format_only') and not kwargs.get('outfile_prefix'):
            raise ConfigError(
                "format_only=True: outfile_prefix is needed, as 'work_dirs/found' for files "
                'work_dirs/found.*.json'
            )
        super().__init__(None, *args, **kwargs)
        if unknown := set(self.metric_items or ()) - set(STATS):
            raise KeyError(f'metric_items={sorted(unknown)}: allowed are {", ".join(STATS)}')
        limits = self.proposal_nums
        if set(KINDS) & set(self.metrics) and (len(limits) != 3 or MAX_DETECTIONS not in limits):
            raise ConfigError(
                f'proposal_nums={tuple(limits)}: three numbers are needed, with '
                f'{MAX_DETECTIONS} among them, as COCO counts so many detections an image and '
                'class; (1, 10, 100) are its own'
            )
        if ann_file is not None:
            with get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._coco_api = self.read_truth(path)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures, ``{'bbox_mAP': 0.3, ...}``, of what :meth:`process` collected."""
        with collector_paused():
            return self._compute(results)

    def _compute(self, results: list) -> dict[str, float]:
        self.evaluations, figures, kinds = {}, {}, self.metrics
        others = [kind for kind in kinds if kind not in (*KINDS, PROPOSALS)]
        with redirect_stdout(StringIO()):
            if self.format_only or others:
                self.metrics = others or kinds
                try:
                    figures = dict(super().compute_metrics(results))
                finally:
                    self.metrics = kinds
            if not self.format_only:
                figures = {**self._evaluate(results), **figures}
        return figures

    def _evaluate(self, results: list) -> dict[str, float]:
        truths, predictions = zip(*results, strict=True)
        figures: dict[str, float] = {}
        with TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or str(Path(folder) / 'results')
            if self._coco_api is None:
                self._coco_api = self.read_truth(self.gt_to_coco_json(truths, prefix))
            if self.cat_ids is None:
                self.cat_ids = self._coco_api.getCatIds(catNms=self.dataset_meta['classes'])
            if self.img_ids is None:
                self.img_ids = self._coco_api.getImgIds()
            complete_truth(self._coco_api, truths, self.img_ids)
            if self.outfile_prefix:
                self.results2json(predictions, prefix)
            for kind in (kind for kind in self.metrics if kind in (*KINDS, PROPOSALS)):
                if kind == 'segm' and 'masks' not in predictions[0]:
                    raise KeyError(f'{kind} is not in results')
                evaluation = self._run(kind, self._detections(kind, predictions))
                figures |= self._figures(kind, evaluation)
                if kind in KINDS:  # proposals are not shown in tables
                    self.evaluations[kind] = evaluation
        return figures

    def _detections(self, kind: str, predictions: Sequence[Mapping]) -> list[dict]:
        """COCO results, as they would come from the files that mmdet's writes and reads again."""
        found = []
        for result in predictions:
            boxes = np.asarray(result['bboxes'], np.float64).reshape(-1, 4)
            boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
            scores = result['scores']
            if kind == 'segm':
                scores = result.get('mask_scores', scores)
            scores = np.asarray(scores, np.float64).tolist()
            number = result['img_id']
            for box, score, label in zip(boxes, scores, result['labels'].tolist(), strict=True):
                category = self.cat_ids[label]
                found.append(
                    {'image_id': number, 'bbox': box, 'score': score, 'category_id': category}
                )
            if kind == 'segm':
                masks = result['masks']
                for item, mask in zip(found[len(found) - len(masks) :], masks, strict=True):
                    item['segmentation'] = {**mask, 'counts': _text(mask['counts'])}
        return found

    def _run(self, kind: str, predictions: list[dict]) -> Any:
        if kind == 'segm':  # with a box, its area would count as the mask's
            predictions = [{k: v for k, v in p.items() if k != 'bbox'} for p in predictions]
        found = load_detections(self._coco_api, predictions)
        shape = 'bbox' if kind == PROPOSALS else kind
        evaluation = self.evaluator(kind)(self._coco_api, found, shape)
        evaluation.params.useCats = int(kind != PROPOSALS)
        evaluation.params.catIds, evaluation.params.imgIds = self.cat_ids, self.img_ids
        evaluation.params.maxDets = list(self.proposal_nums)
        evaluation.params.iouThrs = np.atleast_1d(self.iou_thrs)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation

    def _figures(self, kind: str, evaluation: Any) -> dict[str, float]:
        figures = {}
        if kind == PROPOSALS:
            names, prefix = self.metric_items or STATS[6:], ''
        else:
            names, prefix = self.metric_items or STATS[:6], f'{kind}_'
        if self.classwise and kind != PROPOSALS:
            for row in read_figures(evaluation).classes:
                figures[f'{row.name}_precision'] = round(row.ap, 3)
        for name in names:
            figures[f'{prefix}{name}'] = round(float(evaluation.stats[STATS.index(name)]), 3)
        return figures

    def read_truth(self, path: str) -> Any:
        """An annotation file as the evaluator wants it."""
        return CocoFile(path)

    def evaluator(self, kind: str) -> type:
        """The class that evaluates."""
        return COCOevalMP if self.use_mp_eval else COCOeval


@METRICS.register_module()
class FasterCocoMetric(CocoMetric, mmdet.FasterCocoMetric):
    """COCO's figures by faster-coco-eval, the arguments being those of mmdet's.

    Attributes:
        evaluations: After an evaluation, ``{'bbox': COCOeval_faster, ...}``, accumulated.
    """

    def read_truth(self, path: str) -> Any:
        """An annotation file as the evaluator wants it."""
        return read_faster(path)

    def evaluator(self, kind: str) -> type:
        """The class that evaluates."""
        import faster_coco_eval

        return faster_coco_eval.COCOeval_faster


@METRICS.register_module()
class VOCMetric(mmdet.VOCMetric):
    """VOC's average precision, the arguments being those of mmdet's.

    Attributes:
        evaluations: After an evaluation of ``'mAP'`` without ranges of sizes, one
            :class:`VocFigures` for each IoU.
    """

    evaluations: Sequence[VocFigures] = ()

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The figures, ``{'mAP': 0.5, 'AP50': 0.5}``, of what :meth:`process` collected."""
        if self.metric != 'mAP' or self.scale_ranges is not None:
            return super().compute_metrics(results)
        truths, predictions = zip(*results, strict=True)
        old = self.dataset_meta.get('dataset_type') in ('VOC2007', 'VOC2012')
        self.evaluations = []
        for iou in self.iou_thrs:
            mean, classes = eval_map(
                predictions,
                truths,
                iou_thr=iou,
                dataset='voc' if old else self.dataset_meta['classes'],
                logger='silent',
                eval_mode=self.eval_mode,
                use_legacy_coordinate=True,  # as VOC's own program counts pixels
            )
            rows = tuple(map(_voc_row, classes))
            self.evaluations.append(VocFigures(float(iou), float(mean), rows))
        by_iou = {f'AP{int(e.iou * 100):02d}': round(e.mean, 3) for e in self.evaluations}
        return {'mAP': float(np.mean([e.mean for e in self.evaluations])), **by_iou}


def _voc_row(figures: Mapping) -> tuple[float, float, int]:
    """Average precision of a class, its recall with all predictions, and its objects."""
    recall = np.asarray(figures['recall']).reshape(-1)
    return float(figures['ap']), float(recall[-1]) if recall.size else 0.0, int(figures['num_gts'])
