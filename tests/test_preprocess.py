"""Files that take pixels: what they give for photographs is what the config's pipeline gives."""

import shutil
import sys

import coco_sets
import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from networks import as_trained, deviation
from people import make_people, write_people_config
from programs import load_tool
from students import DIGITS, LEVIT, VIT
from torch import nn
from torch.nn import functional

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference.export import image_size, load_network
from effvit_mm.inference.preprocessing import find_preprocessing
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_classifier, build_pipeline, build_reid
from effvit_mm.runtime import DeployedNetwork, Preprocessing
from effvit_mm.runtime.pixels import CenterCrop, Resize, ResizeEdge

LOAD, PACK = "dict(type='effvit_mm.LoadImage')", "dict(type='PackInputs')"
# Of a network for 40 x 40 pixels, in the ways of the configs; and each other way of resizing.
PIPELINES = {
    'ImageNet': "dict(type='ResizeEdge', scale=46, edge='short', backend='pillow', "
    "interpolation='bicubic'), dict(type='CenterCrop', crop_size=40)",
    'image folder': "dict(type='ResizeEdge', scale=46, edge='short'), "
    "dict(type='CenterCrop', crop_size=40)",
    'digits': "dict(type='Resize', scale=40, interpolation='bicubic')",
    'area': "dict(type='Resize', scale=(40, 40), interpolation='area')",
    'nearest': "dict(type='Resize', scale=40, interpolation='nearest')",
    'lanczos': "dict(type='Resize', scale=40, interpolation='lanczos')",
    'pillow': "dict(type='Resize', scale=40, backend='pillow')",
    'hamming': "dict(type='Resize', scale=40, backend='pillow', interpolation='hamming')",
    'long edge': "dict(type='ResizeEdge', scale=90, edge='long'), "
    "dict(type='CenterCrop', crop_size=40)",
    'width': "dict(type='ResizeEdge', scale=75, edge='width'), "
    "dict(type='CenterCrop', crop_size=(40, 40))",
    'height': "dict(type='ResizeEdge', scale=75, edge='height'), dict(type='Resize', scale=40)",
}
NORMALISATION = {
    'mean': [123.675, 116.28, 103.53],
    'std': [58.395, 57.12, 57.375],
    'order': 'RGB',
}
# Height and width: wider, taller, smaller, smaller on one side alone.
SIZES = {'wide': (101, 173), 'tall': (187, 93), 'small': (17, 23), 'flat': (29, 301)}


