"""Values that a config cannot be written down with are named before anything is built."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from remedies import tries
from trainer import REPOSITORY

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.config.values import make_sizes_tuples
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


# --- sizes ----------------------------------------------------------------------------------------

FOLDER = str(REPOSITORY / 'configs' / 'pslt' / '{}_pslt-tiny_folder.py')


def picture_after(cfg: Config, split: str) -> tuple[int, ...]:
    """Shape of a picture that has gone through the steps of a split's pipeline."""
    results = {'img': np.zeros((120, 200, 3), np.uint8), 'img_shape': (120, 200)}
    boxes = {
        'gt_bboxes': HorizontalBoxes(np.float32([[9, 9, 190, 110]])),
        'gt_bboxes_labels': np.int64([0]),
        'gt_ignore_flags': np.array([False]),
    }
    results |= boxes if cfg.default_scope == 'mmdet' else {}
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for step in cfg[f'{split}_dataloader'].dataset.pipeline:
            if not re.search('Load|Pack', step['type']):
                results = TRANSFORMS.build(step)(results)
    return results['img'].shape


@pytest.mark.parametrize('size', ['96,96', '[96,96]', '(96,96)'])
def test_a_size_may_be_typed_as_a_list(size):
    cfg = load_config(FOLDER.format('rtmdet'), [f'image_size={size}'])
    assert {picture_after(cfg, split) for split in ('train', 'val', 'test')} == {(96, 96, 3)}


def test_a_size_may_be_a_list_where_the_config_has_a_number(tmp_path):
    """So it is in JSON and YAML, which have no tuples."""
    cfg = load_config(
        _classifier_of(tmp_path), ['val_dataloader.dataset.pipeline.2.crop_size=64,48']
    )
    assert picture_after(cfg, 'val') == (48, 64, 3)  # mmcv's order is width, height


def _classifier_of(folder: Path) -> str:
    """The config of classes in a folder, as YAML."""
    cfg = Config.fromfile(str(REPOSITORY / 'configs' / 'pslt' / 'pslt-tiny_folder.py'))
    cfg.dump(str(folder / 'own.yaml'))
    return str(folder / 'own.yaml')


def test_choices_of_sizes_stay_choices():
    cfg = Config({'train_pipeline': [
        {'type': 'RandomChoiceResize', 'scales': [480, 512]},
        {'type': 'RandomChoice', 'transforms': [[{'type': 'A', 'scales': [[96, 64], [80, 72]]}]]},
        {'type': 'Resize', 'scale': [[640, 480], [96, 64]], 'scale_factor': [1, 2]},
        {'type': 'RandomFlip', 'prob': [0.3, 0.4]},
    ], 'model': {'backbone': {'size': [7, 7]}}})  # fmt: skip
    make_sizes_tuples(cfg)
    choice, nested, resize, flip = cfg.train_pipeline
    assert choice.scales == [480, 512]
    assert nested.transforms[0][0].scales == [(96, 64), (80, 72)]
    assert (resize.scale, resize.scale_factor) == ([(640, 480), (96, 64)], [1, 2])
    assert (flip.prob, cfg.model.backbone.size) == ([0.3, 0.4], [7, 7])


def test_a_variable_of_the_environment_is_no_news(monkeypatch, capfd, tmp_path):
    monkeypatch.setenv('COCO_FOLDER_ROOT', str(tmp_path))
    cfg = load_config(FOLDER.format('retinanet'), [])
    assert cfg.train_dataloader.dataset.data_root == str(tmp_path)
    assert capfd.readouterr() == ('', '')
