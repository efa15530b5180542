"""Eight bits: what is in them, what they cost and save, on processors that saturate too."""

import re
import time

import cv2
import numpy as np
import onnx
import pytest
import torch
from networks import as_trained
from programs import load_tool
from students import DIGITS, PSLT, VIT
from torch import nn

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import ConfigError
from effvit_mm.inference.calibration import find_calibration
from effvit_mm.inference.export import LoadedNetwork, load_network
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_classifier
from effvit_mm.runtime import FORMATS, DeployedNetwork, quantised
from effvit_mm.runtime.openvino_core import core
from effvit_mm.utils import processor

INT8 = {'onnx-int8': runtime.ONNXSession, 'openvino-int8': runtime.OpenVINOSession}
# Values of weights in eight bits for which 255 * (w + w') fits into 16 bits.
HALF = 64


def small_network():
    """Two layers with weights."""
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return DeployedNetwork(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), *pooled, nn.Linear(8, 5))
    )


def castling():
    torch.manual_seed(0)
    model = effvit_mm.create_model('castling_deit_tiny', num_classes=7, arch=VIT)
    return DeployedNetwork(as_trained(model))


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    generator = np.random.default_rng(0)
    for number in range(12):
        array = generator.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'{number:02}.png'), cv2.resize(array, (60, 50)))
    return folder


def onnx_products(path):
    """Weights of each product in eight bits, and the number of those in float32."""
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    weights, exact = [], 0
    for node in (n for n in graph.node if n.op_type in ('Conv', 'MatMul', 'Gemm')):
        pair = [makers.get(name) for name in node.input[:2]]
        if any(maker is None or maker.op_type != 'DequantizeLinear' for maker in pair):
            exact += 1
            continue
        activation, weight = (onnx.numpy_helper.to_array(stored[m.input[2]]) for m in pair)
        assert (activation.dtype, weight.dtype) == (np.uint8, np.int8) and not weight.any()
        weights.append(onnx.numpy_helper.to_array(stored[pair[1].input[0]]))
    return weights, exact


def openvino_products(path):
    """The same of a file of OpenVINO."""
    weights, exact = [], 0
    for node in core().read_model(path).get_ops():
        if node.get_type_name() not in ('Convolution', 'GroupConvolution', 'MatMul'):
            continue
        activation, weight = (value.get_node() for value in node.input_values())
        while activation.get_type_name() in ('Reshape', 'Transpose', 'Broadcast'):
            activation = activation.input_value(0).get_node()
        while weight.get_type_name() in ('Reshape', 'Multiply', 'Subtract', 'Convert'):
            weight = weight.input_value(0).get_node()
        if weight.get_type_name() != 'Constant' or weight.data.dtype != np.int8:
            exact += 1
            continue
        assert activation.get_type_name() == 'FakeQuantize'
        weights.append(weight.data)
    return weights, exact


PRODUCTS = {'onnx-int8': onnx_products, 'openvino-int8': openvino_products}


@pytest.mark.parametrize('kind', INT8)
def test_eight_bits_of_a_folder(kind, pictures, tmp_path):
    path = tmp_path / f'a{FORMATS[kind].suffix}'
    source = castling()
    known, others = find_calibration(LoadedNetwork(source), (64, 64), 128, pictures)
    found = FORMATS[kind].write(source, path, (64, 64), known, others)
    assert (found.calibrated, found.compared, found.accuracy) == (6, 6, None)
    weights, exact = PRODUCTS[kind](path)
    assert len(weights) >= 4 * 4 + 2  # qkv, proj, fc1, fc2 of four blocks; patches and head
    # Attention's two products of four blocks, and depthwise convolutions in OpenVINO.
    assert exact == 2 * 4 + (3 if kind == 'openvino-int8' else 0)
    # Without VNNI, x86-64 adds two products in 16 bits, whatever stands beside what.
    largest = [np.sort(np.abs(weight.astype(int)), axis=None)[-2:] for weight in weights]
    assert 255 * np.sum(largest, axis=1).max() <= np.iinfo(np.int16).max
    assert all(weight.max() >= 60 or weight.min() <= -60 for weight in weights)  # and no less
    # The figures are those of the file against PyTorch.
    x = torch.cat([batch for batch, _ in others])
    with torch.no_grad():
        want = source(x)[0].numpy()
    (got,) = INT8[kind](path)(x)
    deviation = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert found.deviation == pytest.approx(deviation, rel=1e-2) and 0 < deviation < 0.05
    assert found.agreement == np.mean(got.argmax(1) == want.argmax(1))
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert found.sizes[1] == written < found.sizes[0]


