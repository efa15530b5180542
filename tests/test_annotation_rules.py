"""What the check passes is loaded, trained on and evaluated; what would be lost is counted.

Over drawn annotation files, COCO's and VOC's, with what labelling tools write into them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import starmap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import DATASETS, DefaultScope

from effvit_mm.errors import UserError
from effvit_mm.evaluation.coco import read_figures
from effvit_mm.openmm.datasets.coco_check import CocoReport, CocoSource, check_coco
from effvit_mm.openmm.datasets.voc_format import VocSource

pytest.importorskip('mmdet')
from mmdet.evaluation.functional import mean_ap

from effvit_mm.openmm.datasets import detection  # noqa: F401 - registered
from effvit_mm.openmm.metrics import CocoMetric, VOCMetric

SIZES = [(40, 30), (30, 40), (64, 20), (24, 24)]  # width, height
# Of which each finding is one annotation that is not learned.
LOST_BOXES = (
    'unknown_image', 'crowd', 'ignored', 'inverted_box', 'empty_box', 'no_area', 'outside_box',
    'small_box', 'invalid_mask',
)  # fmt: skip


class OneByOne:
    """A pool that does its work itself."""

    def __init__(self, _: int) -> None:
        pass

    def starmap(self, function: Callable, arguments: Iterable) -> list:
        return list(starmap(function, arguments))

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True, scope='module')
def no_processes_of_their_own():
    """mmdet's VOC figures fork four processes at each IoU, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mean_ap, 'Pool', OneByOne)
        yield


@pytest.fixture(scope='module')
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('drawn')
    (folder / 'JPEGImages').mkdir()
    (folder / 'Annotations').mkdir()
    for number, (width, height) in enumerate(SIZES):
        ending = ('jpg', 'png', 'JPG', 'webp')[number]
        picture = np.full((height, width, 3), 50 * number, np.uint8)
        cv2.imwrite(str(folder / 'JPEGImages' / f'{number}.{ending}'), picture)
    return folder


def mostly(sound, *odd):
    """Most are sound: else hardly a file would pass."""
    return st.integers(0, 24).flatmap(lambda n: st.sampled_from(odd) if n == 7 else sound)


