"""Errors of detectors by cause: COCO's matching, each cause on its own, what it costs."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import detections
import numpy as np
import pytest
from programs import load_tool

from benchmarks.measure.coco_comparison import run_pycocotools
from effvit_mm.errors import DataError
from effvit_mm.evaluation.coco_results import box_overlaps, collect, to_coco_results
from effvit_mm.evaluation.detection_errors import (
    CAUSES,
    ImageResult,
    analyse,
    find_causes,
    judge,
    mean_precision,
    repair,
)
from effvit_mm.openmm.engine.predictions import read_predictions

IDS = tuple(detections.CATEGORIES)


def image(truths, labels, scores, overlaps, crowds=None):
    """An image by hand; ``overlaps`` has a row for each prediction."""
    crowds = np.zeros(len(truths), bool) if crowds is None else np.array(crowds, bool)
    return ImageResult(
        np.array(truths, int), crowds, np.array(labels, int), np.array(scores, float),
        np.array(overlaps, float).reshape(len(labels), len(truths)),
    )  # fmt: skip


def random_images(kind, seed=0, **options):
    data = detections.random_truth(seed)
    predictions = detections.random_predictions(data, seed + 1, **options)
    results = to_coco_results(predictions, IDS, kind)
    return data, predictions, collect(data, results, IDS, kind)


# COCO's matching ---------------------------------------------------------------------------------


@pytest.mark.parametrize('seed', [0, 1])
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_curves_are_those_of_pycocotools(kind, seed, tmp_path):
    data, predictions, images = random_images(kind, seed)
    truth, _ = detections.write(tmp_path, data, predictions)
    theirs = run_pycocotools(truth, predictions, IDS, kind)
    analysis = analyse(images, len(IDS))
    columns = [list(theirs.params.catIds).index(number) for number in IDS]
    for iou, index in ((0.5, 0), (0.75, 5)):
        want = theirs.eval['precision'][index, :, columns, 0, 2]
        want = np.where(want < 0, np.nan, want)
        np.testing.assert_allclose(analysis.curves[iou], want, atol=1e-9)
        mean = np.nanmean(analysis.average_precision(iou))
        assert mean == pytest.approx(theirs.stats[1 if iou == 0.5 else 2], abs=1e-9)
    assert 0.05 < theirs.stats[1] < 0.95


def test_overlaps_of_boxes_are_those_of_pycocotools():
    from pycocotools.mask import iou

    rng = np.random.default_rng(0)
    found = np.array([detections.random_box(rng) for _ in range(30)])
    own = np.array([detections.random_box(rng) for _ in range(20)])
    own[0], own[1, 2:], found[1, 2:] = found[0], 0, 0
    crowds = rng.random(20) < 0.3
    got = box_overlaps(found, own, crowds)
    want = iou(found, own, crowds.astype(int).tolist())
    np.testing.assert_allclose(got[2:, 2:], want[2:, 2:], atol=1e-15)
    assert np.isfinite(got).all() and got[0, 0] == 1


# Each cause on its own ---------------------------------------------------------------------------

# One object of class 0; the second prediction is wrong in the way of its cause.
WRONG = {
    'localisation': image([0], [0], [0.9], [[0.3]]),
    'class': image([0], [1], [0.9], [[0.8]]),
    'both': image([0], [1], [0.9], [[0.3]]),
    'duplicate': image([0], [0, 0], [0.95, 0.9], [[0.9], [0.8]]),
    'background': image([0], [0], [0.9], [[0.05]]),
    'missed': image([0], [], [], []),
}


@pytest.mark.parametrize('cause', CAUSES)
def test_a_cause_is_found_and_its_repair_pays(cause):
    # Beside a right prediction of each class, with a lower score than the wrong ones.
    right = image([0, 1], [0, 1], [0.5, 0.5], np.eye(2))
    analysis = analyse([right, WRONG[cause]], 2, min_score=0.6)
    also_missed = cause in ('both', 'background')
    want = {**dict.fromkeys(CAUSES, 0), cause: 1}
    want['missed'] = int(also_missed or cause == 'missed')
    assert analysis.errors == want
    assert {name: n for name, n in analysis.confident.items() if name != 'missed'} == {
        name: n for name, n in want.items() if name != 'missed'
    }
    assert analysis.costs[cause] > 0
    others = [name for name in CAUSES if not want[name]]
    assert [analysis.costs[name] for name in others] == [0] * len(others)


def test_the_repair_of_every_cause_makes_a_perfect_detector():
    for cause in ('localisation', 'class', 'duplicate', 'missed'):
        right = image([0, 1], [0, 1], [0.5, 0.5], np.eye(2))
        images = [right, WRONG[cause]]
        judged = judge(images, 0.5)
        repaired = repair(judged, *find_causes(images, judged), cause)
        assert mean_precision(repaired, np.array([2, 1])) == pytest.approx(1)


def test_a_repair_gives_an_object_to_one_prediction_alone():
    # Both stand for the same object; and one stands for an object that has a prediction.
    twice = image([0], [1, 1], [0.9, 0.8], [[0.8], [0.7]])
    taken = image([0], [1, 0], [0.9, 0.8], [[0.8], [0.9]])
    for example, kept in ((twice, [True, False]), (taken, [False, True])):
        judged = judge([example], 0.5)
        repaired = repair(judged, *find_causes([example], judged), 'class')
        assert repaired.counted.tolist() == kept
        assert repaired.labels[repaired.counted].tolist() == [0]


@pytest.mark.parametrize('seed', range(3))
def test_on_random_data_no_error_is_lost_and_no_repair_harms(seed):
    _, _, images = random_images('bbox', seed)
    judged = judge(images, 0.5)
    causes, nearest = find_causes(images, judged)
    wrong = judged.counted & (judged.objects < 0)
    np.testing.assert_array_equal(causes >= 0, wrong)
    analysis = analyse(images, len(IDS))
    assert sum(n for cause, n in analysis.errors.items() if cause != 'missed') == wrong.sum()
    assert all(n > 0 for n in analysis.errors.values())
    assert all(cost >= 0 for cost in analysis.costs.values())
    assert sum(cost > 0 for cost in analysis.costs.values()) >= 5
    assert all(analysis.confident[c] <= analysis.errors[c] for c in CAUSES if c != 'missed')
    # A repair of false positives alone finds nothing new.
    for cause in ('both', 'duplicate', 'background'):
        repaired = repair(judged, causes, nearest, cause)
        np.testing.assert_array_equal(repaired.objects, judged.objects)


# Confusion ---------------------------------------------------------------------------------------


def test_rows_of_the_confusion_matrix_are_the_objects():
    _, _, images = random_images('bbox')
    for min_score in (0.0, 0.5, 0.99):
        analysis = analyse(images, len(IDS), min_score)
        matrix = analysis.confusion
        np.testing.assert_array_equal(matrix[:-1].sum(1), analysis.counts)
        judged = judge(images, 0.5)
        used = judged.counted & (judged.scores >= min_score)
        assert matrix[:, :-1].sum() == used.sum()
        right = judged.labels[used & (judged.objects >= 0)]
        np.testing.assert_array_equal(np.diag(matrix)[:-1], np.bincount(right, minlength=len(IDS)))
        assert matrix[-1, -1] == 0


def test_confusion_by_hand():
    example = image(
        [0, 1, 1], [0, 0, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.1],
        [[0.9, 0, 0], [0.6, 0.7, 0], [0, 0.6, 0], [0, 0, 0], [0, 0, 0.9]],
    )  # fmt: skip
    # The second takes no object of class 1: the third has it by COCO's rules, the other is far.
    want = [[1, 0, 0], [0, 1, 1], [1, 1, 0]]
    assert analyse([example], 2, 0.5).confusion.tolist() == want
    # From score 0 on the last one confuses the third object.
    want = [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert analyse([example], 2, 0.0).confusion.tolist() == want


# Degenerate input --------------------------------------------------------------------------------


def test_nothing_predicted_or_nothing_there():
    _, _, images = random_images('bbox')
    no_predictions = [
        replace(i, labels=i.labels[:0], scores=i.scores[:0], overlaps=i.overlaps[:0])
        for i in images
    ]
    analysis = analyse(no_predictions, len(IDS))
    assert analysis.errors['missed'] == analysis.counts.sum() > 0
    assert analysis.costs['missed'] == 1
    assert sum(analysis.errors.values()) == analysis.errors['missed']

    no_objects = [image([], i.labels, i.scores, []) for i in images]
    analysis = analyse(no_objects, len(IDS))
    counted = judge(no_objects, 0.5).counted.sum()
    assert analysis.errors['background'] == counted == sum(analysis.errors.values())
    assert np.isnan(list(analysis.costs.values())).all()
    assert analyse([], len(IDS)).confusion.sum() == 0


def test_crowds_are_neither_objects_nor_errors():
    example = image(
        [0, 0], [0, 0, 0], [0.9, 0.8, 0.7], [[0.9, 0.9], [0.1, 0.9], [0.1, 0.2]], [0, 1]
    )
    analysis = analyse([example], 1, 0.0)
    assert analysis.counts.tolist() == [1]
    # The first has the object, the second lies in the crowd, the third is displaced.
    assert analysis.confusion.tolist() == [[1, 0], [1, 0]]
    assert analysis.errors == {**dict.fromkeys(CAUSES, 0), 'localisation': 1}
    analysis = analyse([replace(example, crowds=np.array([True, True]))], 1, 0.0)
    assert analysis.errors == {**dict.fromkeys(CAUSES, 0), 'background': 1}


def test_unknown_ids_and_labels_are_named():
    data = detections.random_truth()
    good = {'image_id': 1, 'category_id': 7, 'score': 0.5, 'bbox': [0, 0, 9, 9]}
    for change, message in (
        ({'image_id': 77}, 'image_id 77 not in the annotation file'),
        ({'category_id': 2}, 'category_id 2 not in the annotation file'),
    ):
        with pytest.raises(DataError, match=message):
            collect(data, [good, {**good, **change}], IDS)
    predictions = detections.random_predictions(data)
    predictions[0]['pred_instances']['labels'][0] = 9
    with pytest.raises(DataError, match='label 9, but the config has 5 classes'):
        to_coco_results(predictions, IDS)
    with pytest.raises(DataError, match="item 1: no 'score'"):
        to_coco_results([good, {'image_id': 1, 'category_id': 7}], IDS)
    for prediction in predictions:
        del prediction['pred_instances']['masks']
    with pytest.raises(DataError, match='no masks'):
        to_coco_results(predictions, IDS, 'segm')


# The tool ----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, monkeypatch):
    data = detections.random_truth()
    data['categories'][0]['name'] = 'c$a$t'  # no formula
    predictions = detections.random_predictions(data)
    detections.write(tmp_path, data, predictions)
    detections.write_config(tmp_path, names=('c$a$t', *detections.NAMES[1:]))
    monkeypatch.chdir(tmp_path)
    return predictions


def run(*arguments):
    return load_tool('analysis_tools/detection_errors').main(['config.py', *arguments])


def test_tool_prints_and_draws(files, capfd):
    predictions = files
    assert run('predictions.json', '--out', 'shown') == 0
    boxes = capfd.readouterr().out
    assert all(cause in boxes for cause in CAUSES) and 'c$a$t' in boxes
    stats = run_pycocotools(Path('truth.json'), predictions, IDS, 'bbox').stats
    row = next(line for line in boxes.split('\n') if '│ all' in line).split('│')
    assert [cell.strip() for cell in row[2:4]] == [f'{v:.3f}' for v in stats[1:3]]
    names = {path.name for path in Path('shown').iterdir()}
    assert names == {'confusion.png', 'precision_recall.png', 'errors.png'}
    assert all(cv2.imread(f'shown/{name}').std() > 5 for name in names)

    assert run('predictions.json', '--out', 'shown', '--masks') == 0
    assert capfd.readouterr().out.split('wrote')[0] != boxes.split('wrote')[0]


def test_pickles_and_coco_results_are_read_too(files):
    want = to_coco_results(files, IDS)
    Path('results.json').write_text(json.dumps(want))
    assert to_coco_results(read_predictions('results.json'), IDS) == want
    Path('p.pkl').write_bytes(pickle.dumps(files))
    assert to_coco_results(read_predictions('p.pkl', trust=True), IDS) == want


class Intruder:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path('touched'),))


def test_tool_says_what_is_wrong(files, capfd):
    Path('p.pkl').write_bytes(pickle.dumps([Intruder()]))
    Path('cut.json').write_text('[{"img_id": 1')
    Path('dict.json').write_text('{"a": 1}')
    predictions = files
    predictions[0]['img_id'] = 99
    Path('other.json').write_text(json.dumps(predictions))
    for arguments, message in (
        (['p.pkl', '--out', 'o'], 'add --trust-pickle'),
        (['cut.json', '--out', 'o'], 'predictions cut.json cannot be read'),
        (['dict.json', '--out', 'o'], 'a list of dicts is needed'),
        (['none.json', '--out', 'o'], 'none.json: no such file'),
        (['other.json', '--out', 'o'], 'image_id 99 not in the annotation file'),
        (
            ['predictions.json', '--out', 'o', '--min-score', '3'],
            '--min-score 3.0: between 0 and 1',
        ),
        (['predictions.json', '--out', 'truth.json'], '--out truth.json'),
    ):
        assert run(*arguments) == 2, arguments
        error = capfd.readouterr().err
        assert message in error and error.count('\n') == 1
    assert not Path('touched').exists()


def test_tool_with_many_classes_and_without_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = detections.random_truth()
    data['categories'] = [{'id': i, 'name': f'class {i}'} for i in range(1, 61)]
    for number, item in enumerate(data['annotations']):
        item['category_id'] = number % 60 + 1
    detections.write(tmp_path, data, [])
    detections.write_config(tmp_path, names=[f'class {i}' for i in range(1, 61)])
    assert run('predictions.json', '--out', 'shown') == 0
    assert len(list(Path('shown').iterdir())) == 3
