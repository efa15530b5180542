"""The project's data sets, and what happens to images that are broken."""

import io
import multiprocessing
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image

from effvit_mm.errors import DataError
from effvit_mm.openmm.datasets import (
    Digits,
    FashionMNIST,
    ImageFolder,
    ImageNet,
    LoadImage,
    classification,
    find_corrupt,
)
from effvit_mm.sample_data.folders import make_once
from effvit_mm.utils.images import jpeg_is_complete, load_image


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='session')
def digits_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('digits') / 'digits'
    Digits(data_root=str(root))
    return root


def picture(size=(48, 36)) -> Image.Image:
    noise = np.random.RandomState(0).randint(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def make_folder(root: Path, layout: dict[str, int]) -> Path:
    """``{'train/cat': 2}``: two pictures in that folder."""
    data = encoded(picture(), 'PNG')
    for name, count in layout.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f'{i}.png').write_bytes(data)
    return root


# --- digits ---------------------------------------------------------------------------------


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob('*') if p.is_file()}


def test_digits_are_split_into_1442_and_355_with_every_class_in_both(digits_root):
    train, test = Digits(str(digits_root), 'train'), Digits(str(digits_root), 'test')
    assert (len(train), len(test)) == (1442, 355)
    assert train.metainfo['classes'] == test.metainfo['classes'] == tuple('0123456789')
    share = np.bincount(test.get_gt_labels()) / np.bincount(train.get_gt_labels())
    assert np.all((share > 0.23) & (share < 0.26))


def test_digits_are_the_same_files_each_time(digits_root, tmp_path):
    Digits(data_root=str(tmp_path / 'again'))
    assert files_of(tmp_path / 'again') == files_of(digits_root)


def test_digits_are_8x8_pictures_of_scikit_learns_values(digits_root):
    from sklearn.datasets import load_digits

    file = next((digits_root / 'train' / '3').glob('*.png'))
    image = load_image(file)
    expected = load_digits().images[int(file.stem)]
    assert image.shape == (8, 8, 3)
    assert np.array_equal(np.round(image[..., 0] / 255 * 16), expected)


def test_digits_build_from_a_config_by_their_name(digits_root):
    init_default_scope('mmpretrain')
    pipeline = [
        {'type': 'effvit_mm.LoadImage'},
        {'type': 'Resize', 'scale': 32},
        {'type': 'PackInputs'},
    ]
    config = {
        'type': 'effvit_mm.Digits',
        'data_root': str(digits_root),
        'split': 'test',
        'test_mode': True,
        'pipeline': pipeline,
    }
    sample = DATASETS.build(config)[0]
    assert sample['inputs'].shape == (3, 32, 32)
    assert int(sample['data_samples'].gt_label) == 0


def _make_and_count(root: str, barrier) -> None:
    barrier.wait()
    assert len(Digits(root)) == 1442


def test_processes_that_make_the_digits_at_once_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(2)
    root = tmp_path / 'new' / 'digits'
    processes = [
        context.Process(target=_make_and_count, args=(str(root), barrier)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert os.listdir(root.parent) == ['digits'], 'temporary folders stay behind'


def test_a_failed_making_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / 'half').write_text('')
        raise RuntimeError('power cut')

    with pytest.raises(RuntimeError, match='power cut'):
        make_once(tmp_path / 'data', fail)
    assert os.listdir(tmp_path) == []


def test_a_folder_of_unknown_origin_is_not_used(tmp_path):
    (tmp_path / 'train').mkdir()
    with pytest.raises(DataError, match='did not make it'):
        Digits(str(tmp_path))


def test_data_of_another_version_are_not_used(tmp_path):
    make_once(tmp_path / 'data', lambda folder: None, version='1')
    with pytest.raises(DataError, match='version 1, this release makes 2'):
        make_once(tmp_path / 'data', lambda folder: None, version='2')


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='file/digits'):
        Digits(str(tmp_path / 'file' / 'digits'))


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="'train' and 'test', not 'val'"):
        Digits(str(tmp_path), split='val')


# --- loading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('kind', 'mode'),
    [(kind, mode) for kind in ('PNG', 'TIFF') for mode in ('L', 'RGB', 'RGBA', 'P', '1')]
    + [('PNG', 'LA')],  # Pillow writes another picture as TIFF
)
def test_every_kind_of_pixel_gives_three_uint8_channels(tmp_path, mode, kind):
    source = picture().convert(mode)
    (tmp_path / 'image').write_bytes(encoded(source, kind))
    image = load_image(tmp_path / 'image')
    assert image.dtype == np.uint8
    expected = np.asarray(source.convert('RGB'))[..., ::-1]
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_16_bits_are_cut_to_8(tmp_path):
    values = np.arange(48 * 36, dtype=np.uint16).reshape(36, 48) * 37
    cv2.imwrite(str(tmp_path / 'deep.png'), values)
    image = load_image(tmp_path / 'deep.png')
    assert image.dtype == np.uint8
    assert np.array_equal(image[..., 1], values >> 8)