@pytest.mark.parametrize('kind', INT8)
def test_a_squeeze_gives_the_same_at_each_start(kind, tmp_path):
    """Two layers on a row an image: OpenVINO 2026.4.1 gives other numbers each time in int8."""
    torch.manual_seed(0)
    model = effvit_mm.create_model('pslt_tiny', num_classes=5, arch=PSLT, shifts=(0, -3))
    network = DeployedNetwork(as_trained(model))
    path = tmp_path / f'a{FORMATS[kind].suffix}'
    images = [(noise(1, 3, 32, 32), None) for _ in range(4)]
    found = FORMATS[kind].write(network, path, (32, 32), images, images)
    outputs = [INT8[kind](path)(noise(3, 3, 32, 32))[0] for _ in range(6)]
    assert all(np.array_equal(output, outputs[0]) for output in outputs)
    assert found.deviation < 0.05


@pytest.mark.parametrize('kind', ['int8', 'openvino-int8'])  # the first is onnx-int8's former name
def test_eight_bits_of_a_config(kind, tmp_path, capsys):
    """Digits: ranges of training images, top-1 on the test images before and after."""
    config = tmp_path / 'digits.py'
    config.write_text(
        f"_base_ = ['{DIGITS}']\nmodel = dict(head=dict(in_channels=192), backbone=dict("
        f"_delete_=True, type='effvit_mm.PSLT', arch={PSLT}, shifts=(0, -3), mask_padding=True))\n"
    )
    torch.manual_seed(0)
    model = as_trained(build_classifier(load_config(str(config), []), 'digits'))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    full = {'int8': 'onnx-int8'}.get(kind, kind)
    out = tmp_path / f'a{FORMATS[full].suffix}'
    arguments = [str(config), str(tmp_path / 'epoch_1.pth'), '--format', kind, '--out', str(out)]
    assert load_tool('deployment/export').main([*arguments, '--images', '20']) == 0
    output = capsys.readouterr().out
    loaded = load_network(str(config), tmp_path / 'epoch_1.pth')
    _, others = find_calibration(loaded, (32, 32), 1)
    session = INT8[full](out)
    said = re.search(r'top-1 (\S+) % in float32, (\S+) % in int8', output)
    with torch.no_grad():
        pairs = [(loaded.network(x)[0].numpy(), session(x)[0], labels) for x, labels in others]
    exact, rounded, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    assert len(labels) > 300
    # Of nearly equal logits rounding chooses the better: such an image may count or not.
    for logits, step, figure in zip((exact, rounded), (1e-4, 2e-2), said.groups(), strict=True):
        second, first = np.sort(logits)[:, -2:].T
        sure = first - second > step * np.abs(logits).max()
        hits = logits.argmax(1) == labels
        assert sure.mean() > 0.9
        assert (hits & sure).mean() <= float(figure) / 100 + 1e-4
        assert float(figure) / 100 - 1e-4 <= (hits | ~sure).mean()
    assert 'ranges of 20 images; on' in output and ' ms an image in float32, ' in output


def test_what_a_file_of_openvino_says_of_itself(tmp_path):
    images = [(noise(2, 3, 20, 20), None)]
    path = tmp_path / 'a.xml'
    runtime.export_openvino_int8(small_network(), path, (20, 20), images, images)
    model = core().read_model(path)
    said = {key: model.get_rt_info(['effvit_mm', key]).astype(str) for key in ('mean', 'int8')}
    assert said['mean'] == '123.675 116.28 103.53' and '-64 to 63' in said['int8']


