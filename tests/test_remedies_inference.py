"""What messages of inference, export and runtimes advise, done: there is a result, or a file."""

from __future__ import annotations

import json
import os

import coco_sets
import cv2
import numpy as np
import pytest
import torch
from people import make_people, write_people_config
from programs import load_tool
from remedies import said, tries
from students import VIT
from torch import nn
from trainer import forget_runs, make_folder, write_config
from videos import make_video

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference.calibration import find_calibration
from effvit_mm.inference.export import load_network
from effvit_mm.inference.inputs import find_images
from effvit_mm.inference.reid import find_people
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_detector, build_pipeline, build_reid
from effvit_mm.runtime import DeployedNetwork
from effvit_mm.runtime.aoti import check_compiler
from effvit_mm.runtime.pixels import Preprocessing, ResizeEdge


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp('data'), train=3, val=2)


@pytest.fixture
def config(tmp_path, data):
    return write_config(tmp_path / 'c.py', data)


class Small(nn.Module):
    """Logits of images of any size."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3)))


class FixedGrid(Small):
    """Logits of images of 64 x 64 pixels, for which it has positions."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 4, 31, 31))

    def forward(self, images):
        return self.head((self.conv(images) + self.position).mean((2, 3)))


# Eight bits ---------------------------------------------------------------------------------------


@tries(': give a folder of them with --calibration')
def test_a_model_without_data_is_given_images(data):
    network = DeployedNetwork(Small(), 'small', size=(32, 32))
    loaded = load_network('deit_tiny')._replace(network=network)
    with pytest.raises(ConfigError, match='which small does not name: give a folder of them'):
        find_calibration(loaded, (32, 32), 3)
    images, others = find_calibration(loaded, (32, 32), 3, data / 'train' / 'dots')
    assert [batch[0].shape for batch in (*images, *others)]


@tries('is missing: give a folder of images with --calibration instead')
def test_a_config_without_training_data_is_given_images(config, data):
    options = [f'{key}=None' for key in ('train_dataloader', 'train_cfg', 'optim_wrapper')]
    loaded = load_network(str(config), overrides=options)
    with pytest.raises(ConfigError) as error:
        find_calibration(loaded, (32, 32), 3)
    assert said('is missing: give a folder of images with --calibration instead', str(error.value))
    images, _ = find_calibration(loaded, (32, 32), 3, data / 'train' / 'dots')
    assert next(iter(images))[0].shape[1:] == (3, 32, 32)


