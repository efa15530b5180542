"""Configs that name an evaluator, not a metric alone: mmengine's, and mmdet's of several sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coco_sets import make_config
from remedies import tries
from trainer import forget_runs

from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.arguments import metric_nodes
from effvit_mm.openmm.config.checks import check_config
from effvit_mm.openmm.config.loading import load_config

NAMED = """
val_evaluator = test_evaluator = dict(metrics={metrics})
"""
# With it the network finds some of the objects after three iterations.
NORM = """
model.update(neck=dict(norm_cfg=dict(type='BN')))
"""
APART = """
one = val_dataloader['dataset']
val_dataloader.update(
    dataset=dict(type='ConcatDataset', datasets=[one, dict(one, ann_file='train.json')])
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(
    type='MultiDatasetsEvaluator', dataset_prefixes=['new', 'old'],
    metrics=[dict(val_evaluator, ann_file=one['data_root'] + '/' + name)
             for name in ('val.json', 'train.json')],
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def figures(work: str) -> dict[str, float]:
    return json.loads(next(Path(work).glob('*/*.json')).read_text())


@tries('; give test_evaluator one metric, and test_dataloader its set')
def test_sets_that_are_judged_apart(folder, capfd):
    config = str(make_config(folder, NORM + APART))
    assert cli.train([config, '--work-dir', 'work']) == 0
    forget_runs()
    test = ['work/epoch_1.pth', '--out', 'found.json']
    assert cli.test([config, *test]) == 2
    assert "test_evaluator.type='MultiDatasetsEvaluator'" in capfd.readouterr().err
    forget_runs()
    assert cli.test([config, 'work/epoch_1.pth', '--work-dir', 'apart']) == 0
    found = figures('apart')
    forget_runs()
    assert cli.test([str(make_config(folder / 'one', NORM)), *test, '--work-dir', 'alone']) == 0
    alone = figures('alone')
    assert found['new/coco/bbox_mAP_50'] == found['old/coco/bbox_mAP_50']  # the same pictures
    assert found['new/coco/bbox_mAP_50'] == alone['coco/bbox_mAP_50'] > 0
    assert Path('found.json').is_file()


def test_an_evaluator_gives_the_figures_of_its_metric(folder):
    config = str(make_config(folder, NAMED.format(metrics='val_evaluator')))
    assert cli.train([config, '--work-dir', 'work']) == 0
    forget_runs()
    assert cli.test([config, 'work/epoch_1.pth', '--out', 'found.json', '--work-dir', 't']) == 0
    assert 'coco/bbox_mAP' in figures('t') and Path('found.json').is_file()


@pytest.mark.parametrize(
    ('extra', 'message'),
    [
        (
            NAMED.format(metrics="[val_evaluator, dict(type='CocoMetrik')]"),
            "val_evaluator.metrics[1].type='CocoMetrik': there is no such metric",
        ),
        (
            NAMED.format(metrics='dict(val_evaluator, metrik=3)'),
            'val_evaluator.metrics.metrik=3: CocoMetric has no such argument',
        ),
        (
            "val_evaluator = dict(type='Evaluatr', metrics=val_evaluator)\n",
            "val_evaluator.type='Evaluatr': there is no such evaluator",
        ),
        (
            "val_evaluator = dict(metrics=val_evaluator, sets=['a'])\n",
            "val_evaluator.sets=['a']: Evaluator has no such argument",
        ),
    ],
)
def test_faults_within_are_named(folder, extra, message):
    cfg = load_config(str(make_config(folder, extra)), [])
    with pytest.raises(ConfigError) as caught:
        check_config(cfg, training=True)
    assert message in str(caught.value)


def test_annotations_of_metrics_within_are_checked(folder, capfd):
    config = make_config(folder, NAMED.format(metrics='[dict(val_evaluator)]'))
    other = json.loads((folder / 'data' / 'val.json').read_text())
    del other['categories'][1]['name']
    (folder / 'other.json').write_text(json.dumps(other))
    with config.open('a') as file:
        file.write("val_evaluator['metrics'][0]['ann_file'] = 'other.json'\n")
    assert cli.train([str(config)]) == 2
    assert 'other.json: category' in capfd.readouterr().err


def test_paths_of_metrics():
    metric = {'type': 'CocoMetric'}
    nodes = metric_nodes([metric, {'metrics': [metric, {'metrics': metric}]}], 'test_evaluator')
    assert [path for path, _ in nodes] == [
        'test_evaluator[0]', 'test_evaluator[1].metrics[0]', 'test_evaluator[1].metrics[1].metrics'
    ]  # fmt: skip
    assert list(metric_nodes(None)) == []


@pytest.mark.parametrize('key', ['val_evaluator', 'test_evaluator'])
@pytest.mark.parametrize(
    'value',
    [
        "dict(metric='bbox')",
        "[dict(type='CocoMetric'), dict(metric='bbox')]",
        "dict(type='Evaluator', metrics=dict(metric='bbox'))",
        "'CocoMetric'",
        '[3]',
    ],
)
def test_a_metric_without_a_type_is_named_before_a_training(folder, key, value):
    cfg = load_config(str(make_config(folder, f'{key} = {value}\n')), [])
    with pytest.raises(ConfigError) as caught:
        check_config(cfg, training=True)
    assert str(caught.value).startswith(f'{key}{".metrics" * ("Evaluator" in value)}=')
    assert str(caught.value).endswith('metrics are needed, dicts with a type')
