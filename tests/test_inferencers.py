"""One contract for classifiers, detectors and extractors: all inputs, runtimes, typed results."""

from __future__ import annotations

import types
import warnings

import cv2
import numpy as np
import pytest
import torch
from inferencers import TASKS, make_models, photographs
from PIL import Image
from remedies import tries

from effvit_mm.errors import ConfigError, DataError

RUNTIMES = ('torch', 'openvino', 'onnxruntime')


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp('models'))


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
def inferencers(models, tmp_path_factory):
    """Of a task and a runtime, made once."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))

        def make(task, name=None):
            if (task, name) not in made:
                options = {'runtime': name} if name else {'device': 'cpu'}
                made[task, name] = TASKS[task][1](*models[task], **options)
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


@pytest.mark.filterwarnings('ignore:folder .*which are not looked into')
@pytest.mark.parametrize('name', RUNTIMES)
@pytest.mark.parametrize('task', TASKS)
def test_all_inputs_give_the_same_results(task, name, data, inferencers, cameras):
    inferencer, options = inferencers(task, name), TASKS[task][2]
    plain = inferencers(task)
    shots = plain(data.arrays, **options)
    frames = plain(data.frames, **options)
    assert task != 'detection' or len(shots[0]) > 3
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
    broken.write_bytes((tmp_path / '0.png').read_bytes()[:900])
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


def test_a_video_that_is_gone_when_its_turn_comes(data, inferencers, tmp_path):
    classifier, file = inferencers('classification'), tmp_path / 'clip.avi'
    for on_error in ('raise', 'skip'):
        file.write_bytes((data.root / 'clip.avi').read_bytes())
        stream = classifier.stream([data.arrays[0], file, shot(data, 1)], 1, on_error=on_error)
        next(stream)
        file.unlink()
        if on_error == 'raise':
            with pytest.raises(DataError, match=r'video .*clip\.avi: no such file'):
                next(stream)
        else:
            with pytest.warns(UserWarning, match='no such file|1 of . left out'):
                assert [one.image for one in stream] == [str(shot(data, 1))]


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


@tries('on_error={}: choose from {}')
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
    assert texts[2] == '2 of 4 left out, named above'
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
