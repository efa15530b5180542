"""A checkpoint that another config has trained: images may be prepared for it in another way."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from remedies import tries

pytest.importorskip('mmpretrain')
import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError
from effvit_mm.inference.models import split_model
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_classifier, pipeline_of_tests
from effvit_mm.openmm.trained_config import describe_other_pipeline
from effvit_mm.openmm.trained_config import test_pipeline as read_pipeline
from effvit_mm.weights.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
DIGITS = str(ROOT / 'configs/pslt/pslt-tiny_digits.py')
FOLDER = str(ROOT / 'configs/pslt/pslt-tiny_folder.py')


def meta_of(config: str) -> dict:
    cfg = load_config(config, [])
    return {'cfg': cfg.pretty_text, 'experiment_name': f'{Path(config).stem}_20261130_233656'}


def steps_of(config: str) -> list:
    return pipeline_of_tests(load_config(config, []))


@pytest.mark.parametrize(
    'config',
    [
        'pslt/pslt-tiny_digits.py',
        'pslt/retinanet_pslt-tiny_folder.py',
        'pslt/reid_pslt-tiny_market1501.py',
        'crossvit/crossvit-tiny_fashion-mnist.py',
    ],
)
def test_the_pipeline_of_a_written_config(config):
    config = str(ROOT / 'configs' / config)
    assert len(read_pipeline(meta_of(config)['cfg'])) == len(steps_of(config)) > 0
    assert describe_other_pipeline(steps_of(config), 'mine.py', meta_of(config), 'a.pth') == ''


def test_another_way_of_preparing_images_is_told():
    said = describe_other_pipeline(steps_of(FOLDER), FOLDER, meta_of(DIGITS), 'a.pth')
    assert said.startswith('checkpoint a.pth was trained by pslt-tiny_digits, whose test pipeline')
    assert FOLDER in said and '\n' not in said
    # Of its own name, and changed since.
    assert describe_other_pipeline(steps_of(FOLDER), DIGITS, meta_of(DIGITS), 'a.pth') == ''


@pytest.mark.parametrize(
    'text',
    [
        '',
        'test_dataloader = dict(',
        'test_dataloader = 3',
        'test_dataloader = dict(dataset=dict(pipeline=[open("run", "w")]))',
        'test_dataloader = dict(**open("run", "w"))',
        'test_dataloader = dict(dataset=' * 2000 + '1' + ')' * 2000,
    ],
)
def test_what_cannot_be_read_tells_nothing_and_runs_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    meta = {'cfg': text, 'experiment_name': 'other'}
    assert describe_other_pipeline(steps_of(FOLDER), FOLDER, meta, 'a.pth') == ''
    assert describe_other_pipeline(steps_of(FOLDER), FOLDER, {}, 'a.pth') == ''
    assert not list(tmp_path.iterdir())


@tries('; give the config that it was trained with')
def test_a_classifier_says_so(tmp_path):
    model = build_classifier(load_config(DIGITS, []), DIGITS)
    content = {'state_dict': model.state_dict(), 'meta': meta_of(DIGITS)}
    torch.save(content, tmp_path / 'a.pth')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        effvit_mm.Classifier(DIGITS, tmp_path / 'a.pth')
    own = tmp_path / 'own.py'
    own.write_text(
        f"_base_ = '{DIGITS}'\n"
        "test_pipeline = [dict(type='effvit_mm.LoadImage'), dict(type='Resize', scale=48), "
        "dict(type='PackInputs')]\ntest_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n"
    )
    with pytest.warns(UserWarning, match=r'a\.pth was trained by pslt-tiny_digits, whose test pi'):
        effvit_mm.Classifier(own, tmp_path / 'a.pth')


def test_what_a_command_line_lacks():
    with pytest.raises(ConfigError, match=r'^config is missing: epoch_8\.pth is a checkpoint'):
        split_model('epoch_8.pth', ['photo.jpg'])
    with pytest.raises(ConfigError, match=r'^epoch_8\.pth: behind a config and its checkpoint im'):
        split_model('c.py', ['epoch_8.pth'])
    with pytest.raises(ConfigError, match=r'^gone\.onnx: there is no such file'):
        split_model('gone.onnx', ['gone.pth', 'photo.jpg'])
    assert split_model('c.py', ['epoch_8.pth', 'photo.jpg']) == ('epoch_8.pth', ['photo.jpg'])
    with pytest.raises(
        CheckpointError, match=r"^checkpoint '': the name is empty; is the variable"
    ):
        read_checkpoint('')
