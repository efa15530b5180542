"""One contract for classifiers, detectors and extractors: all inputs, runtimes, typed results."""

from __future__ import annotations

import json
import sys
import types
import warnings
from dataclasses import FrozenInstanceError, dataclass, field

import cv2
import numpy as np
import pytest
import torch
from inferencers import TASKS, photographs
from PIL import Image
from trainer import forget_runs

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.inference.export import load_network
from effvit_mm.inference.results import Detection, Matches

RUNTIMES = ('torch', 'openvino', 'onnxruntime')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with a model of each task."""
    root = tmp_path_factory.mktemp('models')
    models = {}
    for task, (make, _, _) in TASKS.items():
        (root / task).mkdir()
        models[task] = make(root / task)
    forget_runs()
    return models


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Five images in a folder, two of them in one below it, and a video of four other ones."""
    root = tmp_path_factory.mktemp('data')
    (root / 'shots' / 'more').mkdir(parents=True)
    arrays = photographs(5)
    for number, array in enumerate(arrays):
        folder = root / 'shots' / ('more' if number > 2 else '.')
        cv2.imwrite(str(folder / f'{number}.png'), array)
    writer = cv2.VideoWriter(str(root / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (48, 36))
    for array in photographs(4, seed=1):
        writer.write(array)
    writer.release()
    capture = cv2.VideoCapture(str(root / 'clip.avi'))
    frames = [capture.read()[1] for _ in range(4)]
    return types.SimpleNamespace(root=root, shots=root / 'shots', arrays=arrays, frames=frames)


@pytest.fixture(scope='module')
def inferencers(place, tmp_path_factory):
    """Of a task and a runtime, made once."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))

        def make(task, name='torch'):
            if (task, name) not in made:
                options = {'runtime': name} if name != 'torch' else {'device': 'cpu'}
                made[task, name] = TASKS[task][1](*place[task], **options)
            return made[task, name]

        yield make


def shot(data, number):
    return data.shots / ('more' if number > 2 else '') / f'{number}.png'


def pillow(array):
    return Image.fromarray(array[..., ::-1].copy())


# What is given, with the options of the call, and which images these are: of the photographs by
# number, or frames of the video.
INPUTS = {
    'file': lambda d: (shot(d, 1), {}, [1]),
    'file, as text': lambda d: (str(shot(d, 1)), {}, [1]),
    'folder': lambda d: (d.shots, {}, [0, 1, 2]),
    'folder and those in it': lambda d: (d.shots, {'subfolders': True}, [0, 1, 2, 3, 4]),
    'pattern': lambda d: (f'{d.shots}/[12].png', {}, [1, 2]),
    'pattern of folders': lambda d: (f'{d.shots}/**/*.png', {}, [0, 1, 2, 3, 4]),
    'list': lambda d: ([shot(d, 2), d.arrays[0], pillow(d.arrays[4])], {}, [2, 0, 4]),
    'file given twice': lambda d: ([shot(d, 2), shot(d, 2)], {}, [2, 2]),
    'array': lambda d: (d.arrays[3], {}, [3]),
    'RGB arrays': lambda d: ([a[..., ::-1] for a in d.arrays[:2]], {'rgb': True}, [0, 1]),
    'image of Pillow': lambda d: (pillow(d.arrays[3]), {}, [3]),
    'opened by Pillow': lambda d: (Image.open(shot(d, 3)), {}, [3]),
    'video': lambda d: (d.root / 'clip.avi', {}, 'frames'),
    'camera': lambda d: (0, {}, 'frames'),
    'RTSP': lambda d: ('rtsp://me:secret@somewhere:554/live', {}, 'frames'),
    'HTTP': lambda d: ('http://somewhere/clip.avi', {}, 'frames'),
    'generator of arrays': lambda d: ((a for a in d.arrays), {}, [0, 1, 2, 3, 4]),
    'iterator of files': lambda d: (iter([shot(d, 4), shot(d, 0)]), {}, [4, 0]),
}  # fmt: skip


@pytest.fixture
def cameras(data, monkeypatch):
    """There is neither a camera nor a network: OpenCV opens a file where it is asked for one, and
    all that is behind ``cv2.VideoCapture`` is real."""
    opened, capture = [], cv2.VideoCapture

    def open_file(source):
        opened.append(source)
        return capture(str(data.root / 'clip.avi'))

    monkeypatch.setattr(cv2, 'VideoCapture', open_file)
    return opened


def assert_same(found, wanted):
    """Results of two calls, but for the images' names."""
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        for name in ('scores', 'boxes', 'feature', 'labels'):
            if hasattr(one, name):
                np.testing.assert_allclose(one[name], other[name], atol=2e-4, err_msg=name)


@pytest.mark.parametrize('name', RUNTIMES)
@pytest.mark.parametrize('task', TASKS)
def test_all_inputs_give_the_same_results(task, name, data, inferencers, cameras):
    inferencer, options = inferencers(task, name), TASKS[task][2]
    plain = inferencers(task)
    shots = plain(data.arrays, **options)
    frames = plain(data.frames, **options)
    apart = np.abs(shots[0].to_dict().get('scores', 0)) if task == 'detection' else None
    assert apart is None or len(apart) > 3
    for kind, make in INPUTS.items():
        given, more, which = make(data)
        wanted = frames if which == 'frames' else [shots[number] for number in which]
        found = list(inferencer(given, batch_size=2, **more, **options))
        assert_same(found, wanted)
        again = list(inferencer.stream(make(data)[0], **more, **options))
        assert_same(again, wanted)
        assert [one.image for one in again] == [one.image for one in found], kind
        if which == 'frames' or 'generator' in kind:
            assert [one.frame for one in found] == list(range(len(found)))
    assert cameras.count(0) == 2  # a camera is opened once for each call


def test_results_say_what_they_are_of(data, inferencers, cameras):
    classifier = inferencers('classification')

    def names(given, **options):
        return [one.image for one in classifier(given, **options)]

    assert names(data.shots, subfolders=True) == [str(shot(data, n)) for n in range(5)]
    assert names([data.arrays[0], pillow(data.arrays[1])]) == [None, None]
    assert set(names(7)) == {'camera 7'}
    assert set(names('rtsp://me:secret@somewhere:554/live')) == {'rtsp://somewhere:554/live'}
    assert set(names(data.root / 'clip.avi')) == {str(data.root / 'clip.avi')}


def test_images_of_pillow_are_what_files_of_them_are(inferencers, tmp_path):
    """Turned by EXIF, grey, 16 bits, palette, transparent: the same as by their files."""
    classifier, rgb = inferencers('classification'), pillow(photographs(1)[0])
    deep = Image.fromarray((np.arange(36 * 48).reshape(36, 48) * 30).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    for number, image in enumerate((rgb, rgb.convert('L'), rgb.convert('P'), deep)):
        path = tmp_path / f'{number}.png'
        image.save(path, exif=exif)
        by_file, by_pillow = classifier([path, Image.open(path)])
        np.testing.assert_allclose(by_file.scores, by_pillow.scores, atol=1e-6)
    broken = tmp_path / 'cut.png'
    broken.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r'image .*cut\.png cannot be read'):
        classifier(Image.open(broken))


def test_streams_are_asked_for_one_batch_at_a_time(data, inferencers, cameras):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield data.arrays[len(asked) % 5]

    for task, (_, _, options) in TASKS.items():
        asked.clear()
        stream = inferencers(task).stream(endless(), batch_size=3, **options)
        assert asked == []
        results = [next(stream) for _ in range(4)]
        assert len(asked) == 6 and [one.frame for one in results] == [0, 1, 2, 3]
    # A camera's frames do not wait for others.
    live = inferencers('classification').stream_with_images(0)
    image, _ = next(live)
    assert np.array_equal(image.array, data.frames[0])


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (None, 'inputs: NoneType: a file, a folder, an array'),
        (True, 'inputs: bool: a file, a folder'),
        ({'a.jpg'}, 'inputs: set: a file'),
        (torch.zeros(3, 8, 8), 'inputs: Tensor: a file'),
        ([], 'the list is empty'),
        ('none/*.png', r'pattern none/\*\.png: no image or video has such a name'),
        ('none.png', r'image none\.png: no such file or folder'),
        (np.zeros((8, 8, 3), np.float32), 'float32: uint8 from 0 to 255'),
        (99, r'camera 99 cannot be opened: there is none, or another program has it'),
        ('rtsp://u:p@127.0.0.1:9/a', r'^rtsp://127\.0\.0\.1:9/a cannot be opened: nothing answers'),
    ],
)  # fmt: skip
def test_what_is_no_input_is_named(task, given, message, inferencers, capfd):
    with pytest.raises(DataError, match=message):
        inferencers(task)(given)
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('task', TASKS)
def test_inputs_that_cannot_be_used_end_all_or_are_left_out(task, data, inferencers, tmp_path):
    inferencer, options = inferencers(task), TASKS[task][2]
    (tmp_path / 'broken.png').write_bytes(b'no image')
    given = [shot(data, 0), tmp_path / 'gone.png', tmp_path / 'broken.png', shot(data, 1)]
    with pytest.raises(DataError, match=r'gone\.png'):
        inferencer(given, **options)
    with pytest.warns(UserWarning) as told:
        found = inferencer(given, on_error='skip', **options)
    texts = [str(warning.message) for warning in told]
    assert len(texts) == 3 and 'gone.png' in texts[0] and 'broken.png' in texts[1]
    assert texts[2] == '2 results; 2 left out, named above'
    assert [one.image for one in found] == [given[0].__fspath__(), given[3].__fspath__()]
    with pytest.raises(DataError, match=r'last\.png'), pytest.warns(UserWarning, match='gone'):
        inferencer([given[1], tmp_path / 'last.png'], on_error='skip')
    with pytest.raises(ConfigError, match=r"on_error='ignore': choose from raise, skip"):
        inferencer(given, on_error='ignore')
    with pytest.raises(ConfigError, match='batch_size=0: 1 or more'):
        inferencer(given[0], batch_size=0)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(list(inferencer(given[0], on_error='skip', **options))) == 1


