"""``tools/test.py`` on a classifier: figures and pictures by class."""

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from programs import load_tool
from sklearn.metrics import classification_report, confusion_matrix, precision_recall_fscore_support
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import DataError
from effvit_mm.evaluation.classification import count_predictions
from effvit_mm.openmm import cli
from effvit_mm.openmm.engine.class_report import (
    MAX_MISTAKES,
    ClassReport,
    class_table,
    has_single_labels,
)
from effvit_mm.visualization import class_errors
from effvit_mm.visualization.class_errors import MAX_TICKS
from effvit_mm.visualization.names import short_names

NAMES = {'bars': 'Bäume $x$ y$', 'dots': '[red] кот', 'rings': '猫'}


def sample(true, predicted, count, score=0.9, **more):
    """What a classifier gives of an image."""
    scores = torch.full((count,), (1 - score) / max(count - 1, 1))
    scores[predicted] = score
    labels = {'gt_label': torch.tensor([true]), 'pred_label': torch.tensor([predicted])}
    return {**labels, 'pred_score': scores, **more}


def report_of(pairs, names, **options):
    """A report after an evaluation, and its figures by name."""
    report = ClassReport(names, **options)
    report.process({}, [sample(*pair, len(names)) for pair in pairs])
    assert report.by_name() == report.evaluate(len(pairs)) == {}
    return report, report.by_name()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_figures_are_those_of_scikit_learn(data):
    count = data.draw(st.integers(1, 9))
    label = st.integers(0, count - 1)  # classes without images, or never predicted, are drawn too
    pairs = data.draw(st.lists(st.tuples(label, label), min_size=1, max_size=40))
    true, predicted = zip(*pairs, strict=True)
    labels = range(count)
    figures = count_predictions(true, predicted, count)
    wanted = precision_recall_fscore_support(true, predicted, labels=labels, zero_division=0)
    found = (figures.precision, figures.recall, figures.f1, figures.counts)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a class without images
        shares = confusion_matrix(true, predicted, labels=labels, normalize='true')
    np.testing.assert_allclose(figures.shares, shares, rtol=1e-12, atol=0)

    names = [f'c{n}' for n in labels]
    keys = [
        f'classes/{n}_{what}' for what in ('precision', 'recall', 'f1', 'images') for n in names
    ]
    written = report_of(pairs, names)[1]
    assert set(written) == set(keys)
    assert [written[key] for key in keys] == pytest.approx(np.concatenate(wanted).tolist())
    json.dumps(written, allow_nan=False)

    theirs = classification_report(
        true, predicted, labels=labels, target_names=names, digits=3, zero_division=0
    )
    cells = [line.split() for line in theirs.splitlines()]
    ours = [line.strip('│').split('│') for line in class_table(figures, names).splitlines()]
    ours = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in ours}
    for row in cells:
        if row and row[0] in names:
            assert ours[row[0]] == [*row[1:4], f'{float(row[4]):.0f}']
        elif row and row[:2] == ['macro', 'avg']:
            assert ours['mean of classes'][:3] == row[2:5]
        elif row and row[:2] == ['weighted', 'avg']:
            assert ours['mean of images'][:3] == row[2:5]


@pytest.mark.parametrize('label', [-1, 3])
def test_a_label_beyond_the_classes_is_named(label):
    with pytest.raises(DataError, match=rf'^predicted label {label}: 0 to 2 are allowed$'):
        count_predictions([0, 1], [0, label], 3)
    with pytest.raises(DataError, match=r'^2 true labels, but 1 predicted ones$'):
        count_predictions([0, 1], [0], 3)


def picture(path):
    """The size of a picture, (height, width), that is not empty."""
    image = cv2.imread(str(path))
    assert image is not None and image.std() > 1
    return image.shape[:2]


def test_a_single_class(tmp_path):
    report, written = report_of([(0, 0)] * 3, ['only'], keep_mistakes=True)
    assert written == {f'classes/only_{k}': 1.0 for k in ('precision', 'recall', 'f1')} | {
        'classes/only_images': 3
    }
    report.save_pictures(tmp_path)
    assert [path.name for path in tmp_path.glob('*.png')] == ['confusion_matrix.png']
    assert min(picture(tmp_path / 'confusion_matrix.png')) > 200


@pytest.mark.parametrize('count', [100, 101, 120])
def test_many_classes(count, tmp_path):
    """Of more than 100 the 20 of lowest F1, those without an image last."""
    pairs = [(n, n) for n in range(count - 1) for _ in range(n + 1)]
    pairs += [(n, 0) for n in range(count - 1)]
    names = [f'class {n:03d}' for n in range(count)]
    report, _ = report_of(pairs, names)
    table = class_table(report.figures, report.names)
    shown = [name for name in names if f' {name} ' in table]
    if count <= 100:
        assert shown == names and 'worst' not in table
    else:
        assert shown == names[:20]
        assert table.endswith(f'the 20 worst of {count} classes by F1')
        report.save_pictures(tmp_path)
        assert 1000 < min(picture(tmp_path / 'confusion_matrix.png')) < 3000