def test_cmyk_is_converted(tmp_path):
    data = encoded(picture().convert('CMYK'), 'JPEG', quality=95)
    (tmp_path / 'print.jpg').write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))[..., ::-1]
    difference = np.abs(load_image(tmp_path / 'print.jpg').astype(int) - expected)
    assert difference.mean() < 3


def test_the_exif_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    (tmp_path / 'turned.jpg').write_bytes(encoded(picture(), 'JPEG', exif=exif))
    assert load_image(tmp_path / 'turned.jpg').shape == (48, 36, 3)


BROKEN = {
    'empty.jpg': lambda: b'',
    'text.png': lambda: b'<html>404 Not Found</html>',
    'half.jpg': lambda: encoded(picture(), 'JPEG')[:-700],
    'nearly.jpg': lambda: encoded(picture(), 'JPEG')[:-2],
    'progressive.jpg': lambda: encoded(picture(), 'JPEG', progressive=True)[:-300],
    'header.jpg': lambda: encoded(picture(), 'JPEG')[:30],
    'zeros.jpg': lambda: encoded(picture(), 'JPEG')[:-700] + bytes(700),
    'half.png': lambda: encoded(picture(), 'PNG')[:-1000],
    'zeros.png': lambda: encoded(picture(), 'PNG')[:-1000] + bytes(1000),
    'half.bmp': lambda: encoded(picture(), 'BMP')[:-2000],
    'half.webp': lambda: encoded(picture(), 'WEBP')[:-100],
    'half.tif': lambda: encoded(picture(), 'TIFF')[:-2000],
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name]())
    with pytest.raises(DataError, match=f'corrupt image .*{name}: .+'):
        LoadImage()({'img_path': str(tmp_path / name)})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r'gone\.jpg: No such file'):
        load_image(tmp_path / 'gone.jpg')


def test_the_end_of_an_embedded_thumbnail_is_not_taken_for_the_images():
    thumbnail = encoded(picture((16, 12)), 'JPEG')
    # An APP1 segment that holds a whole JPEG.
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = encoded(picture(), 'JPEG')
    whole = whole[:2] + segment + whole[2:]
    assert jpeg_is_complete(whole)
    assert jpeg_is_complete(whole + b'appended by some camera')
    assert not jpeg_is_complete(whole[:-2])


# --- leaving corrupt images out ---------------------------------------------------------------


@pytest.fixture
def spoilt(tmp_path):
    root = make_folder(
        tmp_path / 'images', {'train/cat': 3, 'train/dog': 3, 'val/cat': 2, 'val/dog': 2}
    )
    (root / 'train' / 'cat' / '1.png').write_bytes(b'')
    (root / 'val' / 'dog' / '0.png').write_bytes(b'nothing')
    return root


PIPELINE = [{'type': 'effvit_mm.LoadImage'}, {'type': 'PackInputs'}]


@pytest.mark.parametrize('test_mode', [False, True])
def test_by_default_a_corrupt_image_is_an_error(spoilt, test_mode):
    init_default_scope('mmpretrain')
    dataset = ImageFolder(str(spoilt), pipeline=PIPELINE, test_mode=test_mode)
    assert len(dataset) == 6
    with pytest.raises(DataError, match=r'cat/1\.png: the file is empty'):
        list(map(dataset.__getitem__, range(6)))


@pytest.mark.parametrize('split, left', [('train', 5), ('val', 3)])
def test_skipped_images_are_named_counted_and_gone(spoilt, split, left, monkeypatch):
    from mmengine.logging import MMLogger

    init_default_scope('mmpretrain')
    messages = []
    monkeypatch.setattr(
        MMLogger.get_current_instance(), 'warning', lambda text, *_: messages.append(text)
    )
    dataset = ImageFolder(
        str(spoilt), split, pipeline=PIPELINE, skip_corrupt=True, test_mode=split == 'val'
    )
    assert len(dataset) == left
    assert dataset.num_skipped == 1
    assert len([dataset[i] for i in range(left)]) == left
    assert any('1.png' in text or '0.png' in text for text in messages)
    assert any(f'skipped 1 corrupt images of {left + 1}' in text for text in messages)


def test_the_check_is_kept_until_a_file_changes(spoilt, monkeypatch):
    from effvit_mm.openmm.datasets import scan

    paths = [str(path) for path in sorted((spoilt / 'train').rglob('*.png'))]
    first = find_corrupt(paths)
    assert list(first) == [str(spoilt / 'train' / 'cat' / '1.png')]
    decoded, load = [], scan.load_image
    monkeypatch.setattr(scan, 'load_image', lambda path: decoded.append(path) or load(path))
    assert find_corrupt(paths) == first
    assert decoded == []
    (spoilt / 'train' / 'dog' / '2.png').write_bytes(b'changed')
    find_corrupt(paths)
    assert sorted(decoded) == paths