@tries('; to look into them give --subfolders (subfolders=True)')
def test_a_folder_of_class_folders(tmp_path):
    (tmp_path / 'cats').mkdir()
    cv2.imwrite(str(tmp_path / 'cats' / 'a.png'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r'which are not looked into \(cats\); to look into them'):
        find_images(tmp_path)
    assert len(find_images(tmp_path, subfolders=True)) == 1


@tries('; give videos by their names, as {}/*{}')
def test_a_folder_of_videos(tmp_path):
    make_video(tmp_path / 'clip.mp4', frames=2)
    with pytest.raises(DataError, match=r'has no image .*passed over: 1 videos') as error:
        find_images(tmp_path)
    pattern = str(error.value).rpartition(', as ')[2]
    assert pattern == f'{tmp_path}/*.mp4'
    assert [video.path.name for video in find_images(pattern)] == ['clip.mp4']


@tries(': change --shape or the pipeline')
def test_images_of_another_size_than_the_graph(config):
    with pytest.raises(ConfigError, match=': change --shape or the pipeline'):
        list(find_calibration(load_network(str(config)), (48, 40), 3)[0])
    resize = "test_pipeline[1:1] = [dict(type='Resize', scale=(40, 48))]\n"
    resized = config.with_name('resized.py')
    resized.write_text(config.read_text() + resize)
    for path, size in ((config, (32, 32)), (resized, (48, 40))):
        for batches in find_calibration(load_network(str(path)), size, 3):
            assert {batch[0].shape[1:] for batch in batches} == {(3, *size)}


# Export -------------------------------------------------------------------------------------------


@tries('{} is neither a config file nor one of effvit_mm.list_models()')
def test_a_model_of_no_such_name():
    with pytest.raises(ConfigError) as error:
        load_network('deit_huge')
    assert said('{} is neither a config file nor one of effvit_mm.list_models()', str(error.value))
    name = effvit_mm.list_models('deit_t*')[0]
    assert load_network(name).network.size == (224, 224)


@tries("--shape H W is needed: {} does not say its images' size")
@pytest.mark.parametrize('part', ['backbone', 'detector'])
def test_a_config_that_does_not_say_its_images_size(tmp_path, capsys, part):
    config = coco_sets.write_config(tmp_path / 'small.py', tmp_path / 'nowhere')
    export, out = load_tool('deployment/export'), tmp_path / 'a.onnx'
    arguments = [str(config), '--part', part, '--out', str(out)]
    assert export.main(arguments) == 2
    assert said('--shape H W is needed: {} does not say', capsys.readouterr().err)
    assert export.main([*arguments, '--shape', '64', '96']) == 0 and out.is_file()


def windowed():
    return effvit_mm.create_model('deit_tiny', num_classes=7, arch=VIT, window_size=3)


ONE_SIZE = {
    'a graph of {} holds for one image size alone: give that size, not any size': windowed,
    'the graph of this network holds for one image size alone: give that size, not any size ({})': (
        FixedGrid
    ),
}


@tries(*ONE_SIZE)
@pytest.mark.parametrize('words', ONE_SIZE)
def test_a_network_of_one_size(tmp_path, words):
    network, path = DeployedNetwork(ONE_SIZE[words]().eval()), tmp_path / 'a.onnx'
    with pytest.raises(runtime.ExportError) as error:
        runtime.export_onnx(network, path, (64, 64), any_size=True)
    assert said(words, str(error.value))
    runtime.export_onnx(network, path, (64, 64))
    assert effvit_mm.open_compiled(path)(torch.zeros(1, 3, 64, 64)).isfinite().all()


@tries(': give precision= instead')
def test_a_precision_that_is_a_hint(tmp_path):
    given = {'size': (20, 31), 'cache': tmp_path}
    with pytest.raises(ConfigError, match='INFERENCE_PRECISION_HINT: give precision= instead'):
        effvit_mm.compile(Small().eval(), 'openvino', INFERENCE_PRECISION_HINT='f32', **given)
    fast = effvit_mm.compile(Small().eval(), 'openvino', precision='fp32', **given)
    assert fast(torch.zeros(1, 3, 20, 31)).shape == (1, 5)


@tries(': install g++ (apt-get install g++), or name one in the environment variable CXX')
def test_a_compiler_for_inductor(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(runtime.ExportError, match=r'install g\+\+ .*the environment variable CXX'):
        check_compiler()
    compiler = tmp_path / 'g++'
    for name in ('other', None):  # named, then installed
        made = compiler.with_name(name) if name else compiler
        made.write_text('#!/bin/sh\n')
        made.chmod(0o755)
        if name:
            monkeypatch.setenv('CXX', str(made))
        else:
            monkeypatch.delenv('CXX')
        assert os.access(made, os.X_OK)
        check_compiler()


# Photographs --------------------------------------------------------------------------------------


@tries(': give them one by one')
def test_photographs_that_become_images_of_several_sizes():
    photographs = [np.zeros((side, 9, 3), np.uint8) for side in (9, 18)]
    preprocessing = Preprocessing((ResizeEdge(4, 'short', 'area', 'cv2'),))
    with pytest.raises(ConfigError, match='4 x 4, 8 x 4 pixels: give them one by one'):
        preprocessing.read(photographs)
    assert [preprocessing.read(one).shape[1:3] for one in photographs] == [(4, 4), (8, 4)]


@tries(': scale them before, to (B, H, W, 3)')
def test_photographs_of_which_nothing_is_known():
    network = load_network('levit_128s', preprocess=True).network
    photographs = [np.full((90, 120, 3), 128, np.uint8)] * 2
    with pytest.raises(ConfigError) as error:
        network.preprocessing.read(photographs)
    assert said(': scale them before, to (B, H, W, 3)', str(error.value))
    scaled = np.stack([cv2.resize(photograph, (224, 224)) for photograph in photographs])
    with torch.no_grad():
        (logits,) = network(torch.from_numpy(scaled))
    assert logits.shape[0] == 2 and logits.isfinite().all()


@tries(': cut them out of it')
def test_a_video_is_no_image_of_a_person(tmp_path):
    people = make_people(tmp_path / 'data')
    image = cv2.imread(str(next(people.glob('query/*.png'))))
    video = cv2.VideoWriter(
        str(tmp_path / 'a.mp4'), cv2.VideoWriter_fourcc(*'mp4v'), 5, image.shape[1::-1]
    )
    video.write(image)
    video.release()
    with pytest.raises(DataError, match='people are needed: cut them out of it'):
        find_people(tmp_path / 'a.mp4')
    _, frame = cv2.VideoCapture(str(tmp_path / 'a.mp4')).read()
    cv2.imwrite(str(tmp_path / 'person.png'), frame)
    config = write_people_config(tmp_path / 'p.py', people)
    model = build_reid(load_config(str(config), []), 'p')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'p.pth')
    extractor = effvit_mm.ReIDExtractor(config, tmp_path / 'p.pth', device='cpu')
    assert len(extractor(tmp_path / 'person.png')) == 1


@tries("a transform that reads an image is needed, as dict(type='effvit_mm.LoadImage')")
def test_a_pipeline_that_does_not_begin_with_an_image(config, data):
    file = str(next((data / 'val').glob('*/*.png')))
    wrong = config.read_text().replace(
        "test_pipeline = [dict(type='LoadImageFromFile'), ", 'test_pipeline = ['
    )
    config.write_text(wrong)
    with pytest.raises(ConfigError, match=r"needed, as dict\(type='effvit_mm\.LoadImage'\)"):
        build_pipeline(load_config(str(config), []))
    loads = "test_pipeline = [dict(type='effvit_mm.LoadImage'), "
    config.write_text(wrong.replace('test_pipeline = [', loads))
    read, prepare = build_pipeline(load_config(str(config), []))
    assert prepare(read({'img_path': file}))['inputs'].shape == (3, 32, 32)


# tools/ -------------------------------------------------------------------------------------------


@tries('--read-images: --images is needed, the folder of the images')
def test_images_that_are_to_be_read(tmp_path, capsys):
    coco_sets.make_coco(tmp_path)
    check = load_tool('analysis_tools/check_dataset')
    arguments = [str(tmp_path / 'train.json'), '--read-images']
    assert check.main(arguments) == 2
    assert '--read-images: --images is needed, the folder of the' in capsys.readouterr().err
    assert check.main([*arguments, '--images', str(tmp_path / 'images')]) == 0


@tries('{} has {} classes: set {}={}')
def test_another_number_of_classes_than_the_set(tmp_path, capsys):
    data = coco_sets.make_coco(tmp_path)
    config = coco_sets.write_config(tmp_path / 'c.py', tmp_path)
    check = load_tool('analysis_tools/check_dataset')
    arguments = [str(config), '--splits', 'train', '--cfg-options']
    assert check.main([*arguments, 'model.bbox_head.num_classes=9']) == 1
    text = capsys.readouterr().out
    assert said('{} has {} classes: set {}={}', text)
    remedy = text.rpartition(': set ')[2].split()[0]
    assert remedy == f'model.bbox_head.num_classes={len(data["categories"])}'
    assert check.main([*arguments, remedy]) == 0


@tries('; write .json with test.py --out, or add --trust-pickle', 'as test.py --out writes it')
def test_predictions_that_are_not_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = coco_sets.make_config(tmp_path)
    model = build_detector(load_config(str(config), []), 'c')
    torch.save({'state_dict': model.state_dict()}, 'c.pth')
    test, errors = load_tool('test'), load_tool('analysis_tools/detection_errors')
    for name in ('p.pkl', 'p.json'):
        assert test.main([str(config), 'c.pth', '--work-dir', 'w', '--out', name]) == 0
    (tmp_path / 'wrong.json').write_text(json.dumps({'a': 1}))
    for name, words in (
        ('p.pkl', '; write .json with test.py --out, or add --trust-pickle'),
        ('wrong.json', 'a list of dicts is needed, as test.py --out writes it'),
    ):
        capsys.readouterr()
        assert errors.main([str(config), name, '--out', 'shown']) == 2
        assert words in capsys.readouterr().err
    assert errors.main([str(config), 'p.json', '--out', 'shown']) == 0
    assert errors.main([str(config), 'p.pkl', '--out', 'again', '--trust-pickle']) == 0


def test_a_folder_for_drawings_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = coco_sets.make_config(tmp_path)
    model = build_detector(load_config(str(config), []), 'c')
    torch.save({'state_dict': model.state_dict()}, 'c.pth')
    (tmp_path / 'file').touch()
    hook = 'default_hooks.visualization'
    for folder, code in ((tmp_path / 'file' / 'shown', 2), (tmp_path / 'shown', 0)):
        forget_runs()
        options = [f'{hook}.type=DetVisualizationHook', f'{hook}.draw=True']
        options.append(f'{hook}.test_out_dir={folder}')
        arguments = [str(config), 'c.pth', '--work-dir', 'w', '--cfg-options', *options]
        assert load_tool('test').main(arguments) == code
        line = capsys.readouterr().err
        told = f'test_out_dir of DetVisualizationHook: the folder {folder} cannot be written'
        assert (told in line) == bool(code), line
    assert list((tmp_path / 'shown').iterdir())