def photograph(size):
    """Texture of several scales, of edges and smooth places: ``(H, W, 3)`` uint8."""
    generator = np.random.default_rng(sum(size))
    coarse = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
    stripes = 40 * (np.add.outer(np.arange(size[0]), 2 * np.arange(size[1])) // 7 % 2)
    noise = generator.integers(-25, 26, (*size, 3))
    return (smooth + stripes[..., None] + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """Files: JPEG, PNG, grey, and one that its camera turned."""
    folder, files = tmp_path_factory.mktemp('photographs'), []
    for name, size in SIZES.items():
        files.append(folder / f'{name}.{"png" if name == "small" else "jpg"}')
        image = photograph(size)
        cv2.imwrite(str(files[-1]), image[..., 0] if name == 'flat' else image)
    from PIL import Image

    turned = Image.fromarray(photograph((60, 131)))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / 'turned.jpg', exif=exif)
    return [*files, folder / 'turned.jpg']


def write_config(path, pipeline, preprocessor='mean=[123.675, 116.28, 103.53], to_rgb=True, '):
    """A classifier of seven classes for 40 x 40 pixels."""
    preprocessor = f'{preprocessor}std=[58.395, 57.12, 57.375]'
    path.write_text(
        f"_base_ = ['{DIGITS}']\n"
        "model = dict(_delete_=True, type='ImageClassifier', backbone=dict("
        f"type='effvit_mm.VisionTransformer', arch={VIT}, patch_size=8, img_size=40, "
        "out_type='cls_token'), head=dict(type='effvit_mm.LinearClsHead', num_classes=7, "
        'in_channels=24, topk=(1,)))\n'
        f'data_preprocessor = dict({preprocessor})\n'
        f'pipeline = [{LOAD}, {pipeline}, {PACK}]\n'
        'val_dataloader = dict(dataset=dict(pipeline=pipeline))\ntest_dataloader = val_dataloader\n'
    )
    return path


def trained(config, folder):
    """Config, model and checkpoint with weights that hide nothing."""
    cfg = load_config(str(config), [])
    torch.manual_seed(0)
    build = build_reid if 'people' in config.name else build_classifier
    model = as_trained(build(cfg, config.name))
    torch.save({'state_dict': model.state_dict()}, folder / 'epoch_1.pth')
    return cfg, model, folder / 'epoch_1.pth'


def from_pipeline(cfg, files):
    """What the config's own test pipeline makes of files: a sample each."""
    read, prepare = build_pipeline(cfg)
    return [prepare(read({'img_path': str(file)})) for file in files]


# --- Equality ---------------------------------------------------------------------------------


@pytest.mark.parametrize('name', PIPELINES)
def test_pixels_are_those_of_the_pipeline(name, photographs, tmp_path):
    """Bit for bit, also after the way through a file's metadata."""
    cfg = load_config(str(write_config(tmp_path / 'a.py', PIPELINES[name])), [])
    model = build_classifier(cfg, 'a')
    found = find_preprocessing(cfg, model, NORMALISATION)
    again = Preprocessing.from_json(found.to_json())
    assert again == found and found.steps and found.size == (40, 40)
    for file, sample in zip(photographs, from_pipeline(cfg, photographs), strict=True):
        want = sample['inputs'].permute(1, 2, 0)[None]
        assert want.shape[1:] == again.read([file]).shape[1:], file
        assert torch.equal(again.read([file]), want), file


def outputs(model, samples):
    """What the model gives for samples, and the classes that it then names."""
    batch = pseudo_collate(samples)
    with torch.no_grad():
        found = model.test_step(batch)
        values = model(model.data_preprocessor(batch, False)['inputs'])
    return values, [getattr(sample, 'pred_label', None) for sample in found]


@pytest.mark.parametrize('kind', ['classifier, RGB, Pillow', 'classifier, BGR, OpenCV', 're-ID'])
def test_outputs_are_those_of_pipeline_and_model(kind, photographs, tmp_path):
    """In both formats; another way of resizing would be seen."""
    if kind == 're-ID':
        config = write_people_config(tmp_path / 'people.py', make_people(tmp_path / 'data'))
    elif 'RGB' in kind:
        config = write_config(tmp_path / 'a.py', PIPELINES['ImageNet'])
    else:
        config = write_config(tmp_path / 'a.py', PIPELINES['digits'], 'mean=[9.0, 99.0, 150.0], ')
    cfg, model, checkpoint = trained(config, tmp_path)
    samples = from_pipeline(cfg, photographs)
    want, labels = outputs(model, samples)
    naive = [naively_resized(file, samples[0]['inputs'].shape[1:]) for file in photographs]
    assert deviation(outputs(model, [{'inputs': x} for x in naive])[0], want) > 1e-3
    source = load_network(str(config), checkpoint, preprocess=True).network
    runtime.export_onnx(source, tmp_path / 'a.onnx', source.size)
    runtime.export_openvino(source, tmp_path / 'a.xml', source.size)
    for name in ('a.onnx', 'a.xml'):
        network = effvit_mm.open_compiled(tmp_path / name)
        got = network(network.read(photographs))
        assert deviation(got, want) < 1e-4
        assert kind == 're-ID' or got.argmax(1).tolist() == [int(label) for label in labels]
        one = network(network.read(cv2.imread(str(photographs[1]))))
        assert deviation(one, want[1:2]) < 1e-4


def naively_resized(file, size):
    """As a graph's operator resizes: ``(3, H, W)`` uint8."""
    image = torch.from_numpy(cv2.imread(str(file))).permute(2, 0, 1)[None].float()
    return functional.interpolate(image, tuple(size), mode='bilinear')[0].round().byte()


class Small(nn.Module):
    """Two layers, for tests of what surrounds a network."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 5)

    def forward(self, x):
        return self.linear(self.conv(x).relu().mean((2, 3)))


def small(*steps):
    return DeployedNetwork(
        Small(), normalisation=NORMALISATION, preprocessing=Preprocessing(steps or None)
    )


def by_hand(pixels):
    """What the small network gives for ``(B, H, W, 3)``."""
    mean, std = (torch.tensor(NORMALISATION[key]) for key in ('mean', 'std'))
    return Small()(((pixels.flip(3).float() - mean) / std).permute(0, 3, 1, 2))


HERE = [name for name in runtime.RUNTIMES if shutil.which('g++') or name != 'inductor']


@pytest.mark.parametrize(
    ('name', 'any_size'),
    [*((name, False) for name in HERE), ('openvino', True), ('onnxruntime', True)],
)
@torch.no_grad()
def test_each_runtime_takes_pixels(name, any_size, tmp_path):
    """Batches of any number; with any size also photographs that stay as large as they are."""
    source = small(*([ResizeEdge(40, 'short', 'bilinear', 'cv2')] if any_size else []))
    fast = effvit_mm.compile(source, name, (40, 50), any_size, cache=tmp_path)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (3, 40, 50, 3), generator=generator, dtype=torch.uint8)
    assert deviation(fast(pixels), by_hand(pixels)) < 1e-4
    assert deviation(source(pixels)[0], by_hand(pixels)) < 1e-6
    for size in SIZES.values() if any_size else ():
        pixels = fast.read([photograph(size)])
        assert min(pixels.shape[1:3]) == 40 != max(pixels.shape[1:3])
        assert deviation(fast(pixels), by_hand(pixels)) < 1e-4
    for images in (pixels.float(), pixels.permute(0, 3, 1, 2), pixels[:0]):
        with pytest.raises(ConfigError, match=r'one or more in uint8, \(B, H, W, 3\), are needed'):
            fast(images)


@torch.no_grad()
def test_pixels_of_sizes_as_they_come(tmp_path):
    """The first size has a graph of its own, the others share one; none is taken for channels."""
    source = small()
    fast = effvit_mm.compile(source, cache=tmp_path)
    for size in ((40, 50), (61, 3), (29, 70)):
        pixels = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
        assert deviation(fast(pixels), by_hand(pixels)) < 1e-4
    assert list(fast.of_size) == [(40, 50), (61, 3), (29, 70)]
    with pytest.raises(ConfigError, match=r'one or more in uint8, \(B, H, W, 3\), are needed'):
        fast(pixels.float())


@torch.no_grad()
def test_openvino_reads_what_an_onnx_file_says(photographs, tmp_path):
    source = small(Resize(50, 40, 'area', 'cv2'))
    runtime.export_onnx(source, tmp_path / 'a.onnx', (40, 50))
    network = effvit_mm.open_compiled(tmp_path / 'a.onnx', 'openvino')
    pixels = source.preprocessing.read(photographs)
    assert torch.equal(network.read(photographs), pixels)
    assert deviation(network(pixels), by_hand(pixels)) < 1e-4


ALONE = """
import sys
for name in ('mmengine', 'mmcv', 'mmpretrain', 'mmdet'):
    sys.modules[name] = None
import effvit_mm
network = effvit_mm.open_compiled(sys.argv[1])
print(*network(network.read(sys.argv[2:]))[:, 0].tolist())
"""


@torch.no_grad()
def test_a_file_needs_no_openmmlab(photographs, pythons, tmp_path):
    source = small(ResizeEdge(60, 'short', 'bicubic', 'pillow'), CenterCrop(50, 40))
    runtime.export_openvino(source, tmp_path / 'a.xml', (40, 50))
    done = pythons.run('-c', ALONE, tmp_path / 'a.xml', *photographs)
    assert done.returncode == 0, done.stderr
    got = torch.tensor([float(word) for word in done.stdout.split()])
    assert deviation(got, by_hand(source.preprocessing.read(photographs))[:, 0]) < 1e-4


def test_the_tool(tmp_path, capsys):
    config, out = write_config(tmp_path / 'a.py', PIPELINES['digits']), tmp_path / 'a.pt2'
    arguments = [str(config), '--out', str(out), '--format', 'torch', '--preprocess']
    assert load_tool('deployment/export').main(arguments) == 0
    assert ': images (batch, 40, 40, 3) to logits' in capsys.readouterr().out
    assert load_tool('deployment/export').main([*arguments, '--shape', '48', '40']) == 2
    message = 'error: size 48 40: the preprocessing makes images of 40 x 40'
    assert capsys.readouterr().err.startswith(message)


@torch.no_grad()
def test_models_by_name_take_pixels_of_their_size(photographs):
    """Their table says no test pipeline: photographs are to be scaled before."""
    source = load_network('levit_128s', preprocess=True).network
    pixels = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    want = source.network(
        (-torch.tensor(source.normalisation['mean'])).view(1, 3, 1, 1).expand(1, 3, 64, 64)
        / torch.tensor(source.normalisation['std']).view(3, 1, 1)
    )
    assert deviation(source(pixels)[0], want) < 1e-5
    with pytest.raises(ConfigError, match='nothing says how photographs become as large'):
        source.preprocessing.read(photographs)


@torch.no_grad()
def test_parts_of_detectors_take_pixels_of_their_size(photographs, tmp_path):
    config = coco_sets.write_config(tmp_path / 'small.py', tmp_path / 'nowhere')
    config.write_text(
        f"{config.read_text()}\nmodel.update(backbone=dict(type='effvit_mm.LeViT', arch={LEVIT}, "
        'out_indices=(0, 1, 2)),\n'
        "    neck=dict(type='FPN', in_channels=[8, 16, 24], out_channels=8, num_outs=3),\n"
        "    data_preprocessor=dict(type='DetDataPreprocessor', mean=[120.0, 110.0, 100.0],\n"
        '    std=[60.0, 55.0, 50.0], bgr_to_rgb=True, pad_size_divisor=32))\n'
    )
    source = load_network(str(config), preprocess=True).network
    assert source.normalisation['order'] == 'RGB'
    pixels = torch.from_numpy(photograph((64, 96)))[None]
    mean, std = (torch.tensor(source.normalisation[key]) for key in ('mean', 'std'))
    images = ((pixels.flip(3) - mean) / std).permute(0, 3, 1, 2)
    assert deviation(source(pixels), source.network.extract_feat(images)) < 1e-5
    with pytest.raises(ConfigError, match='nothing says how photographs become as large'):
        source.preprocessing.read(photographs)


@pytest.mark.parametrize(
    'crop', ["dict(type='CenterCrop', crop_size=(30, 50))", "dict(type='Resize', scale=(30, 50))"]
)
def test_the_size_has_its_width_first(crop, photographs, tmp_path):
    cfg = load_config(str(write_config(tmp_path / 'a.py', crop)), [])
    sample = from_pipeline(cfg, photographs[:1])[0]['inputs']
    assert image_size(cfg) == (50, 30) == tuple(sample.shape[1:])


# --- What is refused --------------------------------------------------------------------------

PAD = 'pad_size_divisor=32, mean=[1.0] * 3, '


@pytest.mark.parametrize(
    ('pipeline', 'message'),
    [
        ("dict(type='EfficientNetCenterCrop', crop_size=40)",
         r'pipeline\[1\] \(EfficientNetCenterCrop\) cannot be taken over: CenterCrop, Load'),
        ("dict(type='Resize', scale=(40, 40), keep_ratio=True)",
         r'pipeline\[1\] \(Resize\): keep_ratio=True cannot be taken over: False can'),
        ("dict(type='Resize', scale=40, backend=None)",
         r"\(Resize\): backend=None cannot be taken over: 'cv2' or 'pillow' can"),
        ("dict(type='CenterCrop', crop_size=40, auto_pad=True)",
         r'\(CenterCrop\): auto_pad=True cannot be taken over: False can'),
        ("dict(type='effvit_mm.LoadImage', to_float32=True), dict(type='Resize', scale=40)",
         r'pipeline\[1\] \(LoadImage\): to_float32=True cannot be taken over: False can'),
        ("dict(type='LoadImageFromFile', imdecode_backend='pillow')",
         r"\(LoadImageFromFile\): imdecode_backend='pillow' cannot be taken over: 'cv2' can"),
        ("dict(type='Resize', scale=40, backend='pillow', interpolation='area')",
         r"\(Resize\): interpolation='area' cannot be taken over: 'nearest' or "),
        ("dict(type='RandomFlip', prob=0.5)", r'\(RandomFlip\) cannot be taken over'),
    ],
)  # fmt: skip
def test_steps_that_cannot_be_taken_over(pipeline, message, tmp_path):
    config = write_config(tmp_path / 'a.py', pipeline)
    with pytest.raises(ConfigError, match=message) as caught:
        load_network(str(config), preprocess=True)
    assert str(caught.value).startswith('--preprocess: ') and '\n' not in str(caught.value)


def test_a_preprocessor_that_does_more(tmp_path):
    config = write_config(tmp_path / 'a.py', "dict(type='Resize', scale=40)", PAD)
    with pytest.raises(ConfigError, match=r'\(ClsDataPreprocessor\) does more than order of'):
        load_network(str(config), preprocess=True)
    assert load_network(str(config)).network.preprocessing is None


@pytest.mark.parametrize(
    ('given', 'error', 'message'),
    [
        ([], ConfigError, 'photographs: one or more are needed'),
        ([np.zeros((9, 9), np.uint8)], ConfigError, r'of shape \(9, 9\) in uint8: \(H, W, 3\)'),
        ([np.zeros((9, 9, 3))], ConfigError, r'of shape \(9, 9, 3\) in float64: \(H, W, 3\)'),
        ([np.zeros((0, 9, 3), np.uint8)], ConfigError, r'of shape \(0, 9, 3\) in uint8'),
        (['nowhere.jpg'], DataError, 'nowhere.jpg: No such file'),
        ([np.zeros((s, 9, 3), np.uint8) for s in (9, 18)], ConfigError,
         'become 4 x 4, 8 x 4 pixels: give them one by one'),
    ],
)  # fmt: skip
def test_photographs_that_cannot_be_read(given, error, message):
    with pytest.raises(error, match=message):
        Preprocessing((ResizeEdge(4, 'short', 'area', 'cv2'),)).read(given)


def test_files_that_say_nothing_or_too_much(photographs, tmp_path):
    runtime.export_openvino(DeployedNetwork(Small()), tmp_path / 'a.xml', (40, 50))
    with pytest.raises(ConfigError, match=r'a\.xml takes normalised images: it was made without'):
        effvit_mm.open_compiled(tmp_path / 'a.xml').read(photographs)
    for text in ('', '[{"step": "rotate"}]', '[{"step": "resize", "scale": 3}]', '[3]'):
        with pytest.raises(ConfigError, match=r'preprocess: .* is not known here'):
            Preprocessing.from_json(text)


@pytest.mark.parametrize(
    ('export', 'name'),
    [(runtime.export_onnx_int8, 'a.onnx'), (runtime.export_openvino_int8, 'a.xml')],
)
def test_eight_bits_take_normalised_images(export, name, tmp_path):
    with pytest.raises(ConfigError, match='--preprocess: not in eight bits'):
        export(small(), tmp_path / name, (40, 50), [], [])


@pytest.mark.parametrize(('package', 'backend'), [('cv2', 'cv2'), ('PIL.Image', 'pillow')])
def test_a_missing_package_is_named(package, backend, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(runtime.ExportError, match=rf"package {package} is missing.*pip install '"):
        Preprocessing((Resize(4, 4, 'nearest', backend),)).read([np.zeros((9, 9, 3), np.uint8)])
