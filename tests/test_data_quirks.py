"""docs/data_quirks.md: what its tables say holds, the same in training, test and inference."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope
from pages import DOCS, OF_FOLDERS, OF_PERSONS, absent_tests, table_rows
from PIL import Image, ImageOps
from reid_folders import make_market, market_name, put

from effvit_mm.errors import DataError
from effvit_mm.inference.inputs import find_images
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.datasets import find_corrupt
from effvit_mm.openmm.trained import build_pipeline
from effvit_mm.reid.names import read_folders
from effvit_mm.utils.image_files import EXTENSIONS, list_images
from effvit_mm.utils.images import decode_image

PAGE = (DOCS / 'data_quirks.md').read_text()
HEIGHT, WIDTH = 32, 64  # whole blocks of JPEG of each colour
ORIENTATION = 0x0112
# A set and a pipeline as mmpretrain's users write them; ours are `LoadImage` and `ImageFolder`.
CONFIG = """
default_scope = 'mmpretrain'
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
common = dict(data_root={root!r}, pipeline=pipeline, serialize_data=False)  # packing takes 0.2 s
train_dataloader = dict(
    dataset=dict(type='{kind}', {prefix}='train', **common)
)
test_dataloader = dict(
    dataset=dict(type='{kind}', {prefix}='val', **common)
)
"""
KINDS = {'CustomDataset': 'data_prefix', 'effvit_mm.ImageFolder': 'split'}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def picture(mode: str = 'RGB') -> Image.Image:
    """Nowhere symmetric, with hard edges alone between its four colours."""
    colours = np.array([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [240, 240, 20]]], np.uint8)
    return Image.fromarray(colours.repeat(HEIGHT // 2, 0).repeat(WIDTH // 2, 1)).convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def paths_of(dataset) -> list[str]:
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def tiff(values: np.ndarray) -> bytes:
    return cv2.imencode('.tif', values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes()


def bgr(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert('RGB'))[..., ::-1]


def write_config(tmp_path: Path, root: Path, kind: str = 'CustomDataset') -> Path:
    path = tmp_path / f'{kind}.py'
    path.write_text(CONFIG.format(kind=kind, root=str(root), prefix=KINDS[kind]))
    return path


# Images -------------------------------------------------------------------------------------------


def orientations():
    for kind, ending, options in (
        ('JPEG', 'jpg', {'quality': 100, 'subsampling': 0}),
        ('PNG', 'png', {}),
        ('WEBP', 'webp', {'lossless': True}),
        ('TIFF', 'tif', {}),
        ('AVIF', 'avif', {'quality': 100, 'subsampling': '4:4:4'}),
    ):
        for number in range(1, 9):
            exif = Image.Exif()
            exif[ORIENTATION] = number
            exif = exif if kind == 'TIFF' else exif.tobytes()
            image = Image.open(io.BytesIO(encoded(picture(), kind, exif=exif, **options)))
            yield (
                f'{kind}{number}.{ending}',
                encoded(picture(), kind, exif=exif, **options),
                bgr(ImageOps.exif_transpose(image)),
            )


def transparent(alpha: int = 0) -> Image.Image:
    image = picture('RGBA')
    image.putalpha(alpha)
    return image


def cmyk():
    yield 'print.tif', encoded(picture('CMYK'), 'TIFF'), bgr(picture())
    yield 'print.jpg', encoded(picture('CMYK'), 'JPEG', quality=100, subsampling=0), bgr(picture())


def several():
    frames = {'save_all': True, 'append_images': [Image.new('RGB', picture().size)]}
    for kind, ending, options in (
        ('GIF', 'gif', {}),
        ('PNG', 'png', {}),
        ('TIFF', 'tif', {}),
        ('WEBP', 'webp', {'lossless': True}),
    ):
        yield f'{kind}.{ending}', encoded(picture(), kind, **frames, **options), bgr(picture())


DEEP = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 170).astype(np.uint16)
UNIT = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.float32)
COLOURS = np.dstack([UNIT, 1 - UNIT, UNIT / 2])
GREY = np.repeat(bgr(picture('L'))[..., :1], 3, axis=2)
TARGA = encoded(picture(), 'TGA')
# For each row of the table: files with what is read of them, or the words of the error.
IMAGES = {
    'EXIF orientation': orientations,
    'grey, black and white': lambda: [
        ('grey.png', encoded(picture('L'), 'PNG'), GREY),
        ('grey.tif', encoded(picture('L'), 'TIFF'), GREY),
        ('one.tif', encoded(picture('1'), 'TIFF'), bgr(picture('1'))),
        ('one.pbm', encoded(picture('1'), 'PPM'), bgr(picture('1'))),
    ],
    'palette': lambda: [
        (f'few.{ending}', encoded(picture('P'), kind), bgr(picture('P')))
        for kind, ending in (('PNG', 'png'), ('GIF', 'gif'), ('TIFF', 'tif'), ('BMP', 'bmp'))
    ],
    'alpha': lambda: [
        ('clear.png', encoded(transparent(), 'PNG'), bgr(picture())),
        ('clear.tif', encoded(transparent(), 'TIFF'), bgr(picture())),
        ('half.tif', encoded(transparent(100), 'TIFF', compression='tiff_lzw'), bgr(picture())),
        ('clear.webp', encoded(transparent(), 'WEBP', lossless=True, exact=True), bgr(picture())),
        ('clear.tga', encoded(transparent(), 'TGA'), bgr(picture())),
        ('grey.png', encoded(transparent().convert('LA'), 'PNG'), GREY),
        ('deep.tif', tiff(np.dstack([DEEP] * 4)), np.dstack([DEEP >> 8] * 3)),
    ],
    'CMYK': cmyk,
    '16 bits': lambda: [
        (f'deep{kind}', data, np.dstack([DEEP >> 8] * 3))
        for kind in ('.png', '.pgm')
        for data in [cv2.imencode(kind, DEEP)[1].tobytes()]
    ]
    + [
        ('deep.tif', tiff(DEEP), np.dstack([DEEP >> 8] * 3)),
        ('colours.tif', tiff(np.dstack([DEEP, DEEP // 2, DEEP])),
         np.dstack([DEEP >> 8, DEEP >> 9, DEEP >> 8])),
    ],
    'floats from 0 to 1': lambda: [
        ('grey.tif', tiff(UNIT), np.dstack([np.round(UNIT * 255)] * 3)),
        ('colours.tif', tiff(COLOURS), np.round(COLOURS * 255)),
        ('double.tif', tiff(UNIT.astype(np.float64)), np.dstack([np.round(UNIT * 255)] * 3)),
    ],
    'floats from 0 to 255': lambda: [
        ('grey.tif', tiff(UNIT * 255), np.dstack([np.round(UNIT * 255)] * 3))
    ],
    'other floats, whole numbers of 32 bits': lambda: [
        ('below.tif', tiff(UNIT - 1), r'float32 values from -1 to 0.*convert it to 8 or 16 bits'),
        ('above.tif', tiff(UNIT * 900), 'float32 values from 0 to 900'),
        ('hole.tif', tiff(np.where(UNIT > 0.5, np.nan, UNIT)), 'float32 values from nan to nan'),
        ('whole.tif', encoded(Image.fromarray(DEEP.astype(np.int32)), 'TIFF'), 'int32 values'),
    ],
    'animation, pages': several,
    'wrong ending': lambda: [
        ('picture.jpg', encoded(picture(), 'PNG'), bgr(picture())),
        ('picture.tif', encoded(picture(), 'WEBP', lossless=True), bgr(picture())),
    ],
    'cut short, empty, no image': lambda: [
        ('cut.jpg', encoded(picture(), 'JPEG')[:-9], 'truncated JPEG'),
        ('cut.tif', tiff(DEEP)[:-300], 'not an image|truncated|buffer'),
        ('empty.png', b'', 'the file is empty'),
        ('text.png', b'<html>404</html>', 'not an image'),
    ],
}  # fmt: skip


def test_the_table_of_images_has_these_rows():
    assert table_rows('data_quirks.md', 'Images') == list(IMAGES)


@pytest.mark.parametrize('row', IMAGES)
def test_an_image_is_the_same_in_training_test_and_inference(tmp_path, row):
    init_default_scope('mmpretrain')
    files = list(IMAGES[row]())
    for split in ('train', 'val'):
        folder = tmp_path / split / 'only'
        folder.mkdir(parents=True)
        for name, data, _ in files:
            (folder / name).write_bytes(data)
    cfg = load_config(str(write_config(tmp_path, tmp_path)), [])
    train, test = (
        DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in ('train', 'test')
    )
    load, pack = build_pipeline(cfg)
    paths = paths_of(train)
    faults = find_corrupt(paths)
    expected = {name: value for name, _, value in files}
    assert len(train) == len(test) == len(files)
    for image in find_images(tmp_path / 'train' / 'only'):
        number = paths.index(str(image.path))
        ways = (
            lambda n=number: train[n],
            lambda n=number: test[n],
            lambda i=image: pack(load({'img_path': str(i.path)})),
        )
        value = expected[image.path.name]
        assert (str(image.path) in faults) == isinstance(value, str)
        for way in ways:
            if isinstance(value, str):
                with pytest.raises(DataError, match=rf'{image.path.name}: .*({value})'):
                    way()
                continue
            found = way()['inputs'].numpy().transpose(1, 2, 0)
            assert found.dtype == np.uint8 and found.shape == value.shape, image.path.name
            lossy = image.path.suffix in ('.jpg', '.avif') and row != 'wrong ending'
            difference = np.abs(found.astype(int) - value)
            assert difference.max() <= (40 if lossy else 1), image.path.name
            assert difference.mean() < 3, image.path.name


@pytest.mark.parametrize('ending', EXTENSIONS)
def test_every_format_of_the_list_is_read(ending):
    kinds = Image.registered_extensions()
    kind = {'.dib': 'DIB', '.pnm': 'PPM'}.get(ending) or kinds[ending]
    mode = {'.pbm': '1', '.pgm': 'L', '.gif': 'P'}.get(ending, 'RGB')
    read = decode_image(encoded(picture(mode), kind))
    assert np.abs(read.astype(int) - bgr(picture(mode))).mean() < 6
    assert ending.lstrip('.').upper() in PAGE.upper()


# Folders ------------------------------------------------------------------------------------------

PNG = encoded(picture(), 'PNG')


def put_png(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


# For each row of the table: what is put beside a.png and b.png into a class folder, what is read
# beside them, and what is named (nothing: not a word).
FOLDERS = {
    'endings in capitals': (lambda f: put_png(f, 'C.PNG'), ['C.PNG'], []),
    'hidden and system folders': (
        lambda f: put_png(
            f, '.ipynb_checkpoints/a-checkpoint.png', '@eaDir/a.png/SYNOPHOTO_THUMB_M.png',
            '__MACOSX/a.png', '.Trash-1000/a.png', '.thumbnails/a.png',
        ),
        [],
        ['.Trash-1000', '.ipynb_checkpoints', '.thumbnails', '@eaDir', '__MACOSX'],
    ),
    'hidden and system files': (
        lambda f: put_png(f, '._1.png', '.DS_Store', 'Thumbs.db', 'desktop.ini'), [], ['._1.png']
    ),
    'link': (
        lambda f: (
            put_png(f.parents[2] / 'elsewhere', 'c.png', 'deep/d.png'),
            link(f / 'more', '../../../elsewhere'),
            link(f / 'e.png', 'a.png'),
        ),
        ['e.png', 'more/c.png', 'more/deep/d.png'],
        [],
    ),
    'link that leads back': (
        lambda f: (
            link(f / 'up', '../..'), link(f / 'here', '.'), link(f / 'sub' / 'up', '..'),
            put_png(f, 'sub/c.png'), link(f / 'again', 'sub'),
            # Out of the folder, and from there to what is above it.
            put_png(f.parents[2] / 'elsewhere', 'd.png'),
            link(f.parents[2] / 'elsewhere' / 'back', str(f.parents[1])),
            link(f / 'out', '../../../elsewhere'),
        ),
        ['out/d.png', 'sub/c.png'],
        ['again', 'here', 'out/back', 'sub/up', 'up'],
    ),
    'link that leads nowhere': (
        lambda f: (link(f / 'c.png', 'gone.png'), link(f / 'd', 'd')), [], ['c.png', 'd']
    ),
    'other formats': (
        lambda f: put_png(f, 'c.heic', 'notes.txt', 'noending'), [],
        ['c.heic', 'noending', 'notes.txt'],
    ),
    'videos': (lambda f: put_png(f, 'c.mp4', 'd.AVI'), [], ['c.mp4', 'd.AVI']),
    'subfolders': (lambda f: put_png(f, 'x/c.png', 'x/y/d.png'), ['x/c.png', 'x/y/d.png'], []),
}  # fmt: skip


def test_the_table_of_folders_has_these_rows():
    assert table_rows('data_quirks.md', 'Folders') == [*FOLDERS, *OF_FOLDERS]
    assert absent_tests(OF_FOLDERS.values()) == []


@pytest.fixture
def told(monkeypatch):
    from mmengine.logging import MMLogger

    texts: list[str] = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'warning', lambda text, *_: texts.append(text))
    return texts


def names_in(text: str) -> list[str]:
    """Those in the brackets of :meth:`Listing.left_out`."""
    parts = re.findall(r'\((.*?)\)', text.partition('passed over: ')[2])
    return sorted(name for part in parts for name in part.split(', '))


@pytest.mark.parametrize('row', FOLDERS)
def test_a_folder_is_read_the_same_in_sets_galleries_and_inference(tmp_path, row, told):
    init_default_scope('mmpretrain')
    make, more, left_out = FOLDERS[row]
    expected = sorted(['a.png', 'b.png', *more])
    for split in ('train', 'val'):
        folder = tmp_path / 'data' / split / 'only'
        put_png(folder, 'a.png', 'b.png')
    folder = tmp_path / 'data' / 'train' / 'only'
    make(folder)
    found = list_images(folder)  # as galleries do
    assert [os.path.relpath(path, folder) for path in found.images] == expected
    assert len(names_in(found.left_out(folder))) == min(len(left_out), 5) if left_out else True
    assert bool(found.left_out(folder)) == bool(left_out)
    assert (
        set(left_out) <= {*found.left_out(folder).replace(';', ' ').split()}
        or not left_out
        or (all(name in found.left_out(folder) for name in left_out))
    )
    for kind in KINDS:
        cfg = load_config(str(write_config(tmp_path, tmp_path / 'data', kind)), [])
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        assert [os.path.relpath(path, folder) for path in paths_of(dataset)] == expected
        assert all(len(dataset[i]['inputs']) == 3 for i in range(len(dataset)))
        assert dataset.metainfo['classes'] == ('only',)
    assert len(told) == bool(left_out)  # once, though two sets were read
    assert [name for text in told for name in names_in(text)] == [f'only/{n}' for n in left_out]
    people = read_folders(
        folder.parents[1],
        pattern=r'(?P<pid>)(?P<cam>)',
        folders={'train': 'train/only'},
        needed=('train',),
        min_cameras=1,
    )
    assert [os.path.relpath(item.img_path, folder) for item in people.train] == expected
    assert people.remarks == ((found.left_out(folder),) if left_out else ())


def test_of_a_folder_inferencers_take_the_images_and_name_all_else(tmp_path):
    put_png(
        tmp_path, 'a.png', 'b.JPG', '@eaDir/a.png', 'sub/c.png', 'clip.mp4', 'd.heic', '._a.png'
    )
    link(tmp_path / 'e.png', 'gone')
    with pytest.warns(UserWarning, match='passed over') as caught:
        images = find_images(tmp_path)
    assert [image.path.name for image in images] == ['a.png', 'b.JPG']
    (warning,) = caught
    assert names_in(str(warning.message)) == sorted(
        ['@eaDir', 'sub', 'clip.mp4', 'd.heic', '._a.png', 'e.png']
    )
    assert warning.filename.endswith('inference/inputs.py')  # the console shows ours alone
    with pytest.raises(DataError, match=r'has no image .*1 folders, .* \(sub\)'):
        (tmp_path / 'only').mkdir()
        (tmp_path / 'only' / 'sub').mkdir()
        find_images(tmp_path / 'only')


@pytest.mark.parametrize('kind', KINDS)
def test_beside_the_classes_nothing_becomes_one_and_what_lies_there_is_named(tmp_path, kind, told):
    init_default_scope('mmpretrain')
    root = tmp_path / 'data'
    put_png(root / 'train', 'x/0.png', 'y/0.png', '.ipynb_checkpoints/0.png', '@eaDir/0.png')
    put_png(root / 'train', '__MACOSX/0.png', 'loose.png', 'readme.txt')
    link(root / 'train' / 'up', '..')
    cfg = load_config(str(write_config(tmp_path, root, kind)), [])
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert dataset.metainfo['classes'] == ('x', 'y') and len(dataset) == 2
    assert names_in(told[0]) == sorted(
        ['.ipynb_checkpoints', '@eaDir', '__MACOSX', 'loose.png', 'readme.txt', 'up']
    )


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    put_png(tmp_path, 'a/0.png', 'b/0.png')
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith('b'):
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)  # root may read everything
    with pytest.raises(DataError, match=r'folder .*/b cannot be read: Permission denied'):
        list_images(tmp_path)


def test_pipes_are_no_images(tmp_path):
    put_png(tmp_path, 'a.png')
    os.mkfifo(tmp_path / 'b.png')
    found = list_images(tmp_path)
    assert [Path(path).name for path in (*found.images, *found.others)] == ['a.png', 'b.png']


def test_a_reader_of_ones_own_is_left_as_it_is(tmp_path):
    path = write_config(tmp_path, tmp_path)
    text = path.read_text()
    own = "dict(type='LoadImageFromFile', imdecode_backend='pillow')"
    path.write_text(text.replace("dict(type='LoadImageFromFile')", own))
    dataset = load_config(str(path), []).train_dataloader.dataset
    assert dataset.pipeline[0].type == 'LoadImageFromFile'
    path.write_text(text.replace(f"data_root='{tmp_path}'", "data_root='s3://store'"))
    dataset = load_config(str(path), []).train_dataloader.dataset
    assert (dataset.type, dataset.pipeline[0].type) == ('CustomDataset', 'LoadImageFromFile')
    plain = "dict(type='mmcv.LoadImageFromFile', color_type='color', backend_args=None)"
    path.write_text(text.replace("dict(type='LoadImageFromFile')", plain))
    (load, _) = load_config(str(path), []).train_dataloader.dataset.pipeline
    assert load == {'type': 'effvit_mm.LoadImage'}


# Persons ------------------------------------------------------------------------------------------

OWN = r'^(?P<pid>-?\d+)_c(?P<cam>\d)'
# For each row: whose images are put where, options, what is then in the set, or the error.
PERSONS = {
    'person 0': [
        ('bounding_box_train', 0, {}, ('train', 14), 'images of person 0 are those of a person'),
        ('query', 0, {}, ('query', 6), 'images of person 0 are those of a person'),
        ('bounding_box_test', 0, {}, ('gallery', 6), ''),
    ],
    'person -1 in the gallery': [
        ('bounding_box_test', -1, {}, ('gallery', 4), '2 images of person -1 are left out'),
    ],
    'person -1 elsewhere': [
        ('bounding_box_train', -1, {}, DataError, '2 images of person -1 .*remove them'),
        ('query', -1, {}, DataError, '2 images of person -1 .*with pattern='),
    ],
    'person 0 and -1 by a `pattern`': [
        (folder, pid, {'pattern': OWN}, (subset, count), '')
        for folder, subset, count in (
            ('bounding_box_train', 'train', 14),
            ('query', 'query', 6),
            ('bounding_box_test', 'gallery', 6),
        )
        for pid in (0, -1)
    ],
}


def test_the_table_of_persons_has_these_rows():
    assert table_rows('data_quirks.md', 'Persons') == [*PERSONS, *OF_PERSONS]
    assert absent_tests(OF_PERSONS.values()) == []


@pytest.mark.parametrize('case', [case for cases in PERSONS.values() for case in cases], ids=str)
def test_persons_are_what_the_table_says(tmp_path, case):
    folder, pid, options, found, text = case
    make_market(tmp_path)
    put(tmp_path / folder, *(market_name(pid, cam, 7) for cam in (1, 2)))
    if found is DataError:
        with pytest.raises(DataError, match=text):
            read_folders(tmp_path, **options)
        return
    splits = read_folders(tmp_path, **options)
    subset, count = found
    assert len(getattr(splits, subset)) == count
    assert len(splits.remarks) == bool(text) and all(text in remark for remark in splits.remarks)
    assert all(item.pid >= 0 for item in getattr(splits, subset))  # -1 is nobody to an evaluation
