"""Values that a config cannot be written down with are named before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from remedies import tries
from trainer import REPOSITORY

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.config.writing import readable

HEAD = {
    'plain': "_base_ = './runtime.py'\n",
    'pure Python': (
        'from mmengine.config import read_base\nwith read_base():\n    from .runtime import *\n'
    ),
}
BODY = """
from functools import partial
from pathlib import Path
from torch.optim import AdamW
from mmengine.dataset import default_collate
model = dict(type='ImageClassifier', backbone=dict(norm_cfg=dict(type='BN')))
"""


@pytest.fixture(params=HEAD)
def load(tmp_path, request):
    """Read a config of either kind that ends with some lines."""
    runtime = (REPOSITORY / 'configs' / '_base_' / 'default_runtime.py').read_text()
    (tmp_path / 'runtime.py').write_text(runtime)

    def call(lines: str):
        path = tmp_path / 'own.py'
        path.write_text(HEAD[request.param] + BODY + lines)
        return load_config(str(path), [])

    return call


@tries('give dict(type=NAME, ...) with the arguments in the place of it')
@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (
            'optim_wrapper = dict(optimizer=dict(type=partial(AdamW, weight_decay=0.1), lr=1e-3))',
            r'^optim_wrapper\.optimizer\.type=functools\.partial\(.*: a functools\.partial cannot',
        ),
        (
            'train_dataloader = dict(collate_fn=partial(default_collate))',
            r'^train_dataloader\.collate_fn=functools\.partial.*give dict\(type=NAME, \.\.\.\)',
        ),
        (
            "custom_hooks = [dict(type='EMAHook', update=lambda x: x)]",
            r'^custom_hooks\.0\.update=<function <lambda>.*: it cannot be written down with',
        ),
        ('model.update(neck=object)\nmodel.update(neck=iter([1]))', r'^model\.neck=<list_iterator'),
    ],
)
def test_values_that_cannot_be_read_again(load, lines, message):
    with pytest.raises(ConfigError, match=message) as error:
        load(lines)
    assert '\n' not in str(error.value)
    if 'collate_fn' in lines:
        loader = load("train_dataloader = dict(collate_fn=dict(type='default_collate'))")
        assert loader.train_dataloader.collate_fn == {'type': 'default_collate'}


def test_paths_are_text_and_helpers_no_values(load, tmp_path):
    cfg = load(
        'def double(x):\n    return 2 * x\n\nhalf = lambda x: x / 2\n'
        "train_dataloader = dict(batch_size=double(4), dataset=dict(data_root=Path('/a') / 'b'))\n"
    )
    assert cfg.train_dataloader.dataset.data_root == str(Path('/a/b'))
    assert cfg.train_dataloader.batch_size == 8
    assert not {'double', 'half'} & set(cfg)
    written = tmp_path / 'written.py'
    readable(cfg).dump(written)
    again = load_config(str(written), [])
    assert again.train_dataloader == cfg.train_dataloader and again.model == cfg.model


def test_a_config_that_calls_what_it_has_as_a_name(tmp_path):
    (tmp_path / 'runtime.py').write_text('')
    path = tmp_path / 'own.py'
    path.write_text(HEAD['pure Python'] + 'import numpy as np\nlr = np.float64(0.1)\n')
    with pytest.raises(ConfigError, match=rf'^config {path}, line 5: it calls what it imports'):
        load_config(str(path), [])
