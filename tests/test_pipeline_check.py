"""A step of a pipeline that cannot do its part is named before the first iteration."""

from __future__ import annotations

import re

import pytest
from coco_sets import make_config
from mmengine.registry import DATASETS, DefaultScope
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.data_checks.pipelines import check_pipeline


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


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ("ann_file='x.json'", r"ann_file='x\.json': annotation file \S+x\.json: No such file"),
        (
            "data_prefix=dict(img='tain')",
            r"data_prefix\.img='tain': .* image files that do not exist",
        ),
        ("data_root='nowhere'", r"data_root='nowhere': annotation file nowhere/"),
    ],
)
def test_files_of_a_detector_that_are_missing(fails, tmp_path, settings, message):
    config = make_config(tmp_path, f"val_dataloader['dataset'].update({settings})\n")
    line = fails(config)
    assert re.search(rf'error: val_dataloader\.dataset\.{message}', line), line


def test_a_model_that_cannot_predict(fails, tmp_path):
    """Four strides for five maps are an assertion without a word in mmdet."""
    extra = "model['bbox_head'] = dict(anchor_generator=dict(strides=[8, 16, 32, 64]))\n"
    line = fails(make_config(tmp_path, extra))
    assert (
        'model.bbox_head (type RetinaHead): it fails at the first image of train_dataloader: '
        'AssertionError at `'
    ) in line
    assert 'anchor_head.py:' in line
    extra = "model['test_cfg'].update(nms_pre='many')\n"
    line = fails(make_config(tmp_path / 'two', extra))
    assert 'model.bbox_head (type RetinaHead): it fails at the first image of val_data' in line


def test_a_layer_that_cannot_be_initialised(fails, tmp_path):
    extra = """
init = dict(type='Xavier', layer='Conv2d', distribution='even')
model['neck'] = dict(init_cfg=init)
"""
    assert 'error: model: ' in fails(make_config(tmp_path, extra))


CHANCE = {
    "dict(type='RandAugment', policies='timm_increasing', num_policies=1, magnitude_level=1, "
    'hparams=dict(pad_val=PAD))': r'\(type RandAugment\): Shear: Expected the num of elements',
    "dict(type='RandomApply', prob=0.01, transforms=[dict(type='Shear', magnitude=0.1, prob=0.01, "
    'pad_val=PAD)])': r'\(type RandomApply\): Shear: Expected the num of elements',
    "dict(type='RandomChoice', transforms=[[dict(type='RandomFlip', prob=0.5)], [dict("
    "type='Shear', magnitude=0.1, prob=0.01, pad_val=PAD)]], prob=[0.99, 0.01])": (
        r'\(type RandomChoice\): Shear: Expected the num of elements'
    ),
    "dict(type='Shear', magnitude=0.1, prob=0.01, pad_val=PAD)": (
        r'\(type Shear\): Expected the num of elements'
    ),
    "dict(type='RandomErasing', erase_prob=0.01, mode='const', fill_color=[*PAD, -1][:3])": (
        r'\(type RandomErasing\): Python integer -1 out of bounds for uint8'
    ),
}


@pytest.mark.parametrize('step', CHANCE)
def test_a_step_that_chance_calls(tmp_path, step):
    """Once in a hundred images, or more rarely, and then in the training."""
    root = make_folder(tmp_path / 'data', 1, 1)
    extra = f'pipeline.insert(1, {step})\n'
    for padding in ('[104, 116, 124]', '[104, 116]'):
        config = write_config(tmp_path / 'c.py', root, extra.replace('PAD', padding))
        cfg = load_config(str(config), [])
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            dataset = DATASETS.build(cfg.train_dataloader.dataset)
            if padding.count(',') == 2:
                check_pipeline(dataset, 'train_dataloader')
                continue
            with pytest.raises(ConfigError) as error:
                check_pipeline(dataset, 'train_dataloader')
    found = r'^train_dataloader\.dataset\.pipeline\[1\] ' + CHANCE[step]
    assert re.search(found, str(error.value)), error.value
