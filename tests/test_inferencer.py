"""``effvit_mm.Detector`` and ``tools/detect.py``."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import coco_sets
import cv2
import numpy as np
import pytest
import torch
from programs import load_tool
from small_detectors import CLASSES, EXTRA, MASKS, ROOT, save_checkpoint
from trainer import forget_runs
from videos import make_video

import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError, DataError
from effvit_mm.inference import output
from effvit_mm.inference.videos import Image
from effvit_mm.openmm import cli
from effvit_mm.openmm.compiling import compile_model
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.utils.images import load_image


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Folder with a set of four images of two sizes, a config and a checkpoint."""
    root = tmp_path_factory.mktemp('detector')
    data = coco_sets.make_coco(root, images=4)
    for number in (1, 3):
        image = cv2.imread(str(root / 'images' / f'{number}.png'))
        cv2.imwrite(str(root / 'images' / f'{number}.png'), np.rot90(image).copy())
        size = {'width': image.shape[0], 'height': image.shape[1]}
        data['images'][number].update(size)
    for box in data['annotations']:
        box.update(bbox=[2, 4, 18, 20], segmentation=coco_sets.square(2, 4, 18, 20))
    coco_sets.write(root, data)
    config = coco_sets.write_config(root / 'config.py', root)
    config.write_text(config.read_text() + EXTRA)
    save_checkpoint(
        load_config(str(config), []), root / 'c.pth', {'dataset_meta': {'classes': CLASSES}}
    )
    forget_runs()
    return root


@pytest.fixture(scope='module')
def detector(trained):
    return effvit_mm.Detector(trained / 'config.py', trained / 'c.pth', device='cpu')


@pytest.fixture(scope='module')
def with_masks(tmp_path_factory):
    """A Mask R-CNN for COCO, whose checkpoint names no classes."""
    root = tmp_path_factory.mktemp('masks')
    base = ROOT / 'configs' / 'pslt' / 'mask-rcnn_pslt-tiny_fpn_1x_coco.py'
    (root / 'config.py').write_text(MASKS.format(base=str(base)))
    save_checkpoint(load_config(str(root / 'config.py'), []), root / 'c.pth')
    return effvit_mm.Detector(root / 'config.py', root / 'c.pth', device='cpu')


def images(root):
    return [root / 'images' / f'{number}.png' for number in range(4)]


def assert_same(found, expected, atol=1e-4):
    assert len(found['boxes']) == len(expected['boxes']) > 0
    assert np.array_equal(found['labels'], expected['labels'])
    np.testing.assert_allclose(found['scores'], expected['scores'], rtol=0, atol=atol)
    np.testing.assert_allclose(found['boxes'], expected['boxes'], rtol=0, atol=atol)


@pytest.fixture(scope='module')
def tested(trained):
    """What the test loop predicts with the form of training, one image a batch."""
    out = trained / 'tested.json'
    arguments = [
        trained / 'config.py',
        trained / 'c.pth',
        '--out',
        out,
        '--work-dir',
        trained / 'w',
    ]
    assert cli.test([str(argument) for argument in arguments]) == 0
    forget_runs()
    found = [one['pred_instances'] for one in json.loads(out.read_text())]
    return [{**one, 'boxes': one['bboxes']} for one in found]


@pytest.mark.parametrize('batch_size', [1, 3])
def test_boxes_are_those_of_the_test_loop(trained, detector, tested, batch_size):
    results = detector(images(trained), batch_size=batch_size, score_thr=0.0)
    assert [one['image'] for one in results] == [str(path) for path in images(trained)]
    assert [one['size'] for one in results] == [(36, 48), (48, 36), (36, 48), (48, 36)]
    for found, expected in zip(results, tested, strict=True):
        assert_same(found, expected)