def test_a_cache_that_cannot_be_written_does_not_end_the_run(spoilt, monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    assert ImageFolder(str(spoilt), skip_corrupt=True).num_skipped == 1


def test_nothing_but_corrupt_images_is_an_error(tmp_path):
    root = make_folder(tmp_path, {'train/cat': 1})
    (root / 'train' / 'cat' / '0.png').write_bytes(b'')
    with pytest.raises(DataError, match='none of its 1 images'):
        ImageFolder(str(root), skip_corrupt=True)


# --- one's own folders ------------------------------------------------------------------------


def test_classes_are_the_training_folders_in_every_split(tmp_path):
    root = make_folder(
        tmp_path, {'train/b': 1, 'train/a': 2, 'train/c/deep': 1, 'train/.hidden': 1, 'val/c': 1}
    )
    train, val = ImageFolder(str(root)), ImageFolder(str(root), 'val')
    assert train.metainfo['classes'] == val.metainfo['classes'] == ('a', 'b', 'c')
    assert train.get_gt_labels().tolist() == [0, 0, 1, 2]
    assert val.get_gt_labels().tolist() == [2]


@pytest.mark.parametrize(
    'layout, split, message',
    [
        ({}, 'train', 'train does not exist'),
        ({'train/a': 1}, 'val', 'val does not exist'),
        ({'train': 2}, 'train', 'no class folders'),
        ({'train/a': 0, 'train/b': 0}, 'train', 'no images in its class folders'),
        ({'train/a': 1, 'train/b': 0}, 'train', "no images of the class 'b'"),
        ({'train/a': 1, 'val/a': 1, 'val/x': 1}, 'val', "class folder 'x', which is none of the 1"),
    ],
)
def test_a_folder_that_cannot_work_is_explained(tmp_path, layout, split, message):
    make_folder(tmp_path, layout)
    with pytest.raises(DataError, match=message):
        ImageFolder(str(tmp_path), split)


def test_empty_classes_can_be_allowed(tmp_path):
    make_folder(tmp_path, {'train/a': 1, 'train/b': 0})
    dataset = ImageFolder(str(tmp_path), allow_empty_classes=True)
    assert dataset.metainfo['classes'] == ('a', 'b')


def test_what_follows_for_classes_without_images_is_told_once(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(classification, 'tell_once', lambda text: text and told.append(text))
    make_folder(tmp_path, {'train/a': 1, 'train/b': 1, 'train/c': 0, 'val/a': 1})
    ImageFolder(str(tmp_path), allow_empty_classes=True)
    ImageFolder(str(tmp_path), 'val')
    assert told == [
        f"{tmp_path / 'train'}: no images of the class 'c': never learned",
        f"{tmp_path / 'val'}: no images of the class 'b' and 1 more (c): without figures in the "
        'evaluation',
    ]


def test_an_empty_data_root_is_refused():
    with pytest.raises(DataError, match='data_root is empty'):
        ImageFolder('')


@pytest.mark.parametrize('layout, message', [({}, 'does not exist'), ({'val/a': 1}, '1 class')])
def test_imagenet_tells_what_it_expects(tmp_path, layout, message):
    make_folder(tmp_path, layout)
    with pytest.raises(DataError, match=message):
        ImageNet(data_root=str(tmp_path), split='val')


# --- Fashion-MNIST ----------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    sizes = b''.join(size.to_bytes(4, 'big') for size in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes()


@pytest.fixture
def fashion(tmp_path):
    import gzip

    values = np.random.RandomState(0).randint(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.arange(6, dtype=np.uint8)
    (tmp_path / 't10k-images-idx3-ubyte.gz').write_bytes(gzip.compress(idx(values)))
    (tmp_path / 't10k-labels-idx1-ubyte').write_bytes(idx(labels))
    return tmp_path, values


def test_fashion_mnist_is_read_packed_or_not(fashion):
    root, values = fashion
    before = sorted(os.listdir(root))
    dataset = FashionMNIST(str(root), 'test')
    assert dataset.get_gt_labels().tolist() == list(range(6))
    image = dataset.get_data_info(3)['img']
    assert image.shape == (28, 28, 3)
    assert np.array_equal(image[..., 2], values[3])
    assert sorted(os.listdir(root)) == before


def test_missing_or_cut_files_of_fashion_mnist_are_named(fashion):
    root, _ = fashion
    with pytest.raises(DataError, match=r'train-images-idx3-ubyte\.gz'):
        FashionMNIST(str(root), 'train')
    labels = root / 't10k-labels-idx1-ubyte'
    labels.write_bytes(labels.read_bytes()[:-2])
    with pytest.raises(DataError, match='4 values instead of 6'):
        FashionMNIST(str(root), 'test')
    packed = root / 't10k-images-idx3-ubyte.gz'
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match='t10k-images'):
        FashionMNIST(str(root), 'test')
