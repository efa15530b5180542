"""Whole detectors from their files alone: photographs to what the trained detector finds."""

from __future__ import annotations

import json
from dataclasses import replace

import coco_sets
import cv2
import numpy as np
import pytest
import torch
from mmcv import transforms
from programs import load_tool
from remedies import tries
from torch import nn
from trainer import forget_runs

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference.export import load_network
from effvit_mm.inference.preprocessing import find_placing
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_detector
from effvit_mm.runtime.detections import detection_difference
from effvit_mm.runtime.exported_detector import AboutDetector, ExportedDetector, Placed, Placing

SIZE = (72, 96)
CLASSES = ('red', 'white', 'platelet')
MODEL = """
model.update(
    backbone=dict(
        type='mmdet.ResNet', depth=18, base_channels=8, norm_cfg=dict(type='BN'),
        num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1),
    ),
    neck=dict(type='FPN', in_channels=[8, 16], out_channels=8, num_outs=2),
)
model['bbox_head']['anchor_generator']['strides'] = [4, 8]
model['test_cfg'].update(score_thr=0.0, max_per_img=30)
test_dataloader = dict(
    dataset=dict(type='effvit_mm.CocoFolder', pipeline=[
        dict(type='effvit_mm.LoadImage'),
        dict(type='LoadAnnotations', with_bbox=True),
        {resize}
        dict(type='PackDetInputs'),
    ]),
)
"""
# How a photograph becomes an image, and photographs of which mmdet makes images of that size.
RESIZES = {
    'stretched': ("dict(type='Resize', scale=(96, 72), keep_ratio=False),", ((48, 90), (150, 81))),
    'kept': ("dict(type='Resize', scale=(96, 72), keep_ratio=True),", ((144, 192), (36, 48))),
    'filled': (
        "dict(type='Resize', scale=(96, 72), keep_ratio=True), "
        "dict(type='Pad', size=(96, 72), pad_val=dict(img=(114, 110, 90))),",
        ((50, 130), (31, 99)),
    ),
}


