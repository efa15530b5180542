"""Names that a config file defines for its own use are followed to where they were used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from remedies import tries

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config

ROOT = Path(__file__).parents[1]
BASE = """
data_root = 'data/x'
train_annotations = 'train.json'
image_size = 32
norm_cfg = dict(type='BN', eps=1e-5)
train_pipeline = [dict(type='Load'), dict(type='Resize', scale=image_size * 2)]
train_pipeline += [dict(type='Pack')]
dataset = dict(
    data_root=data_root, ann_file=train_annotations, pipeline=train_pipeline, index=data_root + '/i'
)
train_dataloader = dict(batch_size=4, dataset=dataset)
model = dict(type='Net', norm_cfg=norm_cfg, mean=32)
my_own = dict(a=1)
"""
# The same by imports; mmengine asks that something is imported.
LAZY = BASE.replace("type='Net'", 'type=Linear').replace(
    "\ndata_root = 'data/x'", "\nfrom torch.nn import Linear\ndata_root = 'data/x'"
)


HEADS = {
    'text': "_base_ = './base.py'\n",
    'python': 'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n',
}


@pytest.fixture(params=HEADS)
def written(tmp_path, request):
    """Write a base and a config derived from it; give a function that reads the latter."""

    def write(derived: str = '', **by_kind: str):
        (tmp_path / 'base.py').write_text(BASE if request.param == 'text' else LAZY)
        own = derived + by_kind.get(request.param, '')
        (tmp_path / 'derived.py').write_text(HEADS[request.param] + own)
        return lambda *options: load_config(str(tmp_path / 'derived.py'), options)

    return write


def dataset_of(cfg):
    return cfg.train_dataloader.dataset


def test_an_override_reaches_what_was_made_with_the_name(written):
    read = written()
    assert read().filename.endswith('derived.py')
    cfg = read(
        'image_size=64', 'norm_cfg.eps=0.1', 'data_root=/a, b', 'train_pipeline.2.type=Other'
    )
    assert cfg.filename == read().filename
    assert dataset_of(cfg).pipeline[1].scale == 128
    assert dataset_of(cfg).pipeline == cfg.train_pipeline
    assert dataset_of(cfg).pipeline[2].type == 'Other'
    assert (dataset_of(cfg).data_root, dataset_of(cfg).index) == ('/a, b', '/a, b/i')
    assert cfg.model.norm_cfg == {'type': 'BN', 'eps': 0.1}
    assert cfg.model.mean == 32  # equal, but another thing
    assert read()._to_lazy_dict().keys() == cfg._to_lazy_dict().keys()


def test_an_override_of_the_part_itself_comes_last(written):
    key = 'train_dataloader.dataset.pipeline.1.scale'
    cfg = written()(f'{key}=7', 'image_size=64')
    assert dataset_of(cfg).pipeline[1].scale == 7


def test_an_assignment_that_only_the_base_reads_is_the_base_s(written):
    read = written("train_annotations = 'mine.json'\nimage_size = 8\n")
    assert dataset_of(read()).ann_file == 'mine.json'
    assert dataset_of(read()).pipeline[1].scale == 16
    cfg = read('train_annotations=other.json')
    assert cfg.train_annotations == dataset_of(cfg).ann_file == 'other.json'
    assert dataset_of(cfg).pipeline[1].scale == 16


def test_a_file_that_reads_its_name_speaks_for_itself(written):
    read = written('image_size = 8\nmodel = dict(type="Net", size=image_size)\n')
    assert (read().model['size'], dataset_of(read()).pipeline[1].scale) == (8, 64)
    cfg = read('image_size=16')
    assert (cfg.model['size'], dataset_of(cfg).pipeline[1].scale) == (16, 64)


def test_a_name_for_own_use_is_left_alone(written):
    assert written()('my_own.a=2').my_own == {'a': 2}


@tries('has the value of {} in its parts; give {}')
def test_without_effect_is_refused_with_the_key_that_works(written, tmp_path):
    flat = tmp_path / 'flat.json'
    flat.write_text(json.dumps(written()().to_dict()))
    with pytest.raises(ConfigError, match='no effect') as error:
        load_config(str(flat), ['train_pipeline.1.scale=9'])
    remedy = str(error.value).rpartition('give ')[2].split()
    assert remedy == ['train_dataloader.dataset.pipeline.1.scale=9']
    assert dataset_of(load_config(str(flat), remedy)).pipeline[1].scale == 9
    # What is documented works there too.
    cfg = load_config(str(flat), ['data_root=/y', 'train_annotations=z.json', 'my_own.a=2'])
    assert (dataset_of(cfg).data_root, dataset_of(cfg).ann_file) == ('/y', 'z.json')


@tries('the config has no {}; give the key of the part, as val_dataloader.dataset.pipeline')
def test_a_known_name_that_the_config_lacks(written):
    with pytest.raises(ConfigError, match=r'has no effect, since the config has no val_pipeline'):
        written('')('val_pipeline.1.scale=64')
    read = written('val_dataloader = dict(dataset=dict(pipeline=[dict(), dict(scale=32)]))\n')
    assert read('val_dataloader.dataset.pipeline.1.scale=64').val_dataloader.dataset.pipeline[
        1
    ] == {'scale': 64}


@tries('is built; give the key of the part, as train_dataloader.dataset.pipeline')
def test_a_name_whose_parts_a_derived_config_has_replaced(written):
    read = written(
        text='train_dataloader = dict(_delete_=True, batch_size=1)\n',
        python='train_dataloader = dict(batch_size=1)\n',
    )
    with pytest.raises(
        ConfigError, match=r'image_size=8: has no effect.* give the key of the part'
    ):
        read('image_size=8')
    part = 'train_dataloader.dataset.pipeline'
    steps = 'train_dataloader.update(dataset=dict(pipeline=[dict(scale=64)]))\n'
    read = written(
        text='train_dataloader = dict(_delete_=True, batch_size=1)\n' + steps,
        python='train_dataloader = dict(batch_size=1)\n' + steps,
    )
    with pytest.raises(ConfigError, match=part):
        read('image_size=8')
    assert dataset_of(read(f'{part}.0.scale=8')).pipeline[0].scale == 8


@pytest.mark.parametrize(
    ('config', 'option', 'key', 'value'),
    [
        ('pslt/pslt-tiny_folder.py', 'train_pipeline.1.scale=64',
         'train_dataloader.dataset.pipeline.1.scale', 64),
        ('pslt/pslt-tiny_folder.py', 'test_pipeline.2.crop_size=64',
         'test_dataloader.dataset.pipeline.2.crop_size', 64),
        ('castling/rtmdet_castling-levit-128s_csp-pan_320_coco.py', 'image_size=(64, 64)',
         'test_dataloader.dataset.pipeline.1.scale', (64, 64)),
        ('bccd/retinanet_castling-levit-128s_bccd.py', 'backbone.arch=256',
         'model.backbone.arch', '256'),
        ('pslt/reid_pslt-tiny_market1501-msmt17.py', 'market1501.data_root=/m',
         'train_dataloader.dataset.datasets.0.data_root', '/m'),
    ],
)  # fmt: skip
def test_shipped_configs(config, option, key, value):
    from effvit_mm.openmm.config.options import look_up

    path = str(ROOT / 'configs' / config)
    assert look_up(load_config(path, []), key) != value
    assert look_up(load_config(path, [option]), key) == value