def test_a_runtime_finds_the_same_boxes(trained, tested, with_masks, tmp_path, monkeypatch):
    """By the test loop and the class; with the heads of one stage, and without those of two."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    names = [trained / name for name in ('config.py', 'c.pth')]
    compiled = effvit_mm.Detector(*names, runtime='openvino')
    for found, expected in zip(compiled(images(trained), score_thr=0.0), tested, strict=True):
        assert_same(found, expected)
    flags = ['--runtime', 'openvino', '--out', tmp_path / 'out.json', '--work-dir', tmp_path / 'w']
    assert cli.test([str(argument) for argument in (*names, *flags)]) == 0
    forget_runs()
    again = [one['pred_instances'] for one in json.loads((tmp_path / 'out.json').read_text())]
    for found, expected in zip(again, tested, strict=True):
        assert_same({**found, 'boxes': found['bboxes']}, expected)
    assert len(list((tmp_path / 'cache' / 'effvit_mm' / 'compiled').iterdir())) == 1

    photo = noise_photo(96, 128)
    (expected,) = with_masks(photo, score_thr=0.0, masks=True)
    compiled = copy.deepcopy(with_masks)
    compile_model(compiled.network.model, 'openvino')
    (found,) = compiled(photo, score_thr=0.0, masks=True)
    assert_same(found, expected, atol=1e-3)
    assert np.mean(found['masks'] != expected['masks']) < 1e-3


def noise_photo(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_of_one_size_share_a_batch_and_no_others(trained, detector, monkeypatch):
    model = detector.network.model
    batches, step = [], model.test_step
    monkeypatch.setattr(
        model, 'test_step', lambda data: batches.append(len(data['inputs'])) or step(data)
    )
    order = [0, 2, 1, 0, 3, 0, 2]
    results = detector([images(trained)[index] for index in order], batch_size=4, score_thr=0.0)
    assert batches == [3, 1, 1, 2]
    assert [one.image for one in results] == [str(images(trained)[index]) for index in order]


def test_the_deployed_form_has_no_norms_and_the_same_boxes(trained, detector, tested):
    def norms(model):
        return sum(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())

    plain = effvit_mm.Detector(trained / 'config.py', trained / 'c.pth', device='cpu', deploy=False)
    assert norms(detector.network.model) < norms(plain.network.model)
    (result,) = plain(images(trained)[0], score_thr=0.0)
    assert_same(result, tested[0], atol=1e-6)


def test_arrays_files_and_folders_give_the_same(trained, detector):
    path = images(trained)[0]
    array = load_image(path)
    with_alpha = np.dstack([array, np.full(array.shape[:2], 9, np.uint8)])
    expected, *rest = detector(trained / 'images', score_thr=0.0)
    assert len(rest) == 3 and expected['image'] == str(path)
    for found in detector([array, with_alpha, str(path)], score_thr=0.0):
        assert_same(found, expected, atol=0)
    grey = np.ascontiguousarray(array[..., 0])
    first, second = detector([grey, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)], score_thr=0.0)
    assert first['image'] is None
    assert_same(first, second, atol=0)
    # The order of the channels counts: blue comes first.
    (swapped,) = detector(array[..., ::-1], score_thr=0.0)
    assert not np.array_equal(swapped['scores'], expected['scores'])


def test_objects_below_the_threshold_are_left_out(trained, detector):
    (everything,) = detector(images(trained)[0], score_thr=0.0)
    threshold = float(np.median(everything['scores']))
    (some,) = detector(images(trained)[0], score_thr=threshold)
    assert (
        len(some['boxes']) == (everything['scores'] >= threshold).sum() < len(everything['boxes'])
    )
    assert some['names'] == [CLASSES[label] for label in some['labels']]
    (none,) = detector(images(trained)[0], score_thr=1.0)
    assert none['boxes'].shape == (0, 4) and none['names'] == []
    picture = detector.draw(images(trained)[0], none)
    assert np.array_equal(picture, load_image(images(trained)[0]))


def test_neither_the_data_set_nor_mmdet_is_needed_to_begin(trained, tmp_path):
    text = (trained / 'config.py').read_text().replace(str(trained), str(tmp_path / 'nowhere'))
    (tmp_path / 'config.py').write_text(text)
    found = effvit_mm.Detector(tmp_path / 'config.py', trained / 'c.pth', device='cpu')
    assert len(found(images(trained)[0])) == 1


def test_importing_is_light_and_no_library_speaks(trained, pythons):
    code = f"""
