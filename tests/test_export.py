"""Exported files: PyTorch's numbers, at other batches and sizes too; wrong ones are refused."""

import shutil
import sys
from pathlib import Path

import coco_sets
import onnx
import onnxruntime
import pytest
import torch
from networks import as_trained, deviation
from people import make_people, write_people_config
from programs import load_tool
from remedies import tries
from students import CROSSVIT, DIGITS, LEVIT, NETWORKS, PSLT, VIT
from torch import nn

import effvit_mm
from effvit_mm import runtime as export
from effvit_mm.backbones import crossvit
from effvit_mm.errors import ConfigError
from effvit_mm.inference.export import load_network
from effvit_mm.openmm.trained import build_detector, build_reid
from effvit_mm.runtime import DeployedNetwork, aoti
from effvit_mm.runtime import onnx as onnx_format

ROOT = Path(__file__).resolve().parents[1]
# The size that a graph is made with, and others that it is to hold for: larger, smaller, and such
# that nothing is padded and position tables fit as they are.
SIZES = ((70, 96), (97, 128), (66, 81), (224, 224))
LARGE = ((230, 260), (257, 226), (225, 448), (448, 448))  # two windows of 7 x 7 at a stride of 32
# Making a graph for any size takes seconds.
OTHER_SIZES = {
    'pslt_tiny': LARGE,  # of three branches two
    'castling_mvitv2_tiny': SIZES[:1],  # what depends on sizes is in the other
}


