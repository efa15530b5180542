"""What makes large sets quick changes nothing of what comes out: sizes, samples, figures."""

from __future__ import annotations

import gc
import io
import json
import os

import numpy as np
import pytest
import torch
from coco_sets import NAMES, make_coco, write
from PIL import Image

pytest.importorskip('mmdet')
import mmdet.datasets
from mmdet.datasets.transforms import InstaBoost, LoadAnnotations, RandomFlip
from mmdet.evaluation import CocoMetric as TheirMetric
from mmengine.registry import init_default_scope
from pycocotools import mask as coder

from benchmarks.measure import scale, scale_reid
from effvit_mm.openmm.data_checks.detection import check_detection_sets
from effvit_mm.openmm.datasets import coco_format
from effvit_mm.openmm.datasets.detection import CocoDataset, needs_masks
from effvit_mm.openmm.metrics import CocoMetric
from effvit_mm.utils import image_size
from effvit_mm.utils.collector import collector_paused

# Sizes of images ------------------------------------------------------------------------------


def jpeg(mode: str = 'RGB', turned: int | None = None, **options) -> bytes:
    exif = Image.Exif()
    if turned:
        exif[image_size.ORIENTATION] = turned
        options['exif'] = exif
    file = io.BytesIO()
    Image.new(mode, (23, 17)).save(file, 'JPEG', **options)
    return file.getvalue()


PLAIN = {
    'baseline': jpeg(),
    'grey': jpeg('L'),
    'CMYK': jpeg('CMYK'),
    'progressive': jpeg(progressive=True, optimize=True),
    'comment': jpeg(comment=b'x' * 500),
}


@pytest.mark.parametrize('name', PLAIN)
def test_sizes_of_plain_jpeg_files_are_pillows(tmp_path, name, monkeypatch):
    (tmp_path / 'a.jpg').write_bytes(PLAIN[name])
    monkeypatch.setattr(Image, 'open', None)  # it is not asked
    assert image_size.image_size(tmp_path / 'a.jpg') == (17, 23)


@pytest.mark.parametrize('content', [jpeg(turned=6), jpeg(comment=b'x' * 9000), jpeg()[:300]])
def test_pillow_is_asked_of_others(tmp_path, content):
    (tmp_path / 'a.jpg').write_bytes(content)
    assert image_size._plain_jpeg_size(tmp_path / 'a.jpg') is None


def test_a_jpeg_file_that_is_cut_anywhere_has_pillows_size_or_none(tmp_path):
    path = tmp_path / 'a.jpg'
    for end in range(len(PLAIN['baseline'])):
        path.write_bytes(PLAIN['baseline'][:end])
        if image_size._plain_jpeg_size(path) is not None:
            with Image.open(path) as image:
                assert image.size == (23, 17)


# Reading once ---------------------------------------------------------------------------------


def loader(root, **more) -> dict:
    pipeline = [{'type': 'effvit_mm.LoadImage'}, {'type': 'LoadAnnotations', 'with_bbox': True}]
    dataset = {
        'type': 'effvit_mm.CocoDataset', 'data_root': str(root), 'ann_file': 'train.json',
        'data_prefix': {'img': 'images'}, 'metainfo': {'classes': NAMES}, 'pipeline': pipeline,
    }  # fmt: skip
    return {'dataset': {**dataset, **more}}


def build(cls, config: dict, **more):
    init_default_scope('mmdet')
    return cls(**{k: v for k, v in {**config['dataset'], **more}.items() if k != 'type'})


@pytest.fixture
def reads(monkeypatch) -> list:
    """Annotation files as they are parsed."""
    seen, parse = [], coco_format.parse_coco
    monkeypatch.setattr(coco_format, 'parse_coco', lambda path: seen.append(path) or parse(path))
    coco_format.drop_kept()
    return seen


def test_a_file_that_was_checked_is_read_once(tmp_path, reads):
    make_coco(tmp_path)
    config = loader(tmp_path)
    init_default_scope('mmdet')
    check_detection_sets(config, 'train_dataloader', {})
    assert len(reads) == 1
    samples = [build(CocoDataset, config)[0] for _ in range(2)]
    assert len(reads) == 2  # the second set reads it itself
    assert torch.equal(samples[0]['gt_bboxes'].tensor, samples[1]['gt_bboxes'].tensor)


def test_a_file_that_changed_after_the_check_is_read_again(tmp_path, reads):
    data = make_coco(tmp_path)
    config = loader(tmp_path)
    init_default_scope('mmdet')
    check_detection_sets(config, 'train_dataloader', {})
    data['annotations'].pop()
    os.utime(write(tmp_path, data), ns=(1, 1))
    dataset = build(CocoDataset, config)
    assert len(reads) == 2 and len(dataset.get_data_info(2)['instances']) == 1


