"""A step of a pipeline that cannot do its part is named before the first iteration."""

from __future__ import annotations

import re

import pytest
from coco_sets import make_config
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli


@pytest.fixture
def fails(tmp_path, monkeypatch, capfd):
    """Train with a config; gives the one line of its error."""
    monkeypatch.chdir(tmp_path)

    def call(config) -> str:
        forget_runs()
        assert cli.train([str(config), '--work-dir', 'w']) == 2
        (line,) = capfd.readouterr().err.splitlines()[-1:]
        return line

    return call


def test_a_step_that_fails(fails, tmp_path):
    extra = 'pipeline[2].update(crop_size=(32, [1, 2]))\n'
    line = fails(write_config(tmp_path / 'c.py', make_folder(tmp_path / 'data', 2, 1), extra))
    assert re.search(r'train_dataloader\.dataset\.pipeline\[2\] \(type RandomCrop\): ', line), line


def test_a_pipeline_without_a_picture(fails, tmp_path):
    config = write_config(
        tmp_path / 'c.py', make_folder(tmp_path / 'data', 2, 1), 'del pipeline[:3]\n'
    )
    assert 'train_dataloader.dataset.pipeline: what comes out has no image' in fails(config)


def test_a_pipeline_that_packs_nothing(fails, tmp_path):
    config = write_config(
        tmp_path / 'c.py', make_folder(tmp_path / 'data', 2, 1), 'del pipeline[-1]\n'
    )
    assert 'train_dataloader.dataset.pipeline: what comes out has no image' in fails(config)


def test_a_step_that_opencv_refuses(fails, tmp_path):
    """Its errors are none of Python's kinds, and have several lines."""
    extra = 'pipeline[2].update(padding=1e30)\n'
    line = fails(write_config(tmp_path / 'c.py', make_folder(tmp_path / 'data', 2, 1), extra))
    assert re.search(r'train_dataloader\.dataset\.pipeline\[2\] \(type RandomCrop\): ', line), line


WITHOUT_RESIZE = """
val_pipeline = [step for step in val_pipeline if step['type'] != 'Resize']
val_dataloader['dataset'].update(pipeline=val_pipeline)
val_dataloader['dataset']['pipeline'] = val_pipeline
"""


@tries('; add a Resize, and scale_factor to the meta_keys')
def test_a_detectors_pipeline_that_cannot_be_undone(fails, tmp_path):
    config = make_config(tmp_path, WITHOUT_RESIZE)
    line = fails(config)
    assert 'val_dataloader.dataset.pipeline: nothing says how boxes are scaled back' in line
    config.write_text(config.read_text().replace("!= 'Resize'", "!= 'Nothing'"))
    forget_runs()
    assert cli.train([str(config), '--work-dir', 'w']) == 0


def test_a_model_that_cannot_predict(fails, tmp_path):
    """Four strides for five maps are an assertion without a word in mmdet."""
    extra = "model['bbox_head'] = dict(anchor_generator=dict(strides=[8, 16, 32, 64]))\n"
    line = fails(make_config(tmp_path, extra))
    assert 'model: it fails at the first image of train_dataloader: AssertionError at `' in line
    assert 'anchor_head.py:' in line
    line = fails(make_config(tmp_path / 'two', extra + 'train_dataloader.update(batch_size=5)\n'))
    assert 'model: it fails at the first image of val_dataloader: ' in line


def test_a_layer_that_cannot_be_initialised(fails, tmp_path):
    extra = """
init = dict(type='Xavier', layer='Conv2d', distribution='uniform', gain='x')
model['neck'] = dict(init_cfg=init)
"""
    assert 'error: model: ' in fails(make_config(tmp_path, extra))