class Small(nn.Module):
    """Two layers, for tests of what surrounds the export."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)

    def forward(self, x):
        return self.linear(self.conv(x).relu().mean((2, 3)))


# Tracing takes a second for each block: transformers of one kind of block have two, the one with
# blocks that drop tokens two of these behind one that does not.
FEW_BLOCKS = {
    'deit_tiny_distilled': {'arch': {**VIT, 'depths': (1, 0, 0, 1)}},
    'castling_deit_tiny': {'arch': {**VIT, 'depths': (1, 0, 0, 1)}},
    'lightweight_vit_tiny': {'arch': {**VIT, 'depths': (1, 1, 0, 1)}, 'sampled_blocks': (1, 2)},
}


def family(name):
    torch.manual_seed(0)
    model = effvit_mm.create_model(name, num_classes=7, **{**NETWORKS, **FEW_BLOCKS}[name])
    return as_trained(model), OTHER_SIZES.get(name, SIZES)


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def run_onnx(file, x):
    """Of a path, or of a session."""
    if isinstance(file, Path):
        file = onnxruntime.InferenceSession(file)
    return [torch.from_numpy(a) for a in file.run(None, {'images': x.numpy()})]


def run_openvino(session, x):
    return [torch.from_numpy(a) for a in session(x)]


def run_tool(arguments):
    return load_tool('deployment/export').main(arguments)


# --- Numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', [name for name in NETWORKS if name != 'castling_levit_128s'])
@torch.no_grad()
def test_onnx_of_each_family(name, tmp_path, monkeypatch):
    """Against the network as it was trained, not as it was exported: folding is checked too."""
    # CrossViT's stages are alike: one whose exchange blocks follow, and the last.
    monkeypatch.setattr(crossvit, 'NUM_STAGES', 2)
    model, sizes = family(name)
    any_size = len(sizes) > 1
    shapes = [(batch, 3, *size) for size in sizes for batch in (1, 4)]
    wanted = [model(noise(*shape)) for shape in shapes]
    path = tmp_path / 'model.onnx'
    checks = export.export_onnx(DeployedNetwork(model), path, sizes[0], any_size=any_size)
    assert {check.batch for check in checks} == {1, 2, 3}
    assert len({check.size for check in checks}) == (4 if any_size else 1)
    by_onnxruntime = onnxruntime.InferenceSession(path)
    session = export.OpenVINOSession(path)  # what OpenVINO makes of the same graph
    for shape, want in zip(shapes, wanted, strict=True):
        x = noise(*shape)
        assert deviation(run_onnx(by_onnxruntime, x), [want]) < 1e-4, shape
        assert deviation(run_openvino(session, x), [want]) < 1e-4, shape
    assert [entry.name for entry in tmp_path.iterdir()] == ['model.onnx']


def test_what_a_file_says_of_itself(tmp_path):
    export.export_onnx(
        DeployedNetwork(Small()), tmp_path / 'a.onnx', (40, 50), any_size=True, opset=18
    )
    model = onnx.load(tmp_path / 'a.onnx')
    (images_,), (logits,) = model.graph.input, model.graph.output
    dims = [d.dim_param or d.dim_value for d in images_.type.tensor_type.shape.dim]
    assert (images_.name, logits.name) == ('images', 'logits')
    assert dims == ['batch', 3, 'height', 'width']
    assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about['mean'] == '123.675 116.28 103.53' and about['channels'] == 'RGB'


@torch.no_grad()
def test_program_of_torch_export(tmp_path):
    """Its assertions on sizes, which ONNX has not, hold too."""
    model, sizes = family('castling_levit_128s')
    shapes = [(batch, 3, *size) for size in sizes for batch in (1, 4)]
    want = [model(noise(*shape)) for shape in shapes]
    export.export_program(DeployedNetwork(model), tmp_path / 'a.pt2', sizes[0], any_size=True)
    loaded = torch.export.load(tmp_path / 'a.pt2').module()
    assert deviation([loaded(noise(*shape))[0] for shape in shapes], want) < 1e-4


@torch.no_grad()
def test_package_of_machine_code(tmp_path):
    """Where there is a compiler; else the error says so."""
    path = tmp_path / 'a.pt2'
    if not any(map(shutil.which, aoti.COMPILERS)):
        with pytest.raises(export.ExportError, match='AOTInductor needs a C'):
            export.export_package(DeployedNetwork(Small()), path, (40, 50))
        return
    export.export_package(DeployedNetwork(Small()), path, (40, 50), any_size=True)
    loaded = torch._inductor.aoti_load_package(str(path))
    for shape in ((1, 3, 40, 50), (5, 3, 33, 90)):
        assert deviation(loaded(noise(*shape)), [Small()(noise(*shape))]) < 1e-4


@torch.no_grad()
def test_openvino(tmp_path):
    path = tmp_path / 'a.xml'
    export.export_openvino(DeployedNetwork(Small()), path, (40, 50), any_size=True)
    assert sorted(entry.suffix for entry in tmp_path.iterdir()) == ['.bin', '.xml']
    session = export.OpenVINOSession(path)
    for shape in ((1, 3, 40, 50), (5, 3, 33, 90)):
        assert deviation(run_openvino(session, noise(*shape)), [Small()(noise(*shape))]) < 1e-4


# --- What is refused --------------------------------------------------------------------------


def test_a_wrong_file_takes_no_ones_place(tmp_path, monkeypatch):
    path = tmp_path / 'a.onnx'
    path.write_text('the file of yesterday')

    class Wrong(export.ONNXSession):
        def run_batch(self, images):
            return [1.0002 * array for array in super().run_batch(images)]

    monkeypatch.setattr(onnx_format, 'ONNXSession', Wrong)
    with pytest.raises(
        export.ExportError, match=r'differs from PyTorch by 2\.0e-04 .* nothing was'
    ):
        export.export_onnx(DeployedNetwork(Small()), path, (40, 50))
    assert path.read_text() == 'the file of yesterday'
    assert list(tmp_path.iterdir()) == [path]


def test_values_that_are_not_numbers_are_refused(tmp_path):
    broken = Small()
    with torch.no_grad():
        broken.linear.bias[0] = float('nan')
    with pytest.raises(export.ExportError, match='differs from PyTorch by nan'):
        export.export_onnx(DeployedNetwork(broken), tmp_path / 'a.onnx', (40, 50))
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_no_folder(tmp_path, capsys):
    """The folder is made, and tried, before the minutes that tracing takes."""
    assert run_tool(['pslt_tinny', '--out', str(tmp_path / 'new' / 'a.onnx')]) == 2
    assert 'pslt_tiny' in capsys.readouterr().err and not list(tmp_path.iterdir())


ONE_SIZE = {
    'pslt_tiny': {'arch': PSLT, 'mask_padding': True},
    'deit_tiny': {'arch': VIT, 'window_size': 3},
    'crossvit_9': {'arch': CROSSVIT, 'window_size': 3},
}


@pytest.mark.parametrize('name', ONE_SIZE)
def test_windows_that_are_cut_hold_to_one_size(name, tmp_path):
    source = DeployedNetwork(effvit_mm.create_model(name, num_classes=7, **ONE_SIZE[name]))
    with pytest.raises(export.ExportError, match='holds for one image size alone: give that'):
        export.export_onnx(source, tmp_path / 'a.onnx', (70, 96), any_size=True)


@torch.no_grad()
def test_windows_at_one_size(tmp_path):
    torch.manual_seed(0)
    model = as_trained(effvit_mm.create_model('deit_tiny', num_classes=7, **ONE_SIZE['deit_tiny']))
    want, path = model(noise(4, 3, 70, 96)), tmp_path / 'a.onnx'
    export.export_onnx(DeployedNetwork(model), path, (70, 96))
    assert deviation(run_onnx(path, noise(4, 3, 70, 96)), [want]) < 1e-4


@pytest.mark.parametrize(
    ('name', 'least'),
    [('pslt_tiny', 225), ('levit_128s', 65), ('mvitv2_tiny', 33), ('crossvit_9_dagger', 36)],
)
def test_the_smallest_images_of_any_size(name, least):
    """Two windows of 7 x 7 at stride 32; two cells at strides 64, 32 and 120/7."""
    source = DeployedNetwork(family(name)[0])
    assert export.find_shapes(source, (64, 300), True)[:2] == ((max(64, least), 300), least)
    assert source.metadata(least)['least_side'] == str(least)


@torch.no_grad()
def test_images_of_fashion_mnist(tmp_path):
    """28 pixels: a network of small patches takes less than the 32 of the published ones."""
    model = effvit_mm.create_model('deit_tiny', arch=VIT, patch_size=4, img_size=28).eval()
    want, path = model(noise(2, 3, 28, 28)), tmp_path / 'a.onnx'
    source = DeployedNetwork(model)
    assert export.find_shapes(source, (28, 28), True).least < 28
    export.export_onnx(source, path, (28, 28))
    assert deviation(run_onnx(path, noise(2, 3, 28, 28)), [want]) < 1e-4


def test_what_the_network_says_of_a_size():
    model = effvit_mm.create_model('deit_tiny', arch=VIT, patch_size=32, img_size=64)
    network = DeployedNetwork(model)
    with pytest.raises(export.ExportError, match='size 40 64: VisionTransformer takes images'):
        export.find_shapes(network, (40, 64), False)
    with pytest.raises(export.ExportError, match='size 2 50: Calculated padded input'):
        export.find_shapes(DeployedNetwork(Small()), (2, 50), False)


class ByContent(nn.Module):
    """Goes a way that depends on what it sees."""

    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def test_a_network_without_a_graph(tmp_path):
    with pytest.raises(export.ExportError, match='cannot trace this network: '):
        export.export_onnx(DeployedNetwork(ByContent()), tmp_path / 'a.onnx', (40, 50))
    assert not list(tmp_path.iterdir())


class Eigenvalues(nn.Module):
    """A step that ONNX lacks."""

    def forward(self, x):
        return torch.linalg.eigvalsh(x.mean(1) @ x.mean(1).mT)


def test_an_operator_that_onnx_lacks(tmp_path):
    with pytest.raises(export.ExportError, match=r'this network: .*No ONNX function .*eigh'):
        export.export_onnx(DeployedNetwork(Eigenvalues()), tmp_path / 'a.onnx', (40, 50))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('package', ['onnx', 'onnxscript', 'onnxruntime', 'openvino'])
def test_a_missing_package_is_named(package, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, package, None)
    kind = 'openvino' if package == 'openvino' else 'onnx'
    path = tmp_path / f'a{export.FORMATS[kind].suffix}'
    with pytest.raises(export.ExportError, match=rf"package {package} is missing.*pip install '"):
        export.FORMATS[kind].write(DeployedNetwork(Small()), path, (40, 50))


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(export.ExportError, match='CXX=no-such-compiler was not found'):
        export.export_package(DeployedNetwork(Small()), tmp_path / 'a.pt2', (40, 50))


# --- Parts of models --------------------------------------------------------------------------


@torch.no_grad()
def test_the_feature_of_a_reid_model(tmp_path, capsys):
    """Behind the BNNeck, with the weights of a checkpoint of training."""
    config = write_people_config(tmp_path / 'people.py', make_people(tmp_path / 'data'))
    torch.manual_seed(0)
    model = as_trained(build_reid(load(config), 'people'))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    out = tmp_path / 'people.onnx'
    assert run_tool([str(config), str(tmp_path / 'epoch_1.pth'), '--out', str(out)]) == 0
    x = noise(3, 3, 64, 32)  # the config's test images
    got = run_onnx(out, x)
    assert deviation(got, [model(x)]) < 1e-4
    assert deviation(got, [model.pooled(x)]) > 1e-2  # the BNNeck is in it
    output = capsys.readouterr().out
    assert 'people: images (batch, 3, 64, 32) to feature' in output and f'wrote {out}' in output


@torch.no_grad()
def test_backbone_and_neck_of_a_detector(tmp_path):
    config = coco_sets.write_config(tmp_path / 'small.py', tmp_path / 'nowhere')
    config.write_text(
        f"{config.read_text()}\nmodel.update(backbone=dict(type='effvit_mm.LeViT', arch={LEVIT}, "
        'out_indices=(0, 1, 2)),\n'
        "    neck=dict(type='FPN', in_channels=[8, 16, 24], out_channels=8, num_outs=3))\n"
    )
    torch.manual_seed(0)
    model = as_trained(build_detector(load(config), 'small'))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    x = noise(2, 3, 64, 96)
    want, maps = model.extract_feat(x), model.backbone(x)
    source = load_network(str(config), tmp_path / 'epoch_1.pth').network
    export.export_onnx(source, tmp_path / 'a.onnx', (64, 96))
    assert deviation(run_onnx(tmp_path / 'a.onnx', x), want) < 1e-4
    names = [o.name for o in onnx.load(tmp_path / 'a.onnx').graph.output]
    assert names == [f'level_{i}' for i in range(3)]
    backbone = load_network(str(config), tmp_path / 'epoch_1.pth', 'backbone').network
    assert deviation(backbone(x), maps) < 1e-4
    assert backbone.output_names(3) == [f'map_{i}' for i in range(3)]


@torch.no_grad()
def test_weights_of_a_named_model(tmp_path):
    """The checkpoint says how many classes there are."""
    model = as_trained(effvit_mm.create_model('levit_128s', num_classes=3))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    x = noise(1, 3, 64, 64)
    found = load_network('levit_128s', tmp_path / 'weights.pth').network
    assert deviation(found(x), [model(x)]) < 1e-4 and found.size == (224, 224)
    maps = load_network('levit_128s', tmp_path / 'weights.pth', 'backbone').network
    assert deviation(maps(x)[-1:], model.backbone(x)) < 1e-4


def load(config):
    from effvit_mm.openmm.config.loading import load_config

    return load_config(str(config), [])


# --- Command line -----------------------------------------------------------------------------

INT8 = ['pslt_tiny', '--out', 'a.onnx', '--format', 'onnx-int8']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['pslt_huge', '--out', 'a.onnx'], 'pslt_huge is neither a config file nor one of'),
        (['nowhere.py', '--out', 'a.onnx'], 'config nowhere.py: no such file'),
        (['pslt_tiny', 'nowhere.pth', '--out', 'a.onnx'], 'checkpoint nowhere.pth'),
        (['pslt_tiny', '--out', 'a.pt2'], '--out a.pt2: a name ending in .onnx is needed'),
        (['pslt_tiny', '--out', 'a.onnx', '--shape', '0', '64'], 'size 0 64: height and'),
        (['pslt_tiny', '--out', 'a.onnx', '--shape', '16', '64'], 'size 16 64: PSLT takes'),
        (['pslt_tiny', '--out', 'a.onnx', '--opset', '11'], '--opset 11: allowed are 18 to 23'),
        (['pslt_tiny', '--out', 'a.onnx', '--part', 'neck'], '--part neck: pslt_tiny has none'),
        (
            ['pslt_tiny', '--out', 'a.onnx', '--images', '3'],
            '--images goes with --format onnx-int8',
        ),
        (
            ['pslt_tiny', '--out', 'a.onnx', '--calibration', '.'],
            '--calibration goes with --format onnx-int8 or openvino-int8',
        ),
        (
            [*INT8[:3], '--format', 'tflite'],
            'argument --format: invalid choice',
        ),
        (['pslt_tiny'], 'the following arguments are required: --out'),
        ([*INT8, '--images', '0'], '--images 0: 1 or more is needed'),
        ([*INT8, '--calibration', 'nowhere'], '--calibration nowhere: a folder'),
        ([*INT8, '--opset', '24'], '--opset 24: allowed are 18 to 23'),
        ([*INT8, '--any-size'], '--any-size goes with --format onnx or torch or aoti or openvino'),
        ([str(DIGITS), '--out', 'a.onnx', '--cfg-options', 'model'], '--cfg-options model: KEY=V'),
        (
            ['pslt_tiny', '--out', 'a.pt2', '--format', 'torch', '--opset', '20'],
            '--opset goes with --format onnx or onnx-int8',
        ),
        (INT8, 'eight bits need images, which pslt_tiny does not name: give a folder of them'),
        (
            [str(DIGITS), '--out', 'a.onnx', '--any-size'],
            'a graph of PSLT holds for one image size alone',
        ),
        (['pslt_tiny', '--out', 'a.onnx', '--cfg-options', 'a=1'], '--cfg-options: pslt_tiny is'),
        ([str(DIGITS), '--out', 'a.onnx', '--part', 'neck'], '--part neck: '),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_tool(arguments) == 2
    assert capsys.readouterr().err.startswith(f'error: {message}')
    assert not list(tmp_path.glob('*.onnx'))


def test_a_folder_is_no_target(tmp_path, capsys):
    (tmp_path / 'a.onnx').mkdir()
    assert run_tool(['pslt_tiny', '--out', str(tmp_path / 'a.onnx')]) == 2
    assert 'a.onnx: it is a folder' in capsys.readouterr().err


@tries(
    'If you trust its origin, ask for it explicitly: `trust=True` in Python, `--trust-checkpoint`',
)
def test_checkpoints_with_code_must_be_trusted(tmp_path, capsys):
    weights, out = tmp_path / 'weights.pth', tmp_path / 'a.pt2'
    state = effvit_mm.create_model('deit_tiny', num_classes=3).state_dict()
    torch.save({'state_dict': state, 'meta': tmp_path}, weights)
    arguments = ['deit_tiny', str(weights), '--out', str(out), '--format', 'torch']
    arguments += ['--shape', '32', '32']
    assert run_tool(arguments) == 2
    assert '--trust-checkpoint' in capsys.readouterr().err
    assert run_tool([*arguments, '--trust-checkpoint']) == 0 and out.is_file()


def test_the_whole_of_a_detector_is_named_otherwise(tmp_path):
    config = coco_sets.write_config(tmp_path / 'small.py', tmp_path / 'nowhere')
    with pytest.raises(ConfigError, match='is a detector: detector, neck or backbone'):
        load_network(str(config), None, 'whole')


@tries('; see effvit_mm.list_models()', 'some exports failed, see the table')
def test_the_table_of_exports(capsys, monkeypatch):
    tool = load_tool('deployment/check_exports')
    assert tool.main(['levit*', 'nothing*']) == 2
    assert "no model is called like 'nothing*'" in capsys.readouterr().err
    assert 'levit_128s' in effvit_mm.list_models()
    monkeypatch.setattr(tool, 'build_network', lambda name: DeployedNetwork(Small(), name))
    assert tool.main(['levit_128s', '--shape', '40', '50', '--formats', 'torch', 'onnx']) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(' | ')[:3] for row in rows] == [
        ['| `levit_128s`', kind, '40 x 50'] for kind in ('torch', 'onnx')
    ]
    # What goes wrong stands in the table too, and the others go on.
    monkeypatch.setattr(
        tool, 'build_network', lambda name: DeployedNetwork(ByContent(), name, size=(9, 9))
    )
    assert tool.main(['levit_128s', 'levit_128', '--formats', 'torch']) == 2
    assert capsys.readouterr().out.count('failed: torch.export cannot trace this network') == 2


@pytest.mark.parametrize(
    ('kind', 'package'),
    [
        ('onnx', 'onnxscript'),
        ('onnx-int8', 'onnx'),
        ('openvino', 'openvino'),
        ('openvino-int8', 'nncf'),
    ],
)
def test_a_missing_package_is_told_of_before_the_work(kind, package, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    out = tmp_path / f'a{export.FORMATS[kind].suffix}'
    tool = load_tool('deployment/export')
    assert tool.main(['pslt_tiny', '--format', kind, '--out', str(out)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f'error: the package {package} is missing') and not said.out
