"""Trees of folders, drawn at random: what is passed by the walk is read, all else is named."""

from __future__ import annotations

import os
import re
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from remedies import tries

from effvit_mm.errors import DataError
from effvit_mm.inference.inputs import find_images
from effvit_mm.openmm.datasets import CustomDataset, ImageFolder, find_corrupt
from effvit_mm.reid.names import read_folders
from effvit_mm.utils.image_files import (
    EXTENSIONS,
    SYSTEM_NAMES,
    VIDEO_EXTENSIONS,
    Listing,
    list_folders,
    list_images,
    merged,
)

IMAGE = cv2.imencode('.png', np.zeros((2, 2, 3), np.uint8))[1].tobytes()
STEMS = st.text(string.ascii_letters + string.digits + '_- @', min_size=1, max_size=3)
ENDINGS = st.sampled_from([*EXTENSIONS, '.JPG', '.Png', *VIDEO_EXTENSIONS, '.txt', '.heic', ''])
HIDDEN = st.sampled_from([*sorted(SYSTEM_NAMES), '.git', '.ipynb_checkpoints', '.Trash-1', '._a'])
FILES = st.builds(str.__add__, st.one_of(STEMS, st.just('.hidden')), ENDINGS)
# Where a link leads: up by so many folders, and from there to a name.
LINKS = st.tuples(st.integers(0, 3), st.sampled_from(['', 'a', 'b', 'a/b', 'gone']))
TREES = st.recursive(
    st.one_of(st.just('file'), LINKS),
    lambda inner: st.dictionaries(st.one_of(FILES, STEMS, HIDDEN), inner, max_size=5),
    max_leaves=14,
)
FOLDERS = st.dictionaries(st.one_of(st.sampled_from('ab'), FILES, STEMS, HIDDEN), TREES, max_size=5)


@pytest.fixture(scope='module', autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@contextmanager
def nested_folder() -> Iterator[Path]:
    """A new folder so deep that no link out of a tree in it leads to what others have made."""
    with TemporaryDirectory() as folder:
        place = Path(folder, 'up', 'above')
        place.mkdir(parents=True)
        yield place


def build(place: Path, tree: dict) -> None:
    place.mkdir()
    for name, inner in tree.items():
        path = place / name
        if isinstance(inner, dict):
            build(path, inner)
        elif inner == 'file':
            path.write_bytes(IMAGE)
        else:
            up, target = inner
            path.symlink_to(os.path.join(*['..'] * up, target) or '.')


def is_system(name: str) -> bool:
    return name[0] == '.' or name.lower() in SYSTEM_NAMES


def left_out(found: Listing) -> list[str]:
    return [
        path
        for part in fields(found)
        if part.name != 'images'
        for path in getattr(found, part.name)
    ]


def folders_read(root: Path, found: Listing) -> set[str]:
    """Real folders that can be reached without what the walk said it left out."""
    reached, todo = set(), [str(root)]
    while todo:
        place = todo.pop()
        if (real := os.path.realpath(place)) in reached:
            continue
        reached.add(real)
        for entry in os.scandir(place):
            if entry.name[0] != '.' and entry.path not in {*found.system, *found.links}:
                todo += [entry.path] if os.path.isdir(entry.path) else []
    return reached


@given(tree=FOLDERS)
def test_all_in_a_tree_is_read_once_or_named(tree):
    with nested_folder() as folder:
        root = Path(folder, 'root')
        build(root, tree)
        found = list_images(root)
        listed = [*found.images, *left_out(found)]
        assert len(set(listed)) == len(listed)
        read = [(os.path.realpath(os.path.dirname(p)), os.path.basename(p)) for p in found.images]
        assert len(set(read)) == len(read)
        for path in found.images:
            assert not any(map(is_system, Path(path).relative_to(root).parts))
            assert path.lower().endswith(EXTENSIONS) and os.path.isfile(path)
        known = {(os.path.realpath(os.path.dirname(p)), os.path.basename(p)) for p in listed}
        for place in folders_read(root, found):
            for name in os.listdir(place):
                inner = os.path.isdir(os.path.join(place, name))
                silent = is_system(name) and not inner and not name.lower().endswith(EXTENSIONS)
                entered = inner and not is_system(name)
                assert (place, name) in known or silent or entered, name
        text = found.left_out(root)
        assert sum(map(int, re.findall(r'(?:: |; )(\d+) ', text))) == len(left_out(found))


@tries(': convert them to JPEG or PNG')
def test_pictures_in_formats_that_are_not_read(tmp_path):
    for name in ('a.heic', 'B.NEF', 'notes.txt'):
        (tmp_path / name).write_bytes(b'')
    found = list_images(tmp_path)
    assert sorted(map(os.path.basename, found.unread)) == ['B.NEF', 'a.heic']
    assert re.search(
        r'2 pictures in formats .*: convert them to .*a\.heic', found.left_out(tmp_path)
    )
    with pytest.raises(
        DataError, match=r'no image or video .*1 pictures .*JPEG or PNG \(a\.heic\)'
    ):
        find_images(f'{tmp_path}/*.heic')
    (tmp_path / 'c.png').write_bytes(IMAGE)
    with pytest.warns(UserWarning, match=r'2 pictures .*; 1 files that are no images by their nam'):
        assert [image.path.name for image in find_images(f'{tmp_path}/*')] == ['c.png']


@given(tree=FOLDERS)
def test_what_the_check_passes_is_what_training_reads(tree):
    with nested_folder() as folder:
        root = Path(folder, 'train')
        build(root, tree)
        names, beside = list_folders(root)
        found = merged([beside, *(list_images(root / name) for name in names)])
        options = {'data_root': str(folder), 'serialize_data': False}
        try:
            dataset = ImageFolder(**options, allow_empty_classes=True)
        except DataError:
            assert not found.images
            return
        samples = [dataset.get_data_info(index) for index in range(len(dataset))]
        paths = [sample['img_path'] for sample in samples]
        assert paths == found.images and find_corrupt(paths) == {}
        assert dataset.metainfo['classes'] == tuple(names)
        for sample in samples:
            assert Path(sample['img_path']).relative_to(root).parts[0] == names[sample['gt_label']]
        theirs = CustomDataset(**options, data_prefix='train')
        assert theirs.metainfo['classes'] == tuple(names)
        assert [
            (info['img_path'], info['gt_label'])
            for info in map(theirs.get_data_info, range(len(theirs)))
        ] == [(sample['img_path'], sample['gt_label']) for sample in samples]


@given(tree=FOLDERS)
def test_a_set_of_persons_is_what_a_gallery_reads(tree):
    with nested_folder() as folder:
        root = Path(folder, 'bounding_box_train')
        build(root, tree)
        found = list_images(root)
        options = {'pattern': r'(?P<pid>)(?P<cam>)', 'needed': ('train',), 'min_cameras': 1}
        try:
            splits = read_folders(folder, **options)
        except DataError:
            assert not found.images
            return
        assert [item.img_path for item in splits.train] == found.images
        assert splits.remarks == ((text,) if (text := found.left_out(root)) else ())
