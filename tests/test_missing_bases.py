"""A config whose ``_base_`` is not there, as that of a copy in another folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from remedies import said, tries

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config

SHIPPED = Path(__file__).resolve().parents[1] / 'configs' / 'pslt' / 'pslt-tiny_folder.py'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / 'my proj'
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def refused(name: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(name, [])
    assert '\n' not in str(error.value)
    return str(error.value)


@tries('; write in its place _base_ = {} and what differs')
def test_a_copy_of_a_shipped_config_is_told_to_name_the_original(folder):
    shutil.copy(SHIPPED, folder)
    line = refused(SHIPPED.name)
    missing = folder.parent / '_base_' / 'models' / 'pslt_tiny.py'
    assert said('; write in its place _base_ = {} and what differs', line) and line.startswith(
        f'config {SHIPPED.name}: its _base_ {missing} is not there, as in a copy of a config; '
    )
    own = re.search(r'write in its place (_base_ = .+) and what differs$', line)[1]
    Path(SHIPPED.name).write_text(f'{own}\ntrain_dataloader = dict(batch_size=3)\n')
    assert load_config(SHIPPED.name, []).train_dataloader.batch_size == 3


LAZY = 'from mmengine.config import read_base\nwith read_base():\n    from {} import *\n'


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('own.py', "_base_ = ['../gone/model.py']"),
        ('own.py', "_base_ = '../gone/model.yaml'"),
        ('own.json', '{"_base_": "../gone/model.py"}'),
        ('own.py', LAZY.format('..gone.model')),
    ],
)
def test_every_form_of_a_base_is_named(name, text, folder):
    Path(name).write_text(text)
    line = refused(name)
    assert line.startswith(f'config {name}: its _base_ {folder.parent}/gone/model.')
    assert "write in its place _base_ = '/path/of/the/original.py' and" in line


@pytest.mark.parametrize(
    ('text', 'meant'),
    [
        ("_base_ = './other_modle.py'", 'my proj/other_model.py'),
        (LAZY.format('.other_modle'), 'my proj/other_model.py'),
        ("_base_ = 'mmpretrain::resnet/resnet50_8xb32_in2k.py'", 'resnet/resnet50_8xb32_in1k.py'),
    ],
)
def test_a_misspelt_base_names_the_nearest(text, meant):
    Path('other_model.py').write_text('a = 1')
    Path('own.py').write_text(text)
    assert re.search(rf"; did you mean '/.+/{re.escape(meant)}'\?$", refused('own.py'))


def test_another_file_that_a_config_opens_is_no_base():
    Path('own.py').write_text("names = open('gone.json').read()")
    assert 'FileNotFoundError' in refused('own.py')
