"""Compiled networks: called as the network is, kept once made, refused where they cannot serve."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch
from networks import as_trained, deviation
from students import NETWORKS, VIT
from torch import nn

import effvit_mm
from effvit_mm.errors import ConfigError, UserError
from effvit_mm.runtime import RUNTIMES, DeployedNetwork, ExportError, aoti, cache


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def family(name):
    torch.manual_seed(0)
    return as_trained(effvit_mm.create_model(name, num_classes=7, **NETWORKS[name]))


class Small(nn.Module):
    """A list and a tuple of outputs, one of them nested."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.scale = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5), scale

    def forward(self, x):
        x = self.conv(x).relu() * self.scale
        return [x, (self.linear(x.mean((2, 3))), x.amax((2, 3)))]


# --- Numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_openvino_of_each_family(name, tmp_path):
    """Against the network as it was trained."""
    model = family(name)
    fast = effvit_mm.compile(model, size=(70, 96), cache=tmp_path)
    for batch in (1, 3):
        x = noise(batch, 3, 70, 96)
        assert deviation([fast(x)], [model(x)]) < 1e-4
    assert model.training is False and not any(m.deployed for m in model.modules() if is_net(m))


def is_net(module):
    return hasattr(type(module), 'deployed')


COMPILER = any(map(shutil.which, aoti.COMPILERS))
HERE = [name for name in RUNTIMES if COMPILER or name != 'inductor']


@pytest.mark.parametrize('runtime', ['torch', *HERE])
@torch.no_grad()
def test_outputs_are_nested_as_the_networks(runtime, tmp_path):
    model = Small().eval()
    fast = effvit_mm.compile(model, runtime, size=(20, 31), cache=tmp_path)
    for batch in (1, 2, 5):
        got, want = fast(noise(batch, 3, 20, 31)), model(noise(batch, 3, 20, 31))
        assert isinstance(got, list) and isinstance(got[1], tuple)
        assert deviation([got[0], *got[1]], [want[0], *want[1]]) < 1e-4


TWO_BLOCKS = {**VIT, 'depths': (1, 0, 0, 1)}


@pytest.mark.parametrize('runtime', ['openvino', 'onnxruntime'])
@torch.no_grad()
def test_any_size(runtime, tmp_path):
    """More sizes than get a compiled model of their own, and back to the first."""
    torch.manual_seed(0)
    model = as_trained(effvit_mm.create_model('castling_deit_tiny', 7, arch=TWO_BLOCKS))
    fast = effvit_mm.compile(model, runtime, size=(70, 96), any_size=True, cache=tmp_path)
    for size in ((70, 96), (97, 128), (66, 81), (80, 80), (112, 96), (100, 70), (70, 96)):
        x = noise(2, 3, *size)
        assert deviation([fast(x)], [model(x)]) < 1e-4, size


@torch.no_grad()
def test_sizes_as_they_come(tmp_path):
    """The first alone, the others by one graph; windows that are cut need one for each size."""
    for windows, count in (({}, 2), ({'window_size': 3, 'global_blocks': (1,)}, 3)):
        torch.manual_seed(0)
        model = effvit_mm.create_model('deit_tiny', 7, arch=TWO_BLOCKS, **windows).eval()
        fast = effvit_mm.compile(model, cache=tmp_path / str(count))
        for size in ((70, 96), (97, 128), (66, 81), (70, 96)):
            x = noise(1, 3, *size)
            assert deviation([fast(x)], [model(x)]) < 1e-4, size
        assert len(entries(tmp_path / str(count))) == count


@torch.no_grad()
def test_a_file_alone(tmp_path):
    model = family('deit_tiny_distilled')
    effvit_mm.runtime.export_openvino(DeployedNetwork(model), tmp_path / 'a.xml', (70, 96))
    fast, x = effvit_mm.open_compiled(tmp_path / 'a.xml'), noise(3, 3, 70, 96)
    assert deviation([fast(x)], [model(x)]) < 1e-4


@torch.no_grad()
def test_bf16_is_asked_for(tmp_path):
    """Left alone, OpenVINO would compute in bfloat16 where it can."""
    model, x = family('deit_tiny_distilled'), noise(1, 3, 70, 96)
    make = {'size': (70, 96), 'cache': tmp_path}
    try:
        rough = effvit_mm.compile(model, precision='bf16', **make)(x)
    except ConfigError as error:
        assert 'no bfloat16 instructions' in str(error)
    else:
        assert 1e-4 < deviation([rough], [model(x)]) < 5e-2
    assert deviation([effvit_mm.compile(model, **make)(x)], [model(x)]) < 1e-5


# --- The cache --------------------------------------------------------------------------------


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


@torch.no_grad()
def test_found_again_by_weights_options_and_sizes(tmp_path, monkeypatch):
    def make(model, size=(20, 31), **options):
        effvit_mm.compile(model.eval(), size=size, cache=tmp_path, **options)
        return len(entries(tmp_path))

    assert make(Small()) == 1
    changed = Small()
    changed.linear.bias[0] += 1e-3
    assert make(changed) == 2
    assert make(Small(scale=2.0)) == 3  # no weight, and nothing that repr() shows
    assert make(Small(), (20, 32)) == 4
    assert make(Small(), any_size=True) == 5
    assert make(Small(), runtime='onnxruntime') == 6
    monkeypatch.setattr(DeployedNetwork, 'metadata', None)  # nothing is written from here on
    assert make(Small()) == make(changed) == make(Small(scale=2.0)) == 6
    assert make(Small(), INFERENCE_NUM_THREADS=1) == 6


