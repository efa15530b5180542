"""Configs are written down so that they can be read again; optimizers fit what they are given."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.weights import read_checkpoint


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    forget_runs()
    extra = "train_cfg.update(max_epochs=1)\nown = dict(limits=[1.5, float('nan')])\n"
    return write_config(tmp_path / 'c.py', make_folder(tmp_path / 'data', 3, 2), extra)


def train(config: Path, *options: str) -> int:
    return cli.train([str(config), '--work-dir', 'w', '--cfg-options', *options])


def test_numbers_without_end_are_read_again(config):
    clip = 'optim_wrapper.clip_grad'
    assert train(config, f'{clip}.max_norm=1.0', f'{clip}.norm_type=inf') == 0
    Path('from_checkpoint.py').write_text(read_checkpoint('w/epoch_1.pth')['meta']['cfg'])
    for path in ('w/c.py', 'from_checkpoint.py'):
        cfg = load_config(path, [])
        assert cfg.optim_wrapper.clip_grad == {'max_norm': 1.0, 'norm_type': math.inf}
        assert cfg.own.limits[0] == 1.5 and math.isnan(cfg.own.limits[1])
    forget_runs()
    assert cli.test(['w/c.py', 'w/epoch_1.pth', '--work-dir', 't']) == 0


def test_muon_names_what_it_cannot_take_and_what_can(config, capfd):
    muon = ('optim_wrapper.optimizer.type=Muon', 'optim_wrapper.optimizer.lr=0.001')
    assert train(config, *muon) == 2
    err = capfd.readouterr().err
    assert 'weights of two dimensions alone, and ' in err and 'backbone.' in err
    remedy = next(word for word in err.split() if word.endswith('timm.optim.Muon'))
    forget_runs()
    assert train(config, remedy) == 0


@tries('; give it, as optim_wrapper.optimizer.{}={}')
def test_a_factor_of_no_weight_decay(config, capfd):
    text = config.read_text().replace(', weight_decay=0.05', '')
    config.write_text(text)
    factor = 'optim_wrapper.paramwise_cfg.norm_decay_mult=0'
    assert train(config, factor) == 2
    err = capfd.readouterr().err
    assert 'weight_decay is missing: paramwise_cfg.norm_decay_mult is a factor of it' in err
    forget_runs()
    assert train(config, factor, err.split('as ')[-1].strip()) == 0


LAY_OUT = """
import sys
from effvit_mm.openmm.config import writing
if len(sys.argv) > 1:
    writing.PATIENCE = float(sys.argv[1])
writing.import_formatter()
print(writing.Config(dict(a=1)).pretty_text.strip())
"""


def test_a_formatter_whose_cache_is_empty(pythons, tmp_path):
    """As another process leaves it that is about to write it, or was killed before it did."""
    env = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
    assert pythons.run('-c', LAY_OUT, env=env).stdout == 'a = 1\n'
    (grammar,) = tmp_path.glob('YAPF/*/Grammar-*.pickle')
    whole = grammar.read_bytes()
    for content in (b'', whole[:100]):
        grammar.write_bytes(content)
        done = pythons.run('-c', LAY_OUT, '0.2', env=env)
        assert (done.stdout, done.stderr) == ('a = 1\n', '')
        assert grammar.read_bytes() == whole
    grammar.write_bytes(b'')
    waiting = pythons.start('-c', LAY_OUT, '60', env=env)
    time.sleep(1)
    assert waiting.poll() is None and grammar.read_bytes() == b''
    grammar.write_bytes(whole)
    assert (waiting.wait(), waiting.communicate()[0]) == (0, 'a = 1\n')
