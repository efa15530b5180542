"""Files that take pixels: what they give for photographs is what the config's pipeline gives."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from networks import as_trained, deviation
from people import make_people, write_people_config
from programs import load_tool
from students import DIGITS, VIT
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


RUNS = {'onnxruntime': '.onnx', 'openvino': '.xml'}


@pytest.mark.parametrize('kind', ['classifier, RGB, Pillow', 'classifier, BGR, OpenCV', 're-ID'])
def test_outputs_are_those_of_pipeline_and_model(kind, photographs, tmp_path, capsys):
    """By the tool, in both formats; another way of resizing would be seen."""
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
    for name, suffix in RUNS.items():
        out = tmp_path / f'out{suffix}'
        arguments = [str(config), str(checkpoint), '--out', str(out), '--preprocess']
        arguments += ['--format', name.removesuffix('runtime')]
        assert load_tool('deployment/export').main(arguments) == 0
        height, width = samples[0]['inputs'].shape[1:]
        assert f': images (batch, {height}, {width}, 3) to ' in capsys.readouterr().out
        network = effvit_mm.open_compiled(out)
        got = network(network.read(photographs))
        assert deviation(got, want) < 1e-4
        assert kind == 're-ID' or got.argmax(1).tolist() == [int(label) for label in labels]
        one = network(network.read([cv2.imread(str(photographs[1]))]))  # an array as OpenCV's
        assert deviation(one, want[1:2]) < 1e-4


def naively_resized(file, size):
    """As a graph's operator resizes: ``(3, H, W)`` uint8."""
    image = torch.from_numpy(cv2.imread(str(file))).permute(2, 0, 1)[None].float()
    return functional.interpolate(image, tuple(size), mode='bilinear')[0].round().byte()