@pytest.mark.parametrize('damage', ['cut', 'missing', 'other', 'description'])
@torch.no_grad()
def test_a_damaged_entry_is_made_anew(damage, tmp_path, caplog):
    x, model = noise(1, 3, 20, 31), Small().eval()
    effvit_mm.compile(model, size=(20, 31), cache=tmp_path)
    (entry,) = tmp_path.iterdir()
    weights = entry / 'network.bin'
    if damage == 'cut':
        weights.write_bytes(weights.read_bytes()[:-40])
    elif damage == 'missing':
        weights.unlink()
    elif damage == 'other':
        weights.write_bytes(bytes(weights.stat().st_size))
    else:
        (entry / cache.DESCRIPTION).write_text(json.dumps({'key': 'of another network'}))
    with caplog.at_level(logging.WARNING):
        fast = effvit_mm.compile(model, size=(20, 31), cache=tmp_path)
    assert 'damaged, or of another network: it is made anew' in caplog.text
    assert deviation([fast(x)[0]], [model(x)[0]]) < 1e-4
    assert len(entries(tmp_path)) == 1


def test_what_compiles_is_silent(pythons, tmp_path):
    """OpenVINO logs operators that it looks for, without a logger and with tracebacks."""
    code = f"""
import logging
import effvit_mm
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.UpsamplingNearest2d(scale_factor=2))
effvit_mm.compile(model, size=(20, 24), cache={str(tmp_path)!r})
assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING
"""
    done = pythons.run('-c', code)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import effvit_mm
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = effvit_mm.create_model('levit_128s').eval()
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
try:
    effvit_mm.compile(model, sys.argv[2], size=(64, 64), cache=sys.argv[1])
except effvit_mm.errors.UserError as error:
    print(str(error))
"""


@pytest.mark.parametrize('runtime', ['openvino', 'onnxruntime'])
def test_a_disk_that_fills_up(runtime, pythons, tmp_path):
    """No file may grow beyond two megabytes: one line, and nothing half-written."""
    done = pythons.run('-c', FULL_DISK, tmp_path / 'cache', runtime)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1 and 'cannot be ' in lines[0], done.stdout
    assert not entries(tmp_path / 'cache')


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'cache=.*is a file, where a folder is needed'):
        effvit_mm.compile(Small().eval(), size=(20, 31), cache=tmp_path / 'file')


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'runtime': 'tensorrt'}, "runtime='tensorrt': allowed are torch, openvino"),
        ({'precision': 'fp16'}, "precision='fp16': openvino has fp32, bf16"),
        ({'runtime': 'onnxruntime', 'precision': 'bf16'}, "precision='bf16': onnxruntime has fp32"),
        ({'size': None, 'any_size': True}, 'any_size=True: an example is needed'),
        ({'size': (0, 31)}, 'size 0 31: height and width of 1 or more'),
        ({'size': 32}, 'size=32: height and width of the images are needed'),
        ({'FOO': 1}, 'option FOO=1: .*Unsupported property FOO'),
        ({'NUM_STREAMS': 'a'}, "option NUM_STREAMS='a': "),
        ({'INFERENCE_PRECISION_HINT': 'bf16'}, 'give precision= instead'),
        ({'runtime': 'onnxruntime', 'threads': 1}, 'option threads=1: '),
        ({'runtime': 'onnxruntime', 'intra_op_num_threads': 'x'}, "intra_op_num_threads='x': "),
        ({'runtime': 'torch', 'threads': 1}, 'option threads: torch takes none'),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        effvit_mm.compile(Small().eval(), **{'size': (20, 31), 'cache': tmp_path, **arguments})
    assert not list(tmp_path.iterdir())  # it was known before the work


@pytest.mark.parametrize('runtime', HERE)
def test_images_that_the_file_was_not_made_for(runtime, tmp_path):
    fast = effvit_mm.compile(Small().eval(), runtime, size=(20, 31), cache=tmp_path)
    with pytest.raises(ConfigError, match=r'images of 31 x 20 pixels: .* was made for 20 x 31'):
        fast(noise(1, 3, 31, 20))
    for images in (noise(0, 3, 20, 31), noise(3, 20, 31), noise(1, 3, 20, 31).double()):
        with pytest.raises(ConfigError, match='one or more in float32, '):
            fast(images)


@pytest.mark.parametrize('runtime', ['openvino', 'onnxruntime'])
def test_a_missing_runtime_is_named(runtime, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(ExportError, match=rf"package {runtime} is missing.*pip install '"):
        effvit_mm.compile(Small().eval(), runtime, size=(20, 31), cache=tmp_path)


@pytest.mark.parametrize('suffix', ['.xml', '.onnx', '.pt2'])
def test_files_that_cannot_be_read(suffix, tmp_path):
    path = tmp_path / f'a{suffix}'
    with pytest.raises(ExportError, match='there is no such file'):
        effvit_mm.open_compiled(path)
    path.write_bytes(b'<net version="11"><layers><layer id=')
    with pytest.raises(ExportError, match='cannot be read, it is cut short or of another kind'):
        effvit_mm.open_compiled(path)
    with pytest.raises(ConfigError, match=r'ending in \.xml, \.onnx, \.pt2 is'):
        effvit_mm.open_compiled(Path('a.pth'))