@pytest.mark.parametrize('task', TASKS)
def test_results_are_frozen_and_plain_values(task, data, inferencers):
    (found,) = inferencers(task)(data.arrays[0], **TASKS[task][2])
    assert json.loads(found.to_json()) == json.loads(json.dumps(found.to_dict()))
    assert {'image', 'frame'} <= found.to_dict().keys()
    assert all(len(row) == len(found.COLUMNS) for row in found.rows())
    with pytest.raises(FrozenInstanceError):
        found.image = 'a'
    assert found['image'] is None  # as the dicts of earlier versions


def test_the_detector_has_its_old_name():
    assert effvit_mm.DetInferencer is effvit_mm.Detector


# Detections in other forms ------------------------------------------------------------------------


def detection(masks=True):
    shown = np.zeros((2, 20, 30), bool)
    shown[0, 2:8, 1:11] = shown[1, 10:20, 20:30] = True
    boxes = np.float32([[1, 2, 11, 8], [20, 10, 30, 20]])
    scores, labels = np.float32([0.75, 0.5]), np.array([2, 0])
    names = ['cat', 'ant']
    return Detection(
        'a.jpg', None, (20, 30), boxes, scores, labels, names, shown if masks else None
    )


def test_detections_as_coco_results(tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.mask import decode

    found = detection()
    rows = found.to_coco(5, {'ant': 7, 'cat': 9})
    assert rows == found.to_coco(5, [7, 8, 9])
    assert [row['category_id'] for row in rows] == [9, 7]
    assert rows[0]['bbox'] == [1, 2, 10, 6] and rows[0]['score'] == 0.75
    for row, mask in zip(rows, found.masks, strict=True):
        assert np.array_equal(decode(row['segmentation']).astype(bool), mask)
    truth = COCO()
    truth.dataset = {
        'images': [{'id': 5, 'width': 30, 'height': 20}],
        'categories': [{'id': 7, 'name': 'ant'}, {'id': 9, 'name': 'cat'}],
        'annotations': [],
    }
    truth.createIndex()
    (tmp_path / 'rows.json').write_text(json.dumps(rows))
    assert len(truth.loadRes(str(tmp_path / 'rows.json')).anns) == 2
    assert 'segmentation' not in detection(masks=False).to_coco(5, [7, 8, 9])[0]
    with pytest.raises(ConfigError, match=r"category_ids: 1 .*none for class 2 \('cat'\)"):
        found.to_coco(5, [7])


@dataclass
class Detections:
    """Has the arguments of supervision's class, for where that is not installed."""

    xyxy: np.ndarray
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    data: dict = field(default_factory=dict)


@pytest.mark.parametrize('masks', [True, False])
def test_detections_for_supervision(masks, monkeypatch):
    try:
        import supervision  # noqa: F401
    except ModuleNotFoundError:
        stand_in = types.ModuleType('supervision')
        stand_in.Detections = Detections
        monkeypatch.setitem(sys.modules, 'supervision', stand_in)
    found = detection(masks)
    given = found.to_supervision()
    assert np.array_equal(given.xyxy, found.boxes) and given.class_id.tolist() == [2, 0]
    assert given.confidence.tolist() == [0.75, 0.5]
    assert list(given.data['class_name']) == ['cat', 'ant']
    assert np.array_equal(given.mask, found.masks) if masks else given.mask is None


def test_supervision_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(ConfigError, match=r'needs .*: `pip install supervision`$'):
        detection().to_supervision()


def test_rows_of_an_image_without_objects_and_without_matches():
    nothing = detection()
    empty = Detection('b.jpg', 3, (2, 2), *(np.empty((0, 4)), np.empty(0), np.empty(0, int)), [])
    assert [len(row) for row in nothing.rows()] == [len(Detection.COLUMNS)] * 2
    assert empty.rows() == [['b.jpg', 3, *[None] * 8]]
    assert Matches('b.jpg', None, [], np.empty(0)).rows() == [['b.jpg', None, None, None, None]]


# Files alone --------------------------------------------------------------------------------------


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_features_of_an_exported_file_alone(suffix, flip, place, data, tmp_path):
    """They are those of the model, and may be compared with them."""
    names = place['re-identification']
    network = load_network(*names, preprocess=True).network
    path = tmp_path / f'people{suffix}'
    {'.onnx': runtime.export_onnx, '.xml': runtime.export_openvino}[suffix](network, path, (64, 32))
    extractor = effvit_mm.ReIDExtractor(*names, flip=flip, device='cpu')
    wanted, found = extractor(data.arrays), effvit_mm.ReIDExtractor(path, flip=flip)(data.arrays)
    np.testing.assert_allclose(found.features, wanted.features, atol=1e-4)
    found.check_same_space(wanted)
    with pytest.raises(ConfigError, match=r'checkpoint=.*is a file and takes none'):
        effvit_mm.ReIDExtractor(path, names[1])
    with pytest.raises(ConfigError, match=r'no classifier that takes photographs'):
        effvit_mm.Classifier(path)


def test_features_are_an_array_and_results(place, data):
    extractor = effvit_mm.ReIDExtractor(*place['re-identification'], device='cpu')
    features = extractor(data.shots, subfolders=True)
    assert len(features) == 5 and features.features.shape == (5, features.width)
    assert features.paths == [one.image for one in features]
    for row, one in zip(features.features, features, strict=True):
        assert np.array_equal(row, one.feature)
    assert np.array_equal(features[1].feature, features[1:3].features[0])
    gallery = effvit_mm.Gallery(features.width, features.model)
    gallery.add(features)
    indices, distances = gallery.search(extractor(shot(data, 3)), top=2)
    assert indices[0, 0] == 3 and distances[0, 0] < 1e-5 < distances[0, 1]