import warnings
warnings.simplefilter('ignore')
import sys, effvit_mm
print('mmdet' in sys.modules)
effvit_mm.Detector({str(trained / 'config.py')!r}, {str(trained / 'c.pth')!r}, device='cpu')
"""
    result = pythons.run('-c', code)
    assert (result.returncode, result.stdout, result.stderr) == (0, 'False\n', '')


# Masks and names ---------------------------------------------------------------------------------


def test_masks_in_python_and_as_run_lengths(with_masks):
    from pycocotools.mask import decode

    array = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    (result,) = with_masks(array, score_thr=0.0, masks=True)
    count = len(result['boxes'])
    assert result['masks'].shape == (count, 60, 90) and result['masks'].dtype == bool
    assert count > 0 and result['masks'].any()
    line = json.loads(result.to_json())
    for mask, encoded in zip(result['masks'], line['masks'], strict=True):
        assert np.array_equal(decode(encoded).astype(bool), mask)
    assert np.array_equal(np.float32(line['boxes']), result['boxes'])
    (plain,) = with_masks(array)
    assert plain.masks is None and 'masks' not in plain.to_dict()
    assert (with_masks.draw(array, result) != array).any()


def test_names_come_from_the_checkpoint_then_the_config_then_are_numbers(trained, with_masks):
    assert len(with_masks.classes) == 80 and with_masks.classes[0] == 'person'  # CocoDataset's
    config = trained / 'config.py'
    save_checkpoint(load_config(str(config), []), trained / 'nameless.pth')
    nameless = effvit_mm.Detector(config, trained / 'nameless.pth', device='cpu')
    assert nameless.classes == ('0', '1', '2')
    config = trained / 'named.py'
    names = "test_dataloader['dataset']['metainfo'] = dict(classes=('a', 'b', 'c'))\n"
    config.write_text((trained / 'config.py').read_text() + names)
    named = effvit_mm.Detector(config, trained / 'nameless.pth', device='cpu')
    assert named.classes == ('a', 'b', 'c')
    named = effvit_mm.Detector(config, trained / 'c.pth', device='cpu')
    assert named.classes == CLASSES


# Videos and the command line ---------------------------------------------------------------------


def test_frames_of_a_video_are_read_as_they_are_needed(tmp_path, detector, monkeypatch):
    video = make_video(tmp_path / 'clip.mp4')
    read, original = [], cv2.VideoCapture

    class Counted:
        def __init__(self, path):
            self.inner = original(path)

        def read(self):
            read.append(1)
            return self.inner.read()

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(cv2, 'VideoCapture', Counted)
    stream = detector.stream_with_images(video, batch_size=2, score_thr=0.0)
    image, result = next(stream)
    assert len(read) <= 5  # one to know the size, a batch, and the frame that closes it
    rest = list(stream)
    assert [one['frame'] for one in [result, *(r for _, r in rest)]] == [0, 1, 2, 3, 4]
    assert image.array.shape == (48, 64, 3) and result['size'] == (48, 64)
    alone = detector(image.array, score_thr=0.0)[0]
    assert_same(result, alone)


@pytest.fixture(scope='module')
def tool():
    return load_tool('detect')


def test_the_tool_writes_detections_pictures_and_videos(trained, tool, tmp_path, capsys):
    video = make_video(tmp_path / 'clip.mp4')
    out = tmp_path / 'out'
    same_name = tmp_path / '0.png'
    same_name.write_bytes(images(trained)[1].read_bytes())
    arguments = [trained / 'config.py', trained / 'c.pth', trained / 'images', video, same_name,
                 '--out', out, '--score-thr', '0', '--batch-size', '2']  # fmt: skip
    assert tool.main([str(argument) for argument in arguments]) == 0
    lines = [json.loads(line) for line in (out / 'detections.jsonl').read_text().splitlines()]
    assert [one['frame'] for one in lines] == [None] * 5 + [0, 1, 2, 3, 4]
    assert all(len(one['boxes']) == len(one['scores']) == len(one['names']) for one in lines)
    pictures = sorted(path.name for path in (out / 'pictures').iterdir())
    assert pictures == ['0.png', '0_2.png', '1.png', '2.png', '3.png']
    drawn, plain = cv2.imread(str(out / 'pictures' / '0.png')), load_image(images(trained)[0])
    assert drawn.shape == plain.shape and (drawn != plain).any()
    capture = cv2.VideoCapture(str(out / 'videos' / 'clip.mp4'))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and capture.get(cv2.CAP_PROP_FPS) == 10
    assert capture.read()[1].shape == (48, 64, 3)
    assert not list(out.rglob('.*'))
    objects = sum(len(one['boxes']) for one in lines)
    output = capsys.readouterr()
    assert output.out.splitlines()[-1] == f'{objects} objects in 10 images or frames; wrote {out}'
    assert output.err == ''


def test_where_nothing_is_found_the_best_score_is_told(trained, detector, tool, tmp_path, capsys):
    image = images(trained)[0]
    best = float(detector(image, score_thr=0.0)[0].scores.max())
    arguments = [trained / 'config.py', trained / 'c.pth', image, '--out', tmp_path / 'd.jsonl']

    def last_line(score_thr: float, *more: str) -> str:
        assert tool.main([*map(str, arguments), '--score-thr', str(score_thr), *more]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    words = r'^0 objects .*; the best score is ([\d.]+), below --score-thr 1; wrote'
    told = float(re.search(words, last_line(1.0))[1])
    assert best - 0.001 < told <= best and 'best score' not in last_line(told)
    # What the detector leaves out by itself is not known.
    assert 'best score' not in last_line(1.0, '--cfg-options', 'model.test_cfg.score_thr=0.999')


def broken_inputs(root):
    (root / 'empty').mkdir(exist_ok=True)
    (root / 'zero.png').write_bytes(b'')
    (root / 'bad.mp4').write_bytes(b'this is no video' * 100)
    (root / 'notes.txt').write_text('x')
    return {
        'nowhere.png': r'image .*nowhere\.png: no such file or folder',
        'nowhere.mp4': r'video .*nowhere\.mp4: no such file',
        'empty': r'folder .*empty has no image \(\.avif, ',
        'zero.png': r'corrupt image .*zero\.png: the file is empty',
        'bad.mp4': r'video .*bad\.mp4 cannot be opened',
        'notes.txt': r'notes\.txt: neither an image nor a video',
    }


def test_bad_files_are_named_in_one_line(trained, tool, tmp_path, capfd):
    for name, message in broken_inputs(tmp_path).items():
        out = tmp_path / 'out'
        arguments = [trained / 'config.py', trained / 'c.pth', tmp_path / name, '--out', out]
        assert tool.main([str(argument) for argument in arguments]) == 2
        captured = capfd.readouterr()
        assert re.fullmatch(f'error: .*{message}.*\n', captured.err), captured.err
        assert not (out / 'detections.jsonl').exists()


def detect(trained, tool, out, *inputs, batch=2):
    arguments = [trained / 'config.py', trained / 'c.pth', *inputs, '--out', out]
    options = ['--score-thr', '0', '--batch-size', str(batch)]
    return tool.main([*map(str, arguments), *options])


def lines_of(out):
    return [json.loads(line) for line in (out / 'detections.jsonl').read_text().splitlines()]


def test_what_cannot_be_used_is_named_and_the_rest_is_kept(trained, tool, tmp_path, capfd):
    """A broken image in the middle, one of which a side vanishes, and a video without a writer."""
    folder = tmp_path / 'folder'
    folder.mkdir()
    for number, path in enumerate(images(trained)):
        (folder / f'{2 * number}.png').write_bytes(path.read_bytes())
    (folder / '3.png').write_bytes(images(trained)[0].read_bytes()[:60])
    cv2.imwrite(str(folder / '5.png'), np.zeros((8, 3000, 3), np.uint8))
    out = tmp_path / 'out'
    assert detect(trained, tool, out, folder) == 2
    assert [Path(one['image']).name for one in lines_of(out)] == [f'{n}.png' for n in (0, 2, 4, 6)]
    assert len(list((out / 'pictures').iterdir())) == 4
    captured = capfd.readouterr()
    broken, thin, end = captured.err.splitlines()
    assert re.match(r'warning: corrupt image .*3\.png', broken)
    assert re.match(r'warning: image .*5\.png of 3000x8 pixels would be scaled to fit', thin)
    assert end == f'warning: 2 of 6 left out, named above; 4 are in {out} (exit code 2)'
    assert captured.out.endswith(f'in 4 images or frames; wrote {out}\n')


def test_a_video_that_cannot_be_written_keeps_its_detections(
    trained, tool, tmp_path, capfd, monkeypatch
):
    clips = [make_video(tmp_path / f'{name}.mp4') for name in 'ab']
    monkeypatch.setattr(output, 'writable_rate', lambda fps: 66.667)
    assert detect(trained, tool, tmp_path / 'out', *clips) == 2
    assert [one['frame'] for one in lines_of(tmp_path / 'out')] == [0, 1, 2, 3, 4] * 2
    assert not list((tmp_path / 'out' / 'videos').iterdir())
    told = re.findall(r'warning: video .*/([ab])\.mp4: OpenCV cannot write', capfd.readouterr().err)
    assert told == ['a', 'b']


def test_a_video_no_frame_of_which_can_be_used_leaves_no_file(trained, tool, tmp_path, capfd):
    """Its frames are as high as nothing once they are resized; each has the same fault."""
    clip = make_video(tmp_path / 'wide.mp4', size=(2, 4000))
    assert detect(trained, tool, tmp_path / 'out', clip, images(trained)[0]) == 2
    assert not list((tmp_path / 'out' / 'videos').iterdir())
    captured = capfd.readouterr()
    told, end = captured.err.splitlines()
    assert re.match(r'warning: video .*wide\.mp4, frame 0 of 4000x2 pixels would be scaled', told)
    assert end.startswith('warning: 5 of 6 left out, named above; 1 are in ')


def test_what_is_passed_over_is_told_in_a_plain_line(trained, trainers, tmp_path):
    folder = tmp_path / 'folder'
    folder.mkdir()
    shutil.copy(images(trained)[0], folder)
    (folder / 'notes.txt').write_text('')
    words = [trained / 'config.py', trained / 'c.pth', folder, '--out', tmp_path / 'out']
    said = trainers.run(ROOT / 'tools' / 'detect.py', *words)
    assert said.returncode == 0
    expected = 'passed over: 1 files that are no images by their names (notes.txt)'
    assert said.stderr == f'warning: folder {folder}: {expected}\n'


def test_an_interrupted_run_keeps_what_was_found(trained, tool, tmp_path, capfd, monkeypatch):
    written = []

    def interrupt(picture, path):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(output, 'save_png', interrupt)
    assert detect(trained, tool, tmp_path / 'out', trained / 'images') == 130
    assert len(lines_of(tmp_path / 'out')) == 2
    captured = capfd.readouterr()
    assert 'in 2 images or frames; wrote' in captured.out and captured.err == 'interrupted\n'


def test_a_run_that_cannot_begin_leaves_older_results_alone(trained, tool, tmp_path, capfd):
    out = tmp_path / 'out'
    assert detect(trained, tool, out, trained / 'images') == 0
    before = (out / 'detections.jsonl').read_bytes()
    assert detect(trained, tool, out, trained / 'images', batch=0) == 2
    assert (out / 'detections.jsonl').read_bytes() == before


@pytest.mark.parametrize('shape', [(8, 3000, 3), (1, 3000, 3), (3000, 8, 3), (1, 1, 3)])
def test_images_and_frames_whose_side_would_vanish_are_named(detector, tmp_path, shape):
    image = np.zeros(shape, np.uint8)
    cv2.imwrite(str(tmp_path / 'thin.png'), image)
    for given, name in ((image, 'array'), (tmp_path / 'thin.png', r'image .*thin\.png')):
        if shape == (1, 1, 3):
            assert len(detector(given)) == 1
            continue
        with pytest.raises(DataError, match=f'^{name} of {shape[1]}x{shape[0]} pixels would be'):
            detector(given)
    frame = Image(Path('clip.avi'), 7, image)
    if shape != (1, 1, 3):
        with pytest.raises(DataError, match=r'video clip\.avi, frame 7 of'):
            detector.network.load(frame)


@pytest.mark.parametrize(
    ('array', 'message'),
    [
        (np.zeros((2, 8, 8, 3), np.uint8), r'shape \(2, 8, 8, 3\).* as a list'),
        (np.zeros((8, 8, 2), np.uint8), r'shape \(8, 8, 2\)'),
        (np.zeros((0, 8, 3), np.uint8), r'shape \(0, 8, 3\)'),
        (np.zeros((8, 8, 3), np.float32), r'float32: uint8 from 0 to 255'),
        (None, r'NoneType: a file, a folder, an array'),
        ([], r'the list is empty'),
    ],
)
def test_what_is_no_image_is_refused(detector, array, message):
    with pytest.raises(DataError, match=message):
        detector(array)


def test_arguments_out_of_range_are_refused(trained, detector):
    for options, message in (
        ({'batch_size': 0}, 'batch_size=0: 1 or more'),
        ({'score_thr': 1.5}, 'score_thr=1.5: a number from 0 to 1'),
    ):
        with pytest.raises(ConfigError, match=message):
            detector(images(trained)[0], **options)
    told = {'gpu': ': cpu, cuda, cuda:1 and so on are allowed$', 'cuda:99': ' cannot be used: '}
    for device, message in told.items():
        with pytest.raises(ConfigError, match=f"device '{device}'{message}"):
            effvit_mm.Detector(trained / 'config.py', trained / 'c.pth', device=device)


def test_checkpoints_of_other_models_and_classes_are_refused(trained, tmp_path):
    config = str(trained / 'config.py')
    five = load_config(config, ['model.bbox_head.num_classes=5'])
    save_checkpoint(five, tmp_path / 'five.pth')
    save_checkpoint(
        load_config(config, []), tmp_path / 'names.pth', {'dataset_meta': {'classes': ('a', 'b')}}
    )
    torch.save({'state_dict': {'w': torch.zeros(3)}}, tmp_path / 'other.pth')
    state = torch.load(trained / 'c.pth')['state_dict']
    del state['neck.fpn_convs.0.conv.weight']
    torch.save({'state_dict': state}, tmp_path / 'part.pth')
    for name, message in {
        'five.pth': r'five\.pth was trained for 5 classes, the model .* has 3',
        'names.pth': 'names 2 classes, the model has 3',
        'other.pth': 'none of its 1 tensors fits the model',
        'part.pth': r'^a checkpoint of another model: .* 1 not in the file: neck\.fpn_convs',
        'nowhere.pth': r'nowhere\.pth: no such file',
    }.items():
        with pytest.raises(CheckpointError, match=message):
            effvit_mm.Detector(config, tmp_path / name, device='cpu')


def test_a_classifier_is_no_detector(trained):
    config = ROOT / 'configs' / 'pslt' / 'pslt-tiny_digits.py'
    with pytest.raises(ConfigError, match='a detector is needed'):
        effvit_mm.Detector(config, trained / 'c.pth')