def photograph(height, width):
    """Spots of colour, which detectors of chance weights find things in."""
    generator = np.random.default_rng(height * width)
    coarse = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config for each way of resizing, and one checkpoint for all."""
    root = tmp_path_factory.mktemp('exported')
    coco_sets.make_coco(root)
    text = coco_sets.write_config(root / 'base.py', root).read_text()
    for name, (resize, _) in RESIZES.items():
        (root / f'{name}.py').write_text(text + MODEL.replace('{resize}', resize))
    torch.manual_seed(4)
    model = build_detector(load_config(str(root / 'kept.py'), []), 'test')
    for name, parameter in model.named_parameters():
        if 'retina' in name and name.endswith('weight'):
            parameter.data.normal_(std=0.1 if 'cls' in name else 0.02)
        elif 'lateral_convs' in name:  # maps of a size that leaves scores apart
            parameter.data.mul_(1e-3)
    meta = {'dataset_meta': {'classes': CLASSES}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, root / 'c.pth')
    forget_runs()
    return root


# Each way of resizing, its format, and whether pixels are normalised within.
FILES = {'stretched': ('.onnx', False), 'kept': ('.xml', True), 'filled': ('.onnx', False)}


@pytest.fixture(scope='module')
def files(trained):
    """The file of a whole detector for each way of resizing."""
    paths = {}
    for name, (suffix, preprocess) in FILES.items():
        network = load_network(
            str(trained / f'{name}.py'),
            trained / 'c.pth',
            'detector',
            size=SIZE,
            preprocess=preprocess,
        ).network
        paths[name] = trained / f'{name}{suffix}'
        runtime.FORMATS[{'.onnx': 'onnx', '.xml': 'openvino'}[suffix]].write(
            network, paths[name], SIZE
        )
    return paths


def apart(actual, wanted):
    """How far two lists of results lie apart, boxes within their photographs."""
    distances = []
    for found, want in zip(actual, wanted, strict=True):
        height, width = want.size
        want = replace(want, boxes=want.boxes.clip(0, [width, height, width, height]))
        assert found['size'] == want['size'] and len(want['scores']) > 3
        sides = ([[one[key]] for key in ('boxes', 'scores', 'labels')] for one in (found, want))
        distances.append(detection_difference(*(list(map(np.array, side)) for side in sides), 0))
    return max(distances)


@pytest.mark.parametrize('name', RESIZES)
def test_objects_are_those_of_the_trained_detector(name, files, trained, tmp_path):
    by_file = effvit_mm.Detector(files[name])
    by_mmdet = effvit_mm.Detector(trained / f'{name}.py', trained / 'c.pth', device='cpu')
    assert by_file.classes == CLASSES
    photographs = [photograph(*size) for size in RESIZES[name][1]]
    file = tmp_path / 'photo.png'
    cv2.imwrite(str(file), photographs[0])
    given = [file, *photographs]
    wanted = by_mmdet(given, score_thr=0)
    for batch_size in (1, 2):
        found = by_file(given, batch_size, score_thr=0)
        assert apart(found, wanted) < 1e-3
        assert [one['image'] for one in found] == [str(file), None, None]
    high = by_file(given, score_thr=float(np.median(found[0]['scores'])))
    assert 0 < len(high[0]['scores']) < len(found[0]['scores'])
    assert high[0]['names'] == [CLASSES[label] for label in high[0]['labels']]
    best = [float(one.scores.max()) for one in found]
    for detector in (by_file, by_mmdet):  # scores of 1 are out of reach
        none = detector(given, score_thr=1.0)
        assert [one.left_out for one in none] == pytest.approx(best, abs=1e-3)
    assert not any(one.left_out for one in (*found, *wanted, high[0]))


@pytest.mark.parametrize(('name', 'fill_counts'), [('kept', False), ('filled', True)])
@torch.no_grad()
def test_objects_end_where_the_photograph_does(name, fill_counts, files, trained):
    """But for a pipeline that pads before it says of what size the image is."""
    config = str(trained / f'{name}.py')
    options = {'size': SIZE, 'preprocess': FILES[name][1]}
    network = load_network(config, trained / 'c.pth', 'detector', **options).network
    detector = ExportedDetector(files[name])
    placed = detector.place(photograph(144, 72))
    assert placed.shown == (72, 36)
    images = placed.image[None]
    wholly, partly = (
        [output.numpy()[0] for output in network(images, torch.tensor([shown]).float())]
        for shown in (SIZE, placed.shown)
    )
    assert not np.array_equal(wholly[0], partly[0])
    boxes, scores, labels = wholly if fill_counts else partly
    (found,) = detector.find([placed])
    boxes = (boxes * 2).clip(0, [72, 144, 72, 144])[: len(found.boxes)]
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, scores[: len(found.boxes)], atol=1e-5)
    assert len(found.boxes) > 3 and found.labels.tolist() == labels[: len(found.boxes)].tolist()


def test_photographs_are_of_the_size_that_the_pipeline_makes_them(trained):
    """Where the file has room for that; else as large as fits."""
    cfg = load_config(str(trained / 'kept.py'), [])
    model = build_detector(cfg, 'test')
    placing = find_placing(cfg, model, {'mean': (0, 0, 0), 'std': (1, 1, 1), 'order': 'BGR'})
    resize = transforms.Resize(scale=(96, 72), keep_ratio=True)
    for size in ((150, 81), (81, 150), (33, 33), (50, 333), (200, 197), (72, 96)):
        given = photograph(*size)
        wanted = resize({'img': given})
        image, shown = placing(given, (96, 96))
        assert shown == wanted['img_shape']
        np.testing.assert_array_equal(image[: shown[0], : shown[1]], wanted['img'])
        assert (image[shown[0] :] == 0).all() and (image[:, shown[1] :] == 0).all()
    assert placing(photograph(200, 197), (48, 40))[1] == (41, 40)


def test_what_a_whole_detector_takes_beside_images(files):
    for path in (files['stretched'], files['kept']):
        network = effvit_mm.open_compiled(path)
        layout = network.session.layout
        images = torch.zeros(layout.shape(2, SIZE), dtype=layout.dtype)
        assert len(network(images, torch.tensor([SIZE, (9, 9)]).float())) == 3
        for further, given in (
            ((), 'nothing'),
            ((torch.ones(1, 2),), r'\(1, 2\)'),
            ((torch.ones(2, 2), torch.ones(2)), r'\(2, 2\), \(2,\)'),
        ):
            with pytest.raises(ConfigError, match=rf'takes shown \(2, ...\), not {given}$'):
                network(images, *further)


def test_photographs_upright_and_tiny_are_placed_within_the_image():
    place = Placing((96, 72), 'bilinear', 'cv2', (1.0, 2.0, 3.0), False)
    for size, shown in (((192, 144), (72, 54)), ((10, 300), (3, 96)), ((9, 9), (72, 72))):
        image, there = place(photograph(*size), SIZE)
        assert image.shape == (*SIZE, 3) and there == shown
        assert (image[shown[0] :] == (1, 2, 3)).all() and (image[:, shown[1] :] == (1, 2, 3)).all()
    with pytest.raises(ConfigError, match='photograph of 2 x 900 pixels: within 72 x 96'):
        place(photograph(2, 900), SIZE)


def test_masks_are_those_of_whole_boxes():
    """A box that reaches into what is filled below the photograph is cut, not its mask squeezed."""
    placed = Placed(torch.zeros(3, *SIZE), shown=(36, 96), size=(36, 96))
    mask = np.zeros((1, 4, 4), np.float32)
    mask[:, :2] = 1
    boxes = np.array([[8, 18, 24, 54]], np.float32)
    found = ExportedDetector._objects(None, placed, 0.0, boxes, np.ones(1), np.zeros(1), mask)
    assert found.boxes.tolist() == [[8, 18, 24, 36]]
    assert found.masks[0, 20:, 10:22].all()  # down to where the photograph ends
    found.masks[0, 18:, 8:24] = False
    assert not found.masks.any()


@tries(': cut it into pieces')
def test_the_tool_and_python_without_openmmlab(trained, files, pythons, tmp_path, capsys):
    path = files['stretched']
    cv2.imwrite(str(tmp_path / 'a.png'), photograph(60, 80))
    detect = load_tool('detect')
    arguments = ['--out', str(tmp_path / 'found'), '--score-thr', '0']
    assert detect.main([str(path), str(tmp_path / 'a.png'), *arguments]) == 0
    (line,) = (tmp_path / 'found' / 'detections.jsonl').read_text().splitlines()
    code = (
        'import sys, cv2\n'
        "for name in ('mmengine', 'mmcv', 'mmdet', 'mmpretrain'): sys.modules[name] = None\n"
        'from effvit_mm.runtime import ExportedDetector\n'
        f'(found,) = ExportedDetector({str(path)!r})([cv2.imread({str(tmp_path / "a.png")!r})])\n'
        'print(found.boxes.tolist())\n'
    )
    done = pythons.run('-c', code)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), json.loads(line)['boxes'], atol=1e-4)

    cv2.imwrite(str(tmp_path / 'thin.png'), photograph(1, 900))
    capsys.readouterr()
    for given, message in (
        ([str(trained / 'kept.py'), str(trained / 'c.pth')], 'images, folders or videos are'),
        (
            [str(files['kept']), str(tmp_path / 'thin.png')],
            'thin.png: photograph of 1 x 900 pixels',
        ),
    ):
        assert detect.main([*given, *arguments]) == 2
        (error,) = capsys.readouterr().err.strip().splitlines()
        assert message in error
    assert error.endswith(': cut it into pieces')
    pieces = [tmp_path / f'{place}.png' for place in range(10)]
    for place, piece in enumerate(pieces):
        cv2.imwrite(str(piece), photograph(1, 900)[:, 90 * place : 90 * (place + 1)])
    assert detect.main([str(files['kept']), *map(str, pieces), *arguments]) == 0


@tries('export.py --part detector writes them')
def test_what_a_file_has_no_use_for(trained, files, tmp_path):
    path = files['kept']
    for options in ({'checkpoint': 'c.pth'}, {'cfg_options': ['a=1']}, {'device': 'cuda:0'}):
        (name,) = options
        with pytest.raises(ConfigError, match=f'^{name}=.*kept.xml is a file and takes none'):
            effvit_mm.Detector(path, **options)
    with pytest.raises(ConfigError, match='checkpoint is missing'):
        effvit_mm.Detector(trained / 'kept.py')
    network = runtime.DeployedNetwork(nn.Conv2d(3, 4, 1), outputs='map')
    runtime.export_openvino(network, tmp_path / 'maps.xml', (64, 64))
    with pytest.raises(ConfigError, match=r'maps\.xml: no whole detector of this version'):
        effvit_mm.Detector(tmp_path / 'maps.xml')
    given = [str(trained / 'kept.py'), str(trained / 'c.pth'), '--part', 'detector']
    form = ['--format', 'openvino', '--out', str(tmp_path / 'all.xml'), '--shape', '72', '96']
    assert load_tool('deployment/export').main([*given, *form]) == 0
    (found,) = effvit_mm.Detector(tmp_path / 'all.xml')(photograph(48, 90))
    assert found.size == (48, 90)
    for text in ('{}', '[]', '{"classes": ["a"], "placing": {"turn": 1}}'):
        with pytest.raises(ConfigError, match=r'detector: .* is not known here'):
            AboutDetector.from_json(text)


@tries('; use effvit_mm.open_compiled')
def test_steps_that_are_not_known(trained, tmp_path):
    """A flip, say: such a file can be opened as a network, but not be given photographs."""
    text = (trained / 'kept.py').read_text()
    flipped = text.replace("dict(type='PackDetInputs')", "dict(type='RandomFlip', prob=0.5), PACK")
    config = tmp_path / 'flip.py'
    config.write_text(flipped.replace('PACK', "dict(type='PackDetInputs')"))
    network = load_network(str(config), trained / 'c.pth', 'detector', size=SIZE).network
    assert AboutDetector.from_json(network.about['detector']) == AboutDetector(CLASSES, None)
    runtime.export_openvino(network, tmp_path / 'flip.xml', SIZE)
    with pytest.raises(ConfigError, match=r'cannot be taken over; use effvit_mm\.open_compiled'):
        effvit_mm.Detector(tmp_path / 'flip.xml')
    boxes, scores, labels = effvit_mm.open_compiled(tmp_path / 'flip.xml')(
        torch.zeros(1, 3, *SIZE), torch.tensor([SIZE]).float()
    )
    assert boxes.shape[:2] == scores.shape == labels.shape


def test_unreadable_images_are_named(files, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'broken\.jpg'):
        effvit_mm.Detector(files['kept'])(tmp_path / 'broken.jpg')
