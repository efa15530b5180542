"""What is read as data stays data: no second try, no old torch, no file outside a model's own."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from remedies import tries
from safetensors.torch import save_file
from torch.torch_version import TorchVersion
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import CheckpointError
from effvit_mm.openmm import cli
from effvit_mm.runtime.graph import ExportError
from effvit_mm.runtime.onnx import ONNXSession
from effvit_mm.runtime.openvino import OpenVINOSession
from effvit_mm.weights import (
    allow_training_logs,
    read_checkpoint,
    safe_unpickling,
    unpickling_nothing,
)

OLD, SAFE = TorchVersion('2.9.1'), TorchVersion('2.10.0')


class Trap:
    """Unpickling this makes an empty file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'a')


@pytest.fixture
def trap(tmp_path) -> Path:
    return tmp_path / 'trap'


# No second try --------------------------------------------------------------------------------


def test_mmengines_reader_does_not_try_again(tmp_path, trap):
    from mmengine.runner.checkpoint import load_from_local

    torch.save({'state_dict': {}, 'note': Trap(trap)}, tmp_path / 'bad.pth')
    with unpickling_nothing(), pytest.raises(pickle.UnpicklingError):
        load_from_local(str(tmp_path / 'bad.pth'), None)
    with unpickling_nothing(), pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'bad.pth', weights_only=False)
    assert not trap.exists()
    with unpickling_nothing():
        read_checkpoint(tmp_path / 'bad.pth', trust=True)  # one that is asked for by name
        assert os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] == '1'
    assert trap.exists() and 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


@pytest.mark.parametrize(
    'flag', ['TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD']
)
def test_a_users_own_switch_stays(monkeypatch, flag):
    monkeypatch.setenv(flag, '1')
    before = dict(os.environ)
    with unpickling_nothing():
        assert dict(os.environ) == before
    assert dict(os.environ) == before


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('data'), train=1, val=1)


def test_weights_for_a_module_of_another_package(tmp_path, pictures, trap, capfd):
    config = write_config(tmp_path / 'tiny.py', pictures)
    file = tmp_path / 'bad.pth'
    argv = [
        str(config), '--work-dir', str(tmp_path / 'w'), '--no-validate', '--cfg-options',
        'train_cfg.max_epochs=1', 'model.backbone.init_cfg.type=Pretrained',
        f'model.backbone.init_cfg.checkpoint={file}',
    ]  # fmt: skip
    torch.save({'state_dict': {'conv1.weight': torch.ones(1)}, 'note': Trap(trap)}, file)
    forget_runs()
    assert cli.train(argv) == 2
    err = capfd.readouterr().err
    assert f'checkpoint {file} holds more than weights' in err and 'Traceback' not in err
    assert not trap.exists()
    forget_runs()
    assert cli.train([*argv[:-4], '--trust-checkpoint', *argv[-4:]]) == 0
    assert trap.exists()


# An old torch ---------------------------------------------------------------------------------


@tries('; install "torch>={}", or take a .safetensors file, or set {}=1 where all such')
def test_an_old_torch_reads_no_pickled_file(tmp_path, monkeypatch):
    state = {'w': torch.ones(3)}
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    save_file(state, tmp_path / 'a.safetensors')
    monkeypatch.delenv('EFFVIT_MM_OWN_CHECKPOINTS', raising=False)
    monkeypatch.setattr(torch, '__version__', OLD)
    with pytest.raises(CheckpointError, match=r'torch 2\.9\.1 can be made .* "torch>=2\.10"'):
        read_checkpoint(tmp_path / 'a.pth')
    shutil.copy(tmp_path / 'a.pth', tmp_path / 'a.bin')
    with pytest.raises(CheckpointError, match='so it was refused'):
        read_checkpoint(tmp_path / 'a.bin')
    assert read_checkpoint(tmp_path / 'a.safetensors')['state_dict'].keys() == {'w'}
    for name in ('own', 'trust'):
        assert read_checkpoint(tmp_path / 'a.pth', **{name: True})['state_dict'].keys() == {'w'}
    monkeypatch.setenv('EFFVIT_MM_OWN_CHECKPOINTS', '1')
    assert read_checkpoint(tmp_path / 'a.pth')['state_dict'].keys() == {'w'}
    monkeypatch.delenv('EFFVIT_MM_OWN_CHECKPOINTS')
    monkeypatch.setattr(torch, '__version__', SAFE)
    assert read_checkpoint(tmp_path / 'a.pth')['state_dict'].keys() == {'w'}


def test_with_the_users_word_an_old_torch_still_reads_weights_alone(tmp_path, monkeypatch, trap):
    torch.save({'state_dict': {}, 'note': Trap(trap)}, tmp_path / 'bad.pth')
    monkeypatch.setattr(torch, '__version__', OLD)
    monkeypatch.setenv('EFFVIT_MM_OWN_CHECKPOINTS', '1')
    for own in (False, True):
        with pytest.raises(CheckpointError, match='holds more than weights'):
            read_checkpoint(tmp_path / 'bad.pth', own=own)
    assert not trap.exists()