def test_the_time_of_each_file_is_its_own():
    slow, fast = (lambda x, pause=pause: time.sleep(pause) for pause in (4e-3, 1e-3))
    first, second = quantised._seconds([slow, fast], (8, 8))
    assert first >= 4e-3 and 1e-3 <= second < first


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize('kind', INT8)
@pytest.mark.parametrize('missing', ['calibration', 'comparison'])
def test_there_must_be_images(kind, missing, tmp_path):
    images = {name: [(noise(2, 3, 20, 20), None)] for name in ('calibration', 'comparison')}
    images[missing] = []
    with pytest.raises(ConfigError, match=f'^{missing}: there are no images'):
        FORMATS[kind].write(
            small_network(), tmp_path / f'a{FORMATS[kind].suffix}', (20, 20), **images
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('kind', 'package'),
    [('onnx-int8', 'onnxruntime'), ('openvino-int8', 'openvino'), ('openvino-int8', 'nncf')],
)
def test_a_missing_package_is_named(kind, package, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, package, None)
    path = tmp_path / f'a{FORMATS[kind].suffix}'
    with pytest.raises(
        runtime.ExportError, match=rf"^the package {package} is missing .*pip install '[^\n]*$"
    ):
        FORMATS[kind].write(small_network(), path, (20, 20), [], [])


# --- The processor ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('flags', 'features'),
    [
        ('sse2 avx2', ('AVX2',)),
        ('avx2 avx_vnni', ('AVX2', 'VNNI')),
        ('avx2 avx512f avx512_vnni avx512_bf16', ('AVX2', 'AVX-512', 'VNNI', 'bfloat16')),
        ('avx512f avx512_vnni avx_vnni amx_bf16 amx_int8', ('AVX-512', 'VNNI', 'AMX')),
        ('avx2_and_more', ()),
    ],
)
def test_features_of_a_processor(flags, features, tmp_path, monkeypatch):
    info = tmp_path / 'cpuinfo'
    info.write_text(f'processor\t: 0\nmodel name\t: Fast One\nflags\t\t: fpu {flags}\n\n')
    monkeypatch.setattr(processor, 'INFO', info)
    assert processor.processor_features() == features
    assert processor.processor_name() == 'Fast One'


def test_a_system_that_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, 'INFO', tmp_path / 'nothing')
    assert processor.processor_features() == () and processor.processor_name()


@pytest.mark.parametrize('flags', ['avx2', 'avx2 avx_vnni'])
def test_eight_bits_that_are_no_faster_are_told(flags, tmp_path, monkeypatch):
    info = tmp_path / 'cpuinfo'
    info.write_text(f'flags\t\t: {flags}\n\n')
    monkeypatch.setattr(processor, 'INFO', info)
    describe = load_tool('deployment/export').describe_int8
    cost = quantised.Quantised(8, 8, 0.02, 0.999, None, None, (4, 1), (1.0, 1.15))
    *_, last = describe(cost).splitlines()
    assert last.startswith('eight bits are no faster than float32 on this processor')
    assert last.endswith(', which has no VNNI') == ('vnni' not in flags)
    assert 'no faster' not in describe(cost._replace(seconds=(1.0, 0.9)))


# --- The table --------------------------------------------------------------------------------


def test_the_table_of_eight_bits(pictures, monkeypatch, capsys):
    """A row for each model and format; what has no accuracy says so."""
    from benchmarks import eight_bits

    monkeypatch.setattr(
        'effvit_mm.inference.export.load_network',
        lambda *_: LoadedNetwork(small_network()),
    )
    arguments = ['--model', 'small', '--shape', '20', '20', '--calibration', str(pictures)]
    assert eight_bits.main(arguments) == 0
    machine, _, header, _, *rows = capsys.readouterr().out.splitlines()
    assert 'openvino 20' in machine and 'nncf 3' in machine
    cells = [row.strip('| ').split(' | ') for row in rows]
    assert [row[1] for row in cells] == list(INT8) and {row[2] for row in cells} == {'20 x 20'}
    assert {len(row) for row in cells} == {header.count('|') - 1}
    assert {row[3] for row in cells} == {'-'} and all(float(row[-1]) > 0 for row in cells)
    assert eight_bits.main(['--model', 'small']) == 2
    assert '--shape H W is needed: small does not say' in capsys.readouterr().err
