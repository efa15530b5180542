"""What messages of re-identification advise, done: it trains, it ranks."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import DATA_SAMPLERS
from people import TOKENS, VIT, build_model, make_people, write_people_config
from remedies import said, tries
from trainer import forget_runs

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.reid import sampler
from effvit_mm.openmm.reid.datasets import ReIDDataset
from effvit_mm.reid.distances import check_distance
from effvit_mm.reid.names import label_files
from effvit_mm.reid.pooling import build_pooling
from effvit_mm.reid.search import Gallery

CHOICES = {
    'distance={}: choose from {}': check_distance,
    'pooling.type={}: choose from {}': lambda name: build_pooling({'type': name}),
    'index={}: choose from {}': lambda name: Gallery(4, index=name),
}


@tries(*CHOICES)
@pytest.mark.parametrize('words', CHOICES)
def test_each_of_the_choices_works(words):
    work = CHOICES[words]
    with pytest.raises(ConfigError) as error:
        work('other')
    assert said(words, str(error.value))
    names = str(error.value).rpartition('choose from ')[2].split(', ')
    assert len(names) > 1
    for name in names:
        work(name)


@tries('; give one that has a group (?P<cam>...)')
def test_a_pattern_that_does_not_tell_the_camera():
    files = ['north/anna-1.jpg', 'south/anna-2.jpg']
    with pytest.raises(DataError) as error:
        label_files(files)
    assert said('; give one that has a group (?P<cam>...)', str(error.value))
    assert label_files(files, r'(?P<cam>\w+)/\w+-\d').camids.tolist() == [0, 1]


@tries('give the backbone out_type={}, where it has that, or choose another pooling')
def test_a_pooling_of_what_the_backbone_does_not_return():
    token = {'type': 'effvit_mm.VisionTransformer', 'arch': VIT, 'out_type': 'cls_token'}
    average = {'type': 'effvit_mm.AveragePooling'}
    with pytest.raises(ConfigError) as error:
        build_model(token, average)
    assert said("give the backbone out_type='featmap', where it has that, or", str(error.value))
    for backbone, pooling in (({**token, 'out_type': 'featmap'}, average), (token, TOKENS)):
        model = build_model(backbone, pooling).eval()
        assert model(torch.zeros(2, 3, 64, 32)).shape == (2, VIT['embed_dims'])


@tries('model.backbone returns {} channels; leave it out')
def test_channels_that_the_backbone_knows():
    with pytest.raises(ConfigError, match='; leave it out'):
        build_model(in_channels=7)
    assert build_model().eval()(torch.zeros(2, 3, 64, 32)).shape[0] == 2


@tries(
    '; add images of them, take these persons out, or lower num_instances (batch_size is '
    'num_persons times that)'
)
def test_persons_of_too_few_images(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sampler, 'tell_once', lambda text, *_: told.append(text))
    people = make_people(tmp_path / 'data')
    few = sorted((people / 'bounding_box_train').glob('0001_*'))
    kept = {path: path.read_bytes() for path in few}

    def tells(num_instances: int = 4) -> bool:
        told.clear()
        data = ReIDDataset(source='folder', data_root=str(people))
        sampler.PKSampler(data, num_persons=2, num_instances=num_instances, seed=0)
        return any('; add images of them, take these persons out, or lower' in t for t in told)

    few[0].unlink()
    assert tells() and not tells(3)
    few[0].write_bytes(kept[few[0]])
    assert not tells()
    for path in few:
        path.unlink()
    assert not tells()


@tries(
    '; give --cfg-options train_dataloader.sampler.num_persons={} train_dataloader.batch_size={}'
)
def test_more_persons_a_step_than_there_are(tmp_path):
    config = write_people_config(tmp_path / 'p.py', make_people(tmp_path / 'data', train=7))

    def build(*options: str) -> None:
        loader = load_config(str(config), options).train_dataloader
        data = ReIDDataset(source='folder', data_root=str(tmp_path / 'data'))
        given = {**loader.sampler, 'dataset': data}
        DATA_SAMPLERS.build(given).check_batch_size(loader.batch_size)

    with pytest.raises(ConfigError, match=r'16 different persons .* has 7; give ') as error:
        build('train_dataloader.sampler.num_persons=16', 'train_dataloader.batch_size=32')
    advice = str(error.value).rpartition('give --cfg-options ')[2].split()
    assert advice == ['train_dataloader.sampler.num_persons=4', 'train_dataloader.batch_size=8']
    build(*advice)


@tries("model.metric_loss needs train_dataloader.sampler=dict(type='effvit_mm.PKSampler')")
def test_a_batch_without_a_pair(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    people = make_people(tmp_path / 'data')
    in_order = (
        "train_dataloader.update(batch_size=2, sampler=dict(\n    type='DefaultSampler', "
        'shuffle=False))\ntrain_cfg.update(max_epochs=1)\n'
    )
    config = write_people_config(tmp_path / 'p.py', people, in_order)
    assert cli.train([str(config), '--work-dir', 'w', '--no-validate']) == 2
    words = "model.metric_loss needs train_dataloader.sampler=dict(type='effvit_mm.PKSampler')"
    assert words in capfd.readouterr().err
    sampler = "sampler=dict(\n    type='effvit_mm.PKSampler', num_persons=2, num_instances=2))\n"
    text = config.read_text().replace(in_order, '')
    pairs = f'train_cfg.update(max_epochs=1)\ntrain_dataloader.update(batch_size=4, {sampler}'
    config.write_text(text + pairs)
    forget_runs()
    assert cli.train([str(config), '--work-dir', 'w', '--no-validate']) == 0
