"""Sizes of images and areas that annotations leave out: as if they were written in, and told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from coco_sets import make_coco, make_config, write
from mmengine.registry import DATASETS, DefaultScope
from programs import load_tool
from pycocotools import mask as coder
from remedies import tries
from trainer import forget_runs

pytest.importorskip('mmdet')
from effvit_mm.errors import DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.data_checks.tested_set import find_tested_set
from effvit_mm.openmm.datasets import detection  # noqa: F401 - registered
from effvit_mm.openmm.datasets.coco_check import CocoSource, check_coco
from effvit_mm.openmm.datasets.coco_format import read_coco
from effvit_mm.openmm.metrics import CocoMetric, FasterCocoMetric

TRIANGLE = [[2, 4, 20, 4, 20, 24]]
# Runs down the columns: the first two of 36 pixels each, and the rest.
RUNS = {'size': [36, 48], 'counts': [0, 72, 36 * 46]}


def whole(root: Path, masks: bool) -> dict:
    """A set of some kinds of masks, or of none, with all that belongs to it."""
    data = make_coco(root)
    data['annotations'][4]['iscrowd'] = 1
    if not masks:
        for item in data['annotations']:
            item['segmentation'] = []
        return data
    triangle = coder.merge(coder.frPyObjects(TRIANGLE, 36, 48))
    packed = {**triangle, 'counts': triangle['counts'].decode()}
    kinds = [TRIANGLE, RUNS, packed, [*TRIANGLE, *TRIANGLE]]
    areas = [*[int(coder.area(triangle))] * 4]
    areas[1] = 72
    for item, mask, area in zip(data['annotations'], kinds, areas, strict=False):
        item.update(segmentation=mask, area=area)
    for item in data['annotations'][4:]:
        item['area'] = int(coder.area(coder.merge(coder.frPyObjects(item['segmentation'], 36, 48))))
    return data


def without(data: dict, blank: object) -> dict:
    """The same without areas and sizes: ``blank`` in their places, or nothing."""
    data = json.loads(json.dumps(data))
    for record in (*data['annotations'], *data['images']):
        for key in {'area', 'width', 'height'} & record.keys():
            if blank == 'absent':
                del record[key]
            else:
                record[key] = None if key == 'area' else blank
    return data


@pytest.fixture(params=[False, True], ids=['boxes', 'masks'])
def pair(tmp_path, request) -> tuple[Path, Path, bool]:
    """A whole annotation file, and one with gaps."""
    data = whole(tmp_path, request.param)
    return write(tmp_path, data), write(tmp_path, without(data, 'absent'), 'gaps'), request.param


@pytest.mark.parametrize('blank', ['absent', None, 0])
@pytest.mark.parametrize('masks', [False, True])
def test_what_is_found_is_what_would_be_written_in(tmp_path, blank, masks):
    data = whole(tmp_path, masks)
    other = write(tmp_path, without(data, blank), 'gaps')
    folder = tmp_path / 'images'
    assert read_coco(other, folder) == read_coco(write(tmp_path, data), folder)


def test_training_on_it_is_the_same(pair, tmp_path):
    plain, gaps, masks = pair

    def load(file: Path) -> list[dict]:
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = DATASETS.build({
                'type': 'effvit_mm.CocoFolder', 'ann_file': str(file),
                'data_prefix': {'img': str(tmp_path / 'images')}, 'pipeline': [],
            })  # fmt: skip
        return [dataset.get_data_info(index) for index in range(len(dataset))]

    assert load(gaps) == load(plain)
    report, other = (
        check_coco(CocoSource(file, tmp_path / 'images', with_masks=masks)) for file in pair[:2]
    )
    assert {kind: len(found) for kind, found in other.told().items()} == {
        **{kind: len(found) for kind, found in report.told().items()},
        'absent_area': 6,
        'absent_size': 3,
    }
    assert not other.fatal() and other.lost().keys() == report.lost().keys()


@pytest.mark.parametrize('kind', [CocoMetric, FasterCocoMetric])
def test_the_figures_are_the_same(pair, kind):
    plain, gaps, masks = pair

    def figures(file: Path) -> dict:
        metric = kind(str(file), metric=['bbox', 'segm'] if masks else ['bbox'])
        metric.proposal_nums = (1, 10, 100)
        metric.dataset_meta = {'classes': ('red', 'white', 'platelet')}
        generator = torch.Generator().manual_seed(0)
        for image in range(3):
            boxes = torch.tensor([[2.0, 4, 20, 24], [22, 4, 40, 24]])
            masked = torch.zeros(2, 36, 48, dtype=torch.bool)
            masked[0, 4:20, 2:20] = masked[1, 4:24, 22:40] = True
            found = {
                'bboxes': boxes + torch.rand(2, 4, generator=generator),
                'labels': torch.tensor([0, 1]) + image % 2,
                'scores': torch.rand(2, generator=generator), 'masks': masked,
            }  # fmt: skip
            metric.process({}, [{'img_id': image, 'ori_shape': (36, 48), 'pred_instances': found}])
        return metric.evaluate(3)

    assert figures(gaps) == figures(plain)
    assert figures(plain)['coco/bbox_mAP'] > 0.1


@tries('was not predicted; write them into the file')
def test_an_image_that_is_judged_without_having_been_predicted(pair):
    _, gaps, masks = pair
    metric = CocoMetric(str(gaps))
    metric.dataset_meta = {'classes': ('red', 'white', 'platelet')}
    found = {'bboxes': torch.zeros(0, 4), 'labels': torch.zeros(0), 'scores': torch.zeros(0)}
    metric.process({}, [{'img_id': 0, 'ori_shape': (36, 48), 'pred_instances': found}])
    if not masks:  # boxes need no image
        metric.evaluate(1)
        return
    written = CocoMetric(str(pair[0]))
    written.dataset_meta = metric.dataset_meta
    written.process({}, [{'img_id': 0, 'ori_shape': (36, 48), 'pred_instances': found}])
    written.evaluate(1)
    with pytest.raises(DataError, match=r'gaps\.json: annotation 4 has no area, and its image 1'):
        metric.evaluate(1)


def test_a_run_tells_both_once_for_each_set_and_ends_well(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = make_config(tmp_path)
    folder = tmp_path / 'data'
    for split in ('train', 'val'):
        data = json.loads((folder / f'{split}.json').read_text())
        write(folder, without(data, 'absent'), split)
    forget_runs()
    few = ('--cfg-options', 'model.test_cfg.max_per_img=5')
    assert cli.train([str(config), '--work-dir', 'w', *few]) == 0
    said = ' '.join(capfd.readouterr().out.split())
    told = (
        r"5 images whose width or height is not said \(0\.png, 48x36\) have their files' size; 10 "
        r"annotations without area \(0\.png, annotation 1: 360\) have their mask's, or without"
    )
    assert len(re.findall(told, said)) == 2, said
    check = load_tool('analysis_tools/check_dataset').main
    assert check([str(config)]) == 0
    assert capfd.readouterr().out.count("have their files' size") == 4  # both effects of two sets
    assert check([str(folder / 'train.json')]) == 1
    assert 'without a folder of images it cannot be seen' in capfd.readouterr().out
    assert check([str(folder / 'train.json'), '--images', str(folder / 'images')]) == 0
    tested = find_tested_set(load_config(str(config), []))
    assert tested.data['annotations'][0]['area'] == 360


def test_an_image_whose_size_cannot_be_found(tmp_path):
    data = without(make_coco(tmp_path), 'absent')
    (tmp_path / 'images' / '1.png').write_bytes(b'no image')
    (tmp_path / 'images' / '2.png').unlink()
    file = write(tmp_path, data)
    report = check_coco(CocoSource(file, tmp_path / 'images'))
    kinds = {kind: [f.file for f in found] for kind, found in report.fatal().items()}
    assert kinds == {'missing_image': ['2.png'], 'unreadable_image': ['1.png']}
    assert 'unknown_image' not in report.by_kind()
    with pytest.raises(DataError, match=r'train\.json: 1\.png, .*not an image'):
        read_coco(file, tmp_path / 'images')
