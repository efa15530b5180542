"""Keys of a config file that nothing reads: misspelt ones, and those of mmcv 1.x."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from remedies import tries
from trainer import make_folder, write_config

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.config.unread import OLD_KEYS, check_top_level

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(p for p in (ROOT / 'configs').glob('*/*.py') if p.parent.name != '_base_')


@pytest.fixture(scope='module')
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('unread')
    return write_config(folder / 'base.py', make_folder(folder, train=1, val=1))


@pytest.fixture
def read(base, tmp_path):
    """Read a config with this text behind the name of its base."""

    def load(text: str, *options: str) -> Config:
        (tmp_path / 'mine.py').write_text(f'_base_ = {str(base)!r}\n{text}')
        return load_config(str(tmp_path / 'mine.py'), options)

    return load


@pytest.mark.parametrize(
    ('text', 'key', 'meant'),
    [
        ('train_dataloder = dict(batch_size=3)', 'train_dataloder', 'train_dataloader'),
        ('default_hook = dict(logger=dict(interval=5))', 'default_hook', 'default_hooks'),
        ('optim_wraper = dict(optimizer=dict(lr=0.1))', 'optim_wraper', 'optim_wrapper'),
        ('param_schedulers = []', 'param_schedulers', 'param_scheduler'),
        ('val_evalautor = None', 'val_evalautor', 'val_evaluator'),
    ],
)
def test_a_misspelt_key_is_refused_though_the_base_has_the_right_one(read, text, key, meant):
    with pytest.raises(ConfigError, match=f"^{key}: no such key; did you mean '{meant}'\\?$"):
        read(text)
    assert read(text.replace(key, meant))


OLD = """
optimizer = dict(lr=0.1)
total_epochs = 1
data = dict(samples_per_gpu=8)
lr_config = dict(policy='step')
"""
NEW = """
optim_wrapper = dict(optimizer=dict(lr=0.1))
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=8)
param_scheduler = dict(_delete_=True, type='StepLR', step_size=1)
"""


@tries('which nothing reads now; write {}')
def test_keys_of_mmcv_1_are_refused_with_what_replaces_each(read):
    with pytest.raises(ConfigError) as error:
        read(OLD)
    assert str(error.value) == (
        'optimizer, lr_config, data, total_epochs: of mmcv 1.x, which nothing reads now; write '
        'optim_wrapper.optimizer for optimizer, param_scheduler for lr_config, train_dataloader, '
        'val_dataloader and test_dataloader for data, train_cfg.max_epochs for total_epochs'
    )
    assert read(NEW).optim_wrapper.optimizer.lr == 0.1


@pytest.mark.parametrize('key', OLD_KEYS)
def test_each_old_key_is_known(read, key):
    with pytest.raises(ConfigError, match=f'; write .* for {key}$'):
        read(f'{key} = dict(own=1)')


@pytest.mark.parametrize(
    'text',
    [
        'optimizer = dict(lr=0.1)\noptim_wrapper = dict(optimizer=optimizer)',
        'total_epochs = 1\ntrain_cfg = dict(max_epochs=total_epochs)',
        'lr_config = None',
        'train_pipeline2 = []',
        'model_1 = dict(a=1)',
        "img_scale = (32, 32)\nnorm_cfg = dict(type='BN')\nmax_epochs = 3\nclasses = ['a', 'b']",
        "param_schedulers = []\nparam_scheduler = {'_delete_': True, 'type': 'StepLR', "
        "'step_size': len(param_schedulers) + 1}",
    ],
)
def test_names_for_a_config_s_own_use_pass(read, text):
    assert read(text)


def test_a_config_that_was_written_down_passes(read, tmp_path):
    """All its names stand there, and nothing reads them any more."""
    cfg = read('optimizer = dict(lr=0.1)\noptim_wrapper = dict(optimizer=optimizer)')
    for name in ('written.py', 'written.json'):
        cfg.dump(str(tmp_path / name))
        assert load_config(str(tmp_path / name), []).optimizer.lr == 0.1


def test_what_a_package_ships_passes(base, tmp_path):
    """Configs of mmpretrain and mmdet have leftovers of mmcv 1.x; a user's own keys are seen."""
    folder = tmp_path / '.mim' / 'configs'
    folder.mkdir(parents=True)
    (folder / 'theirs.py').write_text(f'_base_ = {str(base)!r}\ndata = dict(samples_per_gpu=8)')
    assert load_config(str(folder / 'theirs.py'), [])
    own = tmp_path / 'own.py'
    own.write_text("_base_ = '.mim/configs/theirs.py'\nlr_config = dict(policy='step')")
    with pytest.raises(ConfigError, match=r'^lr_config: of mmcv'):
        load_config(str(own), [])


def test_a_misspelt_key_of_json_is_refused(base, tmp_path):
    cfg = Config.fromfile(base)
    cfg.train_dataloder = {'batch_size': 3}
    cfg.dump(str(tmp_path / 'mine.json'))
    with pytest.raises(ConfigError, match=r"^train_dataloder: .* did you mean 'train_dataloader'"):
        load_config(str(tmp_path / 'mine.json'), [])


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_no_config_of_ours_is_refused(path):
    check_top_level(Config.fromfile(path), str(path))