def test_an_old_torch_resumes_its_own_training(tmp_path, pictures, monkeypatch, capfd):
    config, work = write_config(tmp_path / 'tiny.py', pictures), tmp_path / 'w'

    def train(*flags: str, epochs: int) -> int:
        forget_runs()
        options = '--no-validate', '--cfg-options', f'train_cfg.max_epochs={epochs}'
        return cli.train([str(config), '--work-dir', str(work), *flags, *options])

    assert train(epochs=1) == 0
    shutil.copy(work / 'epoch_1.pth', tmp_path / 'elsewhere.pth')
    monkeypatch.delenv('EFFVIT_MM_OWN_CHECKPOINTS', raising=False)
    monkeypatch.setattr(torch, '__version__', OLD)
    assert train('--resume', epochs=2) == 0
    assert (work / 'epoch_2.pth').is_file()
    assert train('--resume', str(work / 'epoch_1.pth'), epochs=2) == 0
    capfd.readouterr()
    assert train('--resume', str(tmp_path / 'elsewhere.pth'), epochs=2) == 2
    assert 'elsewhere.pth: torch 2.9.1 can be made' in capfd.readouterr().err


# Weights of an ONNX file in another file ------------------------------------------------------

SESSIONS = pytest.mark.parametrize('session', [ONNXSession, OpenVINOSession])


def make_onnx(path: Path, location: str, where: str = 'initializer') -> None:
    """A file that adds what is at ``location``, named in one of the places that have tensors."""
    onnx = pytest.importorskip('onnx')
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    shape = ['N', 3, 4, 4]
    tensor = onnx.TensorProto(name='w', data_type=floats, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key='location', value=location)
    values = [helper.make_tensor_value_info(name, floats, shape) for name in ('images', 'outputs')]
    add = helper.make_node('Add', ['images', 'w'], ['outputs'])
    constant = helper.make_node('Constant', [], ['w'], value=tensor)
    nodes = [add] if where == 'initializer' else [constant, add]
    if where == 'branch':
        inner = helper.make_graph([constant, add], 'inner', [], values[1:])
        yes = helper.make_tensor('yes', onnx.TensorProto.BOOL, [], [True])
        choice = helper.make_node('Constant', [], ['yes'], value=yes)
        branches = {'then_branch': inner, 'else_branch': inner}
        nodes = [choice, helper.make_node('If', ['yes'], ['outputs'], **branches)]
    graph = helper.make_graph(nodes, 'g', values[:1], values[1:])
    if where == 'initializer':
        graph.initializer.append(tensor)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())


@SESSIONS
@pytest.mark.parametrize('where', ['initializer', 'constant', 'branch'])
@pytest.mark.parametrize('location', ['../secret.bin', '{}/secret.bin', 'link.bin'])
def test_an_onnx_file_reads_no_other_file(tmp_path, session, where, location):
    np.float32([7]).tofile(tmp_path / 'secret.bin')
    folder = tmp_path / 'model'
    folder.mkdir()
    (folder / 'link.bin').symlink_to(tmp_path / 'secret.bin')
    make_onnx(folder / 'm.onnx', location.format(tmp_path), where)
    with pytest.raises(ExportError, match=r"m\.onnx: the weights of 'w' are in another file"):
        session(folder / 'm.onnx')


@SESSIONS
@tries('; if they are yours, put them inside with onnx.save(onnx.load(path), path)')
def test_weights_are_put_inside(tmp_path, session):
    onnx = pytest.importorskip('onnx')
    path = tmp_path / 'm.onnx'
    np.float32([7]).tofile(tmp_path / 'own.bin')
    make_onnx(path, 'own.bin')
    with pytest.raises(ExportError, match=r'with onnx\.save\(onnx\.load\(path\), path\)'):
        session(path)
    onnx.save(onnx.load(path), path)
    (tmp_path / 'own.bin').unlink()
    (found,) = session(path)(torch.zeros(1, 3, 4, 4))
    assert (found == 7).all()


@SESSIONS
@pytest.mark.parametrize('content', [b'', b'\x3a', b'\xff' * 500, b'\x3a\xff\xff\x7f\x01', b'no'])
def test_broken_onnx_files_are_still_named(tmp_path, session, content):
    (tmp_path / 'm.onnx').write_bytes(content)
    with pytest.raises(ExportError, match=r'm\.onnx cannot be read'):
        session(tmp_path / 'm.onnx')


def test_what_is_allowed_for_good_stays_allowed():
    """PyTorch's own context takes away, when it is left, what had been allowed before it."""
    before = torch.serialization.get_safe_globals()
    try:
        allow_training_logs()
        allowed = torch.serialization.get_safe_globals()
        with safe_unpickling():
            assert set(torch.serialization.get_safe_globals()) == set(allowed)
        assert set(torch.serialization.get_safe_globals()) == set(allowed)
        torch.serialization.clear_safe_globals()
        with safe_unpickling():
            assert torch.serialization.get_safe_globals()
        assert not torch.serialization.get_safe_globals()
    finally:
        torch.serialization.add_safe_globals(before)