def test_what_nobody_asked_for_is_dropped(tmp_path, reads):
    make_coco(tmp_path)
    init_default_scope('mmdet')
    check_detection_sets(loader(tmp_path), 'train_dataloader', {})
    assert coco_format._kept
    coco_format.drop_kept()
    assert not coco_format._kept


# Samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize('filters', [None, {'filter_empty_gt': True, 'min_size': 32}])
def test_samples_are_mmdets(tmp_path, filters):
    data = make_coco(tmp_path, images=5)
    data['annotations'][0]['iscrowd'] = 1
    data['annotations'][2]['ignore'] = 1
    data['annotations'][3]['bbox'] = [60, 4, 18, 20]  # outside
    data['annotations'] = [a for a in data['annotations'] if a['image_id'] != 4]
    for item in data['annotations']:
        item['segmentation'] = item['segmentation']
    write(tmp_path, data)
    config = loader(tmp_path, filter_cfg=filters)
    for test_mode in (False, True):
        ours = build(CocoDataset, config, test_mode=test_mode)
        theirs = build(mmdet.datasets.CocoDataset, config, test_mode=test_mode)
        assert len(ours) == len(theirs)
        for index in range(len(ours)):
            own, other = ours.get_data_info(index), theirs.get_data_info(index)
            if not test_mode:
                other['instances'] = [
                    {k: v for k, v in item.items() if k != 'mask'} for item in other['instances']
                ]
            assert own == other


@pytest.mark.parametrize(
    ('steps', 'needed'),
    [
        ([], False),
        ([LoadAnnotations(with_bbox=True), RandomFlip(prob=0.5)], False),
        ([LoadAnnotations(with_bbox=True, with_mask=True)], True),
        ([InstaBoost.__new__(InstaBoost)], True),
        ([lambda results: results], True),
        ([[RandomFlip(prob=0.5)], [LoadAnnotations(with_mask=True)]], True),
    ],
)
def test_masks_are_left_out_where_surely_nothing_looks_at_them(steps, needed):
    assert needs_masks(steps) is needed


def test_the_collector_runs_again_afterwards():
    with pytest.raises(ValueError), collector_paused():
        assert not gc.isenabled()
        raise ValueError
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


# Figures --------------------------------------------------------------------------------------


def test_detections_are_those_of_the_files_that_mmdet_writes(tmp_path):
    data = make_coco(tmp_path)
    random, samples = np.random.default_rng(0), []
    for image in data['images']:
        boxes = random.uniform(1, 20, (4, 4)).astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        masks = np.asfortranarray(random.integers(0, 2, (36, 48, 4)), np.uint8)
        found = {
            'bboxes': torch.from_numpy(boxes),
            'scores': torch.rand(4),
            'mask_scores': torch.rand(4),
            'labels': torch.tensor([0, 1, 2, 0]),
            'masks': coder.encode(masks),
        }
        samples.append({'img_id': image['id'], 'ori_shape': (36, 48), 'pred_instances': found})
    metric = CocoMetric(str(tmp_path / 'train.json'), metric=['bbox', 'segm'])
    metric.dataset_meta = {'classes': NAMES}
    metric.process({}, samples)
    predictions = [result for _, result in metric.results]
    metric.cat_ids = metric._coco_api.getCatIds(catNms=NAMES)
    ours = {kind: metric._detections(kind, predictions) for kind in ('bbox', 'segm')}
    files = TheirMetric.results2json(metric, predictions, str(tmp_path / 'found'))
    for kind in ('bbox', 'segm'):
        with open(files[kind]) as file:
            assert ours[kind] == json.load(file)


def test_what_the_benchmark_measures_is_the_same_of_both(tmp_path):
    train = scale.make_set(tmp_path, 20, 60, 'train')
    starts = [scale.measure_start(kind, train, False) for kind in (scale.OURS, scale.THEIRS)]
    assert starts[0].figures == starts[1].figures
    val = scale.make_set(tmp_path, 5, 30, 'val')
    figures = [
        scale.measure_validation(kind, val, 100).figures for kind in (scale.OURS, scale.THEIRS)
    ]
    assert figures[0] == figures[1] and figures[0]['coco/bbox_mAP_50'] > 0.1


@pytest.mark.parametrize('size', [scale_reid.MARKET, scale_reid.MSMT17], ids=lambda s: s.name)
def test_the_benchmarks_reid_folders_are_read(tmp_path, size):
    small = size.scaled(0.01)
    root = scale_reid.make_folder(tmp_path, small)
    figures = scale_reid.measure_reid_start(small, root).figures
    assert figures == {'to train': small.train, 'to test': small.query + small.gallery, 'batch': 64}
