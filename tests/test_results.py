"""Typed results of the three inferencers, in other forms, and of exported files."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import FrozenInstanceError, dataclass, field

import cv2
import numpy as np
import pytest
from inferencers import TASKS, make_models, photographs
from remedies import tries

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import ConfigError
from effvit_mm.inference.export import load_network
from effvit_mm.inference.results import Detection, Matches


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp('models'))


@pytest.mark.parametrize('task', TASKS)
def test_results_are_frozen_and_plain_values(task, models):
    _, inferencer, options = TASKS[task]
    (found,) = inferencer(*models[task], device='cpu')(photographs(1), **options)
    assert json.loads(found.to_json()) == json.loads(json.dumps(found.to_dict()))
    assert {'image', 'frame'} <= found.to_dict().keys()
    assert all(len(row) == len(found.COLUMNS) for row in found.rows())
    with pytest.raises(FrozenInstanceError):
        found.image = 'a'
    assert found['image'] is None  # as the dicts of earlier versions


def test_the_detector_has_its_old_name():
    assert effvit_mm.DetInferencer is effvit_mm.Detector


# Detections in other forms ------------------------------------------------------------------------


def detection(masks=True):
    shown = np.zeros((2, 20, 30), bool)
    shown[0, 2:8, 1:11] = shown[1, 10:20, 20:30] = True
    boxes = np.float32([[1, 2, 11, 8], [20, 10, 30, 20]])
    scores, labels = np.float32([0.75, 0.5]), np.array([2, 0])
    names = ['cat', 'ant']
    return Detection(
        'a.jpg', None, (20, 30), boxes, scores, labels, names, shown if masks else None
    )


def test_detections_as_coco_results(tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.mask import decode

    found = detection()
    rows = found.to_coco(5, {'ant': 7, 'cat': 9})
    assert rows == found.to_coco(5, [7, 8, 9])
    assert [row['category_id'] for row in rows] == [9, 7]
    assert rows[0]['bbox'] == [1, 2, 10, 6] and rows[0]['score'] == 0.75
    for row, mask in zip(rows, found.masks, strict=True):
        assert np.array_equal(decode(row['segmentation']).astype(bool), mask)
    truth = COCO()
    truth.dataset = {
        'images': [{'id': 5, 'width': 30, 'height': 20}],
        'categories': [{'id': 7, 'name': 'ant'}, {'id': 9, 'name': 'cat'}],
        'annotations': [],
    }
    truth.createIndex()
    (tmp_path / 'rows.json').write_text(json.dumps(rows))
    assert len(truth.loadRes(str(tmp_path / 'rows.json')).anns) == 2
    assert 'segmentation' not in detection(masks=False).to_coco(5, [7, 8, 9])[0]
    with pytest.raises(ConfigError, match=r"category_ids: 1 .*none for class 2 \('cat'\)"):
        found.to_coco(5, [7])


@dataclass
class Detections:
    """Has the arguments of supervision's class, for where that is not installed."""

    xyxy: np.ndarray
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    data: dict = field(default_factory=dict)


@pytest.mark.parametrize('masks', [True, False])
def test_detections_for_supervision(masks, monkeypatch):
    try:
        import supervision  # noqa: F401
    except ModuleNotFoundError:
        stand_in = types.ModuleType('supervision')
        stand_in.Detections = Detections
        monkeypatch.setitem(sys.modules, 'supervision', stand_in)
    found = detection(masks)
    given = found.to_supervision()
    assert np.array_equal(given.xyxy, found.boxes) and given.class_id.tolist() == [2, 0]
    assert given.confidence.tolist() == [0.75, 0.5]
    assert list(given.data['class_name']) == ['cat', 'ant']
    assert np.array_equal(given.mask, found.masks) if masks else given.mask is None


@tries('needs the package supervision: `pip install supervision`')
def test_supervision_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ConfigError, match=r'needs .*: `pip install supervision`$'):
        detection().to_supervision()
    installed = types.ModuleType('supervision')
    installed.Detections = Detections
    monkeypatch.setitem(sys.modules, 'supervision', installed)
    assert len(detection().to_supervision().xyxy) == 2


def test_rows_of_an_image_without_objects_and_without_matches():
    nothing = detection()
    empty = Detection('b.jpg', 3, (2, 2), *(np.empty((0, 4)), np.empty(0), np.empty(0, int)), [])
    assert [len(row) for row in nothing.rows()] == [len(Detection.COLUMNS)] * 2
    assert empty.rows() == [['b.jpg', 3, *[None] * 8]]
    assert Matches('b.jpg', None, [], np.empty(0)).rows() == [['b.jpg', None, None, None, None]]


# Files alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize(('suffix', 'flip'), [('.onnx', True), ('.xml', False)])
def test_features_of_an_exported_file_alone(suffix, flip, models, tmp_path):
    """They are those of the model, and may be compared with them."""
    names, arrays = models['re-identification'], photographs(5)
    network = load_network(*names, preprocess=True).network
    path = tmp_path / f'people{suffix}'
    {'.onnx': runtime.export_onnx, '.xml': runtime.export_openvino}[suffix](network, path, (64, 32))
    extractor = effvit_mm.ReIDExtractor(*names, flip=flip, device='cpu')
    wanted, found = extractor(arrays), effvit_mm.ReIDExtractor(path, flip=flip)(arrays)
    np.testing.assert_allclose(found.features, wanted.features, atol=1e-4)
    found.check_same_space(wanted)
    with pytest.raises(ConfigError, match=r'checkpoint=.*is a file and takes none'):
        effvit_mm.ReIDExtractor(path, names[1])
    with pytest.raises(ConfigError, match=r'no classifier that takes photographs'):
        effvit_mm.Classifier(path)


def test_features_are_an_array_and_results(models, tmp_path):
    for number, array in enumerate(photographs(5)):
        cv2.imwrite(str(tmp_path / f'{number}.png'), array)
    extractor = effvit_mm.ReIDExtractor(*models['re-identification'], device='cpu')
    features = extractor(tmp_path)
    assert len(features) == 5 and features.features.shape == (5, features.width)
    assert features.paths == [one.image for one in features]
    for row, one in zip(features.features, features, strict=True):
        assert np.array_equal(row, one.feature)
    assert np.array_equal(features[1].feature, features[1:3].features[0])
    gallery = effvit_mm.Gallery(features.width, features.model)
    gallery.add(features)
    indices, distances = gallery.search(extractor(tmp_path / '3.png'), top=2)
    assert indices[0, 0] == 3 and distances[0, 0] < 1e-5 < distances[0, 1]
