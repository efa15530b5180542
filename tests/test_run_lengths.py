"""Run lengths as tools write them: check, loader and evaluator take them alike, or refuse alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from coco_sets import make_coco, write
from mmengine.registry import DATASETS, DefaultScope
from pycocotools import mask as coder

pytest.importorskip('mmdet')
from effvit_mm.openmm.datasets import detection  # noqa: F401 - registered
from effvit_mm.openmm.datasets.coco_check import CocoSource, check_coco
from effvit_mm.openmm.metrics import CocoMetric

CLASSES = ('red', 'white', 'platelet')
PICTURE = np.zeros((36, 48), np.uint8)
PICTURE[8:20, 1:44:3] = 1  # packed, its text has a backslash
TEXT = coder.encode(np.asfortranarray(PICTURE))['counts'].decode()
RUNS = np.diff(np.flatnonzero(np.diff(PICTURE.ravel('F'), prepend=0)), prepend=0).tolist()
RUNS.append(PICTURE.size - sum(RUNS))
FINE, OF_NO_USE, OTHER_SIZE = {}, {'invalid_mask'}, {'mask_size'}
KINDS = {
    'list': ([36, 48], RUNS, FINE),
    'list of floats': ([36.0, 48.0], [float(run) for run in RUNS], FINE),
    'text': ([36, 48], TEXT, FINE),
    'text of bytes': ([36.0, 48.0], str(TEXT.encode()), FINE),
    'list that ends before the image': ([36, 48], RUNS[:-1], OF_NO_USE),
    'list beyond the image': ([36, 48], [*RUNS, 1, 1], OF_NO_USE),
    'text that ends before the image': ([36, 48], TEXT[:-4], OF_NO_USE),
    'no text of run lengths': ([36, 48], "b'" + TEXT, OF_NO_USE),
    'fractions': ([36, 48], [0.5, 1727.5], OF_NO_USE),
    'text of another size': ([48, 36], TEXT, OTHER_SIZE),
    'list of another size': ([36, 50], [*RUNS[:-1], RUNS[-1] + 72], OTHER_SIZE),
}


def load(root: Path) -> list:
    steps = [
        {'type': 'effvit_mm.LoadImage'},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
        {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'ori_shape')},
    ]
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build({
            'type': 'effvit_mm.CocoFolder', 'ann_file': str(root / 'train.json'),
            'data_prefix': {'img': str(root / 'images')}, 'pipeline': steps,
        })  # fmt: skip
    return [dataset[index]['data_samples'] for index in range(len(dataset))]


@pytest.mark.parametrize('kind', KINDS)
def test_the_check_the_loader_and_the_evaluator_agree(tmp_path, kind):
    size, counts, faults = KINDS[kind]
    data = make_coco(tmp_path)
    data['annotations'] = data['annotations'][:1]
    item = data['annotations'][0]
    item.update(segmentation={'size': size, 'counts': counts}, bbox=[0, 0, 48, 36])
    if faults == FINE:
        del item['area']  # pycocotools counts it, too
    file = write(tmp_path, data)
    for training in (True, False):
        source = CocoSource(
            file, tmp_path / 'images', with_masks=True, training=training, judged=('segm',)
        )
        report = check_coco(source)
        found = set(report.by_kind()) - {'no_box', 'no_objects', 'absent_area'}
        if faults == OF_NO_USE:  # then nothing is left in this set
            assert 'invalid_mask' in report.fatal()
        else:
            assert found == set(faults) and set(report.fatal()) == set(faults)
    if faults == OTHER_SIZE:  # where nothing is begun
        return
    (sample,) = (s for s in load(tmp_path) if s.img_id == 0)
    if faults == OF_NO_USE:
        assert len(sample.gt_instances) == 0
        return
    assert np.array_equal(sample.gt_instances.masks.masks[0], PICTURE)
    metric = CocoMetric(str(file), metric=['segm'], proposal_nums=(1, 10, 100))
    metric.dataset_meta = {'classes': CLASSES}
    for image in range(3):
        count = int(image == 0)
        predicted = {
            'bboxes': torch.tensor([[0.0, 0, 48, 36]] * count).reshape(-1, 4),
            'labels': torch.zeros(count, dtype=torch.long), 'scores': torch.ones(count),
            'masks': torch.from_numpy(PICTURE[None].astype(bool))[:count],
        }  # fmt: skip
        sample = {'img_id': image, 'ori_shape': (36, 48), 'pred_instances': predicted}
        metric.process({}, [sample])
    assert metric.evaluate(3)['coco/segm_mAP'] == 1
    assert metric._coco_api.dataset['annotations'][0]['area'] == PICTURE.sum()


def test_the_text_has_what_bytes_are_written_with():
    assert '\\' in TEXT