def test_names_that_pictures_can_show():
    shown = short_names(['кот', 'a$b$', 'x' * 99, 'a\nb', '\U0001f9ff\U00012000', ''])
    assert shown[:2] == ['кот', r'a\$b\$']
    assert len(shown[2]) == 24 and shown[3:] == ['class 3', 'class 4', 'class 5']


def test_the_surest_mistakes_are_kept_without_files():
    """Images come from the batches where there are no files, of no more than the sheet shows."""
    report = ClassReport(['a', 'b'], keep_mistakes=True)
    scores = np.random.default_rng(0).permutation(np.linspace(0.5, 0.99, 60))
    for number, score in enumerate(scores):
        inputs = torch.full((1, 3, 4, 4), number, dtype=torch.uint8)
        report.process({'inputs': inputs}, [sample(0, int(number % 3 > 0), 2, float(score))])
        assert sum(r.image is not None for r in report.results) <= MAX_MISTAKES
    report.evaluate(60)
    wrong = [n for n in np.argsort(-scores) if n % 3][:MAX_MISTAKES]
    assert [int(r.image[0, 0, 0]) for r in report.mistakes] == wrong


def test_several_labels_an_image_are_left_out():
    # Not above: mmcv's operators are to be replaced before mmpretrain is imported.
    from mmpretrain.models.heads import MultiLabelLinearClsHead

    model = torch.nn.Module()
    model.head = MultiLabelLinearClsHead(3, 4)
    assert not has_single_labels(model, [])
    report = ClassReport(['a', 'b'])
    several = {**sample(0, 1, 2), 'gt_label': torch.tensor([0, 1])}
    report.process({}, [sample(0, 1, 2), several])
    assert report.evaluate(2) == {} and report.figures is None


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config and the work dir of a training with averaged weights; names beyond ASCII."""
    root = tmp_path_factory.mktemp('named')
    data = make_folder(root / 'data')
    for split in ('train', 'val'):
        for old, new in NAMES.items():
            (data / split / old).rename(data / split / new)
    config = write_config(root / 'c.py', data, 'train_cfg.update(max_epochs=2)\n')
    forget_runs()
    assert cli.train([str(config), '--work-dir', str(root / 'w'), '--resume']) == 0
    return config, root / 'w' / 'epoch_2.pth'


@pytest.mark.parametrize(
    'flags', ['', '--tta --cfg-options use_ema=False', '--runtime onnxruntime']
)
def test_the_tool(trained, flags, tmp_path, capfd, monkeypatch):
    if 'onnxruntime' in flags:
        pytest.importorskip('onnxruntime')
    monkeypatch.chdir(tmp_path)
    forget_runs()
    config, checkpoint = map(str, trained)
    arguments = [config, checkpoint, '--work-dir', 't', '--out', 'p.json', '--show-dir', 'shown']
    assert load_tool('test').main([*arguments, *flags.split()]) == 0
    out, err = capfd.readouterr()
    assert 'accuracy/top1' in out and 'Glyph' not in out + err

    predictions = json.loads(Path('p.json').read_text())
    names = sorted(NAMES.values())
    true, predicted = (
        [names.index(p[f'{kind}_class']) for p in predictions] for kind in ('gt', 'pred')
    )
    wanted = precision_recall_fscore_support(true, predicted, labels=range(3), zero_division=0)
    written = json.loads(next(p for p in Path('t').glob('*/*.json')).read_text())
    for label, name in enumerate(names):
        values = [written[f'classes/{name}_{k}'] for k in ('precision', 'recall', 'f1', 'images')]
        assert values == pytest.approx([part[label] for part in wanted])
        cells = [f'{part[label]:.3f}' for part in wanted[:3]] + [str(wanted[3][label])]
        line = next(line for line in out.splitlines() if f'│ {name} ' in line)
        assert [cell.strip() for cell in line.strip('│').split('│')] == [name, *cells]
    assert out.count('classes/') == 0
    assert 300 < min(picture('shown/confusion_matrix.png')) < 2000
    wrong = sum(a != b for a, b in zip(true, predicted, strict=True))
    assert wrong, 'two epochs do not teach all of it'
    height, width = picture('shown/worst_mistakes.png')
    assert 200 < height < 2000 and 200 < width < 2000


def test_names_are_ticks_up_to_fifty_classes(monkeypatch, tmp_path):
    given_names = []

    def draw(shares, cells, columns, rows, title):
        given_names.append((cells is not None, len(columns)))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(class_errors, 'draw_confusion', draw)
    for count in (20, 21, MAX_TICKS, MAX_TICKS + 1):
        figures = count_predictions(range(count), range(count), count)
        names = [str(n) for n in range(count)]
        class_errors.save_confusion(figures, names, tmp_path / f'{count}.png')
    assert given_names == [(True, 20), (False, 21), (False, 50), (False, 0)]