def lengths(limit: int):
    return mostly(st.integers(2, limit // 2), 0, -5, 0.25, 3 * limit)


@st.composite
def boxes(draw, size):
    left, top = (draw(mostly(st.integers(0, side // 2), -4, side + 3)) for side in size)
    return [left, top, draw(lengths(size[0])), draw(lengths(size[1]))]


@st.composite
def masks(draw, box, size):
    x, y, w, h = box
    points = [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]
    flat = [number for point in points for number in point]
    pixels = size[0] * size[1]
    rle = {'size': [size[1], size[0]], 'counts': [5, 3, pixels - 8]}
    encoded = {**rle, 'counts': '5' if pixels == 5 else encode(size)}
    sound = [[flat], flat, [points], points, [flat, [1, 2]], rle, encoded]
    odd = [None, [], [[1, 2]], [[1, 2, 3, 4, 5]], 'none', {**rle, 'counts': [1]},
           {**rle, 'counts': '~~'}, [[*flat[:-1], None]]]  # fmt: skip
    return draw(mostly(st.sampled_from(sound), *odd))


def encode(size) -> str:
    from pycocotools import mask as coder

    picture = np.zeros((size[1], size[0]), np.uint8, order='F')
    picture[2:9, 3:11] = 1
    return coder.encode(picture)['counts'].decode()


@st.composite
def coco_files(draw) -> dict:
    names = draw(st.permutations(['cat', 7, 'Äpfel', '犬']))[: draw(st.integers(1, 4))]
    as_text = draw(st.booleans())
    ids = [f'c{n}' if as_text else n for n in draw(st.permutations(range(5)))]
    categories = [{'id': i, 'name': n} for i, n in zip(ids, names, strict=False)]
    data = {
        'categories': categories,
        'images': [
            {'id': n, 'file_name': name, 'width': size[0], 'height': size[1]}
            for n, (size, name) in enumerate(zip(SIZES, FILES, strict=True))
        ],
        'annotations': [],
    }
    flags = mostly(st.sampled_from([0, None, '0', False, 0.0]), 1, '1', True, 'yes')
    for number in range(draw(st.integers(0, 7))):
        image = draw(mostly(st.integers(0, 3), 9))
        size = SIZES[image % 4]
        box = draw(boxes(size))
        item = {
            'id': number, 'image_id': image, 'bbox': box, 'area': box[2] * box[3],
            'category_id': draw(mostly(st.sampled_from([c['id'] for c in categories]), 'x')),
            'segmentation': draw(masks(box, size)),
        }  # fmt: skip
        if draw(st.booleans()):
            item['iscrowd'] = draw(flags)
        if draw(st.integers(0, 5)) == 0:
            item['ignore'] = draw(flags)
        data['annotations'].append(item)
    if draw(st.booleans()):  # a copy that nothing uses
        categories.insert(0, {'id': ids[4], 'name': names[0]})
    return data


FILES = ['JPEGImages/0.jpg', 'JPEGImages/1.png', 'JPEGImages/2.JPG', 'JPEGImages/3.webp']


def write(path: Path, data: dict, encoding: str) -> Path:
    path.write_text(json.dumps(data, ensure_ascii=encoding == 'ascii'), encoding=encoding)
    return path


ENCODINGS = st.sampled_from(['ascii', 'utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le'])


def pipeline(with_mask: bool = False) -> list[dict]:
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    return [
        {'type': 'effvit_mm.LoadImage'},
        {'type': 'Resize', 'scale': (48, 32), 'keep_ratio': True},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': with_mask},
        {'type': 'PackDetInputs', 'meta_keys': keys},
    ]


def build(kind: str, **options):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build({'type': f'effvit_mm.{kind}', **options})


def samples_of(dataset) -> list:
    return [dataset[index]['data_samples'] for index in range(len(dataset))]


def assert_nothing_is_lost_untold(report: CocoReport, samples: list) -> None:
    """Boxes by class are as many as were said; all others were told, each once."""
    found = Counter()
    for sample in samples:
        assert torch.isfinite(sample.gt_instances.bboxes.tensor).all()
        found.update(report.classes[label] for label in sample.gt_instances.labels.tolist())
    assert found == +report.boxes
    lost = report.lost()
    told = sum(len(lost.get(kind, ())) for kind in LOST_BOXES)
    assert report.num_annotations == found.total() + told
    never = {finding.detail for finding in lost.get('no_box', ())}
    assert never == set(report.classes) - set(found)


@given(data=coco_files(), encoding=ENCODINGS, with_masks=st.booleans(), polygons=st.booleans())
def test_what_passes_is_trained_on(images, data, encoding, with_masks, polygons):
    file = write(images / 'train.json', data, encoding)
    source = CocoSource(file, images, with_masks=with_masks, polygons_only=polygons)
    report = check_coco(source)
    if report.fatal():
        return
    steps = pipeline(with_masks)
    steps[2]['poly2mask'] = not polygons
    dataset = build(
        'CocoFolder', ann_file=str(file), data_prefix={'img': str(images)}, pipeline=steps,
        filter_cfg={'filter_empty_gt': True},
    )  # fmt: skip
    assert dataset.metainfo['classes'] == report.classes
    assert_nothing_is_lost_untold(report, samples_of(dataset))


def perfect(data: dict, samples: list, classes) -> list[dict]:
    """Each object that was found, under the label of its category's name."""
    names = {c['id']: str(c['name']) for c in data['categories']}
    predictions = []
    for sample in samples:
        own = [a for a in data['annotations'] if a['image_id'] == sample.img_id]
        own = [a for a in own if str(a.get('iscrowd')) not in ('1', 'True')]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in own)]
        labels = [classes.index(names[a['category_id']]) for a in own]
        masks = np.zeros((len(own), *sample.ori_shape), bool)
        masks[:, 1:5, 1:5] = True
        predictions.append({
            'img_id': sample.img_id, 'ori_shape': sample.ori_shape,
            'pred_instances': {
                'bboxes': torch.tensor(corners, dtype=torch.float64).reshape(-1, 4),
                'labels': torch.tensor(labels, dtype=torch.long),
                'scores': torch.ones(len(own)), 'masks': torch.from_numpy(masks),
            },
        })  # fmt: skip
    return predictions


@given(data=coco_files(), encoding=ENCODINGS, kinds=st.sampled_from([['bbox'], ['bbox', 'segm']]))
def test_what_passes_is_evaluated(images, data, encoding, kinds):
    file = write(images / 'val.json', data, encoding)
    masks = 'segm' in kinds
    classes = tuple(sorted({str(c['name']) for c in data['categories']} | {'absent'}))
    source = CocoSource(
        file, images, classes, with_masks=masks, training=False, judged=tuple(kinds)
    )
    report = check_coco(source)
    if report.fatal():
        return
    dataset = build(
        'CocoDataset', ann_file=str(file), data_prefix={'img': str(images)}, test_mode=True,
        pipeline=pipeline(masks), metainfo={'classes': classes},
    )  # fmt: skip
    predictions = perfect(data, samples_of(dataset), classes)
    metric = CocoMetric(str(file), metric=kinds, proposal_nums=(1, 10, 100))
    metric.dataset_meta = dataset.metainfo
    metric.process({}, predictions)
    metric.evaluate(len(predictions))
    rows = read_figures(metric.evaluations['bbox']).classes
    to_find = report.boxes.copy()
    if not report.lost().keys() - {'no_box', 'crowd', 'no_usable_objects'}:
        assert {row.name: row.count for row in rows} == {n: to_find[n] for n in classes}
        figures = [row.ap for row in rows if row.count]
        assert figures == pytest.approx([1.0] * len(figures), abs=1e-6)


# VOC ----------------------------------------------------------------------------------------------


@st.composite
def voc_files(draw) -> dict[str, str]:
    """XML texts by image, and the list as a text."""
    files, names = {}, ('cat', 'dog')
    for number, size in enumerate(SIZES):
        stated = draw(mostly(st.just(tuple(size)), (0, 0), None, (size[0] + 9, size[1])))
        text = '' if stated is None else '<size><width>{}</width><height>{}</height></size>'
        parts = [text.format(*stated or ())]
        for _ in range(draw(st.integers(0, 3))):
            x, y, w, h = draw(boxes(size))
            sides = {'xmin': x + 1, 'ymin': y + 1, 'xmax': x + w + 1, 'ymax': y + h + 1}
            if draw(st.integers(0, 30)) == 0:
                sides.pop('xmax')
            box = ''.join(f'<{key}>{value}</{key}>' for key, value in sides.items())
            hard = draw(mostly(st.sampled_from(['', '0', None]), '1', 'true', 'maybe'))
            hard = '' if hard is None else f'<difficult>{hard}</difficult>'
            name = draw(mostly(st.sampled_from(names), 'bird', ''))
            parts.append(f'<object><name>{name}</name>{hard}<bndbox>{box}</bndbox></object>')
        files[str(number)] = f'<annotation>{"".join(parts)}</annotation>'
    line = draw(st.sampled_from(['{}', '{}.jpg', '{}  1', '{} -1', ' {} \r', '{}.xml\n']))
    files['list'] = '\n'.join(line.format(number) for number in range(len(SIZES))) + '\n\n'
    return files


def distinct(samples: list) -> bool:
    boxes = [tuple(box) for s in samples for box in s.gt_instances.bboxes.tensor.tolist()]
    return len(set(boxes)) == len(boxes)


@given(files=voc_files(), encoding=ENCODINGS, least=st.sampled_from([None, 6]), test=st.booleans())
def test_what_passes_of_voc_is_trained_on_and_evaluated(images, files, encoding, least, test):
    least = None if test else least
    for name, text in files.items():
        if name != 'list':
            (images / 'Annotations' / f'{name}.xml').write_text(text)
    path = images / 'list.txt'
    path.write_text(files['list'], encoding=encoding)
    classes = ('dog', 'cat')
    source = VocSource(path, images, classes, training=not test, bbox_min_size=least or 0)
    report = check_coco(source)
    if report.fatal():
        return
    dataset = build(
        'VOCDataset', ann_file=str(path), data_prefix={'sub_data_root': str(images)},
        metainfo={'classes': classes}, pipeline=pipeline(), test_mode=test,
        filter_cfg={'bbox_min_size': least},
    )  # fmt: skip
    assert len(dataset) == len(SIZES)
    samples = samples_of(dataset)
    assert_nothing_is_lost_untold(report, samples)
    if test:
        metric = VOCMetric()
        metric.dataset_meta = dataset.metainfo
        for sample in samples:
            truth = sample.gt_instances
            found = {
                'bboxes': truth.bboxes.tensor, 'labels': truth.labels,
                'scores': torch.ones(len(truth)),
            }  # fmt: skip
            metric.process({}, [{**sample.to_dict(), 'pred_instances': found}])
        figures = metric.evaluate(len(samples))
        if not distinct(samples):  # VOC gives equal objects to one prediction
            return
        assert figures['pascal_voc/mAP'] == pytest.approx(1.0 if report.boxes else 0.0, abs=1e-6)


def test_enough_of_what_is_drawn_passes(images):
    """Else the properties above would say little."""
    outcome = Counter()

    @settings(max_examples=60)
    @given(data=coco_files())
    def count(data):
        file = write(images / 'count.json', data, 'utf-8')
        try:
            report = check_coco(CocoSource(file, images))
        except UserError:
            outcome['refused'] += 1
        else:
            outcome['fatal' if report.fatal() else 'lossy' if report.lost() else 'clean'] += 1

    count()
    assert outcome['fatal'] > 5 and outcome['lossy'] + outcome['clean'] > 20, outcome
