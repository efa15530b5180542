"""Data sets of labelled images, built on mmpretrain's classes."""

from __future__ import annotations

import difflib
import gzip
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import mmpretrain.datasets as theirs
import numpy as np

from ...errors import DataError, MissingDataError
from ...sample_data.digit_images import (
    CLASSES,
    GREY_LEVELS,
    SPLITS,
    load_digit_images,
    split_indices,
)
from ...sample_data.folders import make_once
from ...utils.image_files import EXTENSIONS, Listing, list_folders, list_images, merged
from ...utils.text import shorten
from ..registry import DATASETS
from .annotation_files import read_text
from .scan import SkipCorrupt, check_split, tell_once

IDX_UINT8 = 8
USUAL = ('train', 'val')  # names of splits
# What follows for classes of which a set has no images.
UNLEARNED, UNJUDGED = 'never learned', 'without figures in the evaluation'
UNUSED = 'neither learned from this set nor judged by it'


def list_classes(folder: Path) -> tuple[list[str], Listing]:
    """The sorted names of the class folders in ``folder``, and what lies beside them.

    Hidden and system folders are none.
    """
    if not folder.is_dir():
        raise MissingDataError(
            f'data folder {folder.absolute()} does not exist; expected are class folders with '
            f'images, as in data_root/{folder.name}/<class>/*.jpg{_meant(folder.absolute())}'
        )
    names, beside = list_folders(folder)
    if not names:
        raise DataError(
            f'{folder.absolute()} has no class folders; expected is one folder with images for '
            'each class'
        )
    return names, beside


def _meant(folder: Path) -> str:
    """What may be meant by the folder of a split that is not there."""
    root = folder.parent
    if (root.parent / folder.name).is_dir():
        return f'; did you mean data_root={str(root.parent)!r}?'
    names = list_folders(root)[0] if root.is_dir() else []
    splits = [name for name in names if list_folders(root / name)[0]]
    if splits:
        near = (difflib.get_close_matches(folder.name, splits, 1, 0) or splits)[0]
        has = f'{root} has {shorten(splits)}'
        return f'; {has}: give the one of this set, as split={near!r}, or rename it'
    if not names:
        return ''
    places = 'train/ and val/' if folder.name in USUAL else f'{folder.name}/'
    return f'; folders that {root} has itself belong into {places} in it'


def list_by_class(
    folder: Path,
    classes: Sequence[str],
    found: Sequence[str],
    beside: Listing,
    extensions: Sequence[str] = EXTENSIONS,
) -> list[list[str]]:
    """The images of each class; what else lies in the folders is told.

    Args:
        folder: Which has a folder for each class.
        classes: Their names by label; a class may lack its folder.
        found: Names of the folders; ``['']`` for one folder without classes.
        beside: What lies beside these.
        extensions: How images' names end.
    """
    listings = [
        list_images(folder / name, extensions=extensions) if name in found else Listing()
        for name in classes
    ]
    tell_once(merged([beside, *listings]).left_out(folder))
    return [listing.images for listing in listings]


def no_images_of(classes: Sequence[str], folder: Path) -> str:
    """The beginning of a line of the classes that a folder lacks."""
    more = f' and {len(classes) - 1} more ({shorten(classes[1:])})' if len(classes) > 1 else ''
    return f'{folder.absolute()}: no images of the class {classes[0]!r}{more}'


class _Folders(theirs.BaseDataset):
    """The plain data set below :class:`ImageFolder`: finds classes and images."""

    # Arguments of mmpretrain's that are made here -> what tells them.
    MADE_OF = {'ann_file': 'data_root and split', 'data_prefix': 'data_root and split'}

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        train_split: str = 'train',
        classes: str | Sequence[str] | None = None,
        allow_empty_classes: bool = False,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        if not data_root:
            raise DataError('data_root is empty: it must name the folder with the images')
        self.split, self.train_split = split, train_split
        self.allow_empty_classes = allow_empty_classes
        # Later than the base class would, which sets nothing of ours before it loads.
        super().__init__(
            ann_file='',
            data_root=os.path.expanduser(data_root),
            data_prefix=split,
            classes=classes,
            lazy_init=True,
            **kwargs,
        )
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """Samples in the order of classes and file names; sets ``classes`` on the way."""
        folder = Path(self.data_root, self.split)
        found, beside = list_classes(folder)
        classes = self.CLASSES
        if classes is None:  # the training folder's: the same order for every split
            classes, _ = list_classes(Path(self.data_root, self.train_split))
        unknown = [name for name in found if name not in classes]
        if unknown:
            raise DataError(
                f'{folder.absolute()} has the class folder {unknown[0]!r}, which is none of the '
                f'{len(classes)} training classes ({shorten(classes)}); take it away, or put a '
                f'folder of that name with images into {Path(self.data_root, self.train_split)}'
            )
        images = list_by_class(folder, classes, found, beside)
        if not any(images):
            raise DataError(
                f'{folder.absolute()} has no images in its class folders; read are files that end '
                f'in {", ".join(EXTENSIONS)}'
            )
        self._judge_empty(folder, [n for n, own in zip(classes, images, strict=True) if not own])
        self._metainfo['classes'] = tuple(classes)
        return [
            {'img_path': path, 'gt_label': label}
            for label, own in enumerate(images)
            for path in own
        ]

    def _judge_empty(self, folder: Path, empty: list[str]) -> None:
        """A class without images cannot be learned: an error in training, else a remark."""
        if not empty:
            return
        message = no_images_of(empty, folder)
        in_training = self.split == self.train_split
        if in_training and not self.allow_empty_classes:
            raise DataError(
                f'{message}; remove the folder, or set allow_empty_classes=True in the data set, '
                'as in --cfg-options train_dataloader.dataset.allow_empty_classes=True'
            )
        tell_once(f'{message}: {UNLEARNED if in_training else UNJUDGED}')


@DATASETS.register_module()
class ImageFolder(SkipCorrupt, _Folders):
    """Images in class folders: ``data_root/<split>/<class>/*.jpg``, sub-folders included.

    Classes are the sorted names of the training split's folders, for every split.

    Args:
        data_root: The folder that holds the splits.
        split: The split's folder, ``'train'`` or ``'val'``.
        train_split: The folder whose class folders define the classes.
        classes: Their names instead, or a file with one name a line.
        allow_empty_classes: Accept class folders without images in the training split.
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`.
        **kwargs: ``pipeline``, ``test_mode``, ``indices`` ... of mmpretrain's ``BaseDataset``.

    A split must not have a class of its own.
    """

    def extra_repr(self) -> list[str]:
        """Lines for ``print(dataset)``."""
        return [f'Folder: \t{Path(self.data_root, self.split)}', f'Skipped: \t{self.num_skipped}']


def read_labels(path: str | Path, classes: Sequence[str] | None) -> list[tuple[str, int]]:
    """File and label of each line of a list, which a space, a tab or a comma divides.

    Labels count from 0; where names of the classes are known a line may have a name instead.

    Raises:
        DataError: A line is of another form.
    """
    numbers = {name: label for label, name in enumerate(classes or ())}
    found = []
    for position, line in enumerate(read_text(path).lstrip('\ufeff').splitlines(), 1):
        if not line.strip():
            continue
        for mark in ('\t', ',', None):
            file, *label = (part.strip() for part in line.strip().rsplit(mark, 1))
            if label and (label[0] in numbers or label[0].isdecimal()):
                found.append((file, numbers[label[0]] if label[0] in numbers else int(label[0])))
                break
        else:
            allowed = (
                f'or its name ({shorten(classes)})'
                if classes
                else 'or its name in metainfo.classes'
            )
            raise DataError(
                f'annotation file {path}, line {position}: {line!r}; a file is needed, a space, a '
                f'tab or a comma, and the number of its class from 0 on, {allowed}'
            )
    if not found:
        raise DataError(f'annotation file {path}: it names no image')
    return found


def judge_list(path: str | Path, listed: Sequence[tuple[str, int]], may_lack: bool) -> None:
    """Tell of files that a list names twice.

    Raises:
        DataError: Files are not there, unless they ``may_lack``.
    """
    labels: dict[str, set[int]] = {}
    for file, label in listed:
        labels.setdefault(file, set()).add(label)
    lacking = [] if may_lack else [file for file in labels if not os.path.isfile(file)]
    if lacking:
        raise DataError(
            f'annotation file {path}: {len(lacking)} of its {len(labels)} images do not exist, '
            f'the first is {lacking[0]}; correct data_prefix or the list, or set skip_corrupt=True'
        )
    if len(labels) < len(listed):
        counts = Counter(file for file, _ in listed)
        twice = [file for file, count in counts.items() if count > 1]
        torn = [file for file in twice if len(labels[file]) > 1]
        more = f', {len(torn)} of them with other labels ({torn[0]})' if torn else ''
        tell_once(
            f'annotation file {path}: {len(twice)} images are listed more than once ({twice[0]})'
            f'{more}, and are taken so; leave one line of each'
        )


class _OneWalk:
    """Gives mmpretrain's data sets of folders the walk and the formats of :class:`ImageFolder`.

    Args:
        extensions: How images' names end; by default all formats that are read.
        classes_from: The folder whose class folders define the classes, that of training; by
            default its own. Names in ``classes`` or ``metainfo`` go before.
    """

    def __init__(
        self, *args, extensions: Sequence[str] = EXTENSIONS, classes_from: str = '', **kwargs
    ) -> None:
        self.classes_from = classes_from
        super().__init__(*args, extensions=extensions, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples of the folders, or of a list file."""
        if not self.ann_file or '://' in self.ann_file or not self.with_label:
            return super().load_data_list()
        listed = [
            (os.path.join(self.img_prefix, file), label)
            for file, label in read_labels(self.ann_file, self.CLASSES)
        ]
        judge_list(self.ann_file, listed, may_lack=getattr(self, 'skip_corrupt', False))
        return [{'img_path': path, 'gt_label': label} for path, label in listed]

    def _find_samples(self) -> list:
        """``(file, label)`` of each image, or the file alone; files are named below the folder."""
        if '://' in self.img_prefix:
            return super()._find_samples()
        folder, endings = Path(self.img_prefix), tuple(self.extensions)
        found, beside = list_classes(folder) if self.with_label else ([''], Listing())
        classes = self._by_label(found, folder) if self.with_label else found
        images = list_by_class(folder, classes, found, beside, endings)
        if not any(images):
            raise DataError(
                f'{folder.absolute()} has no images; read are files that end in '
                f'{", ".join(sorted(endings))}'
            )
        files = [[os.path.relpath(path, folder) for path in own] for own in images]
        if not self.with_label:
            return files[0]
        empty = [name for name, own in zip(classes, images, strict=True) if not own]
        if empty:
            judges = self.classes_from and Path(self.classes_from) != folder
            tell_once(f'{no_images_of(empty, folder)}: {UNJUDGED if judges else UNUSED}')
        return [(file, label) for label, own in enumerate(files) for file in own]

    def _by_label(self, found: list[str], folder: Path) -> list[str]:
        """Names of the folders by label; sets ``classes`` where they are not given.

        Given names that are those of folders decide; others are what the folders in their order
        are called.
        """
        given, order = self.CLASSES, found
        known, source = given or found, 'metainfo.classes'
        if given is None and self.classes_from:
            known, source = list_classes(Path(self.classes_from))[0], self.classes_from
        places = {name: place for place, name in enumerate(found)}
        if set(found) <= set(known):
            order = list(known)
        elif (
            not given
            or len(known) != len(found)
            or any(places.get(name, place) != place for place, name in enumerate(known))
        ):
            other = [name for name in found if name not in known]
            raise DataError(
                f'{folder.absolute()} has {len(found)} class folders ({shorten(found)}), but '
                f'{source} names {len(known)} ({shorten(known)}), without {shorten(other)}; name '
                'both alike, or take these folders out'
            )
        self.folder_to_idx = {name: label for label, name in enumerate(order)}
        self._metainfo['classes'] = tuple(known)
        return order


@DATASETS.register_module()
class CustomDataset(SkipCorrupt, _OneWalk, theirs.CustomDataset):
    """mmpretrain's CustomDataset, which reads what :class:`ImageFolder` reads.

    A config's ``CustomDataset`` is taken for this one. Classes are the training's folders, for
    every split: one may lack some.

    Args:
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`.
        extensions: How images' names end; by default all formats that are read.
        classes_from: The folder of training; a config's validation and test get it by themselves.
        **kwargs: ``data_root``, ``data_prefix``, ``ann_file`` ... of mmpretrain's class.
    """


@DATASETS.register_module()
class ImageNet(SkipCorrupt, _OneWalk, theirs.ImageNet):
    """mmpretrain's ImageNet: ``data_root/{train,val}/<wnid>/*.JPEG``, or annotation files.

    Args:
        skip_corrupt: Leave out images that cannot be decoded, see :class:`SkipCorrupt`.
        extensions: How images' names end; by default all formats that are read.
        **kwargs: ``data_root``, ``split``, ``ann_file``, ``pipeline`` ... of mmpretrain's class.
    """

    def load_data_list(self) -> list[dict]:
        """The samples, after a look whether there are any."""
        folder = Path(self.img_prefix)
        if not folder.is_dir():
            raise MissingDataError(
                f'ImageNet: the folder {folder.absolute()} does not exist; expected are '
                'data_root/train and data_root/val with one folder for each of the 1000 classes'
            )
        if not self.ann_file and self.with_label:
            found = len(list_folders(folder)[0])
            if found != len(self.CLASSES):
                raise DataError(
                    f'ImageNet: {folder.absolute()} has {found} class folders instead of '
                    f'{len(self.CLASSES)}; sort the validation images into one folder for each '
                    'class, or give ann_file; for a data set of your own take effvit_mm.ImageFolder'
                )
        return super().load_data_list()


def build_digits(folder: Path) -> None:
    """Write ``train/<digit>/*.png`` and ``test/<digit>/*.png``, 8x8 grey, into ``folder``."""
    images, labels = load_digit_images()
    images = np.round(images * (255 / GREY_LEVELS)).astype(np.uint8)
    for split in SPLITS:
        for digit in CLASSES:
            place = folder / split / digit
            place.mkdir(parents=True)
            for index in split_indices(labels, int(digit), split):
                file = place / f'{index:04d}.png'
                if not cv2.imwrite(str(file), images[index]):
                    raise DataError(f'{file} cannot be written')


@DATASETS.register_module()
class Digits(ImageFolder):
    """Handwritten digits, 8x8 grey, 10 classes: 1,442 for training and 355 for testing.

    The files are made under ``data_root`` on first use. Upscaling is left to the pipeline.

    Args:
        data_root: Where the files are, or shall be.
        split: ``'train'`` or ``'test'``.
        **kwargs: Those of ``ImageFolder``.
    """

    METAINFO = {'classes': CLASSES}

    def __init__(self, data_root: str = 'data/digits', split: str = 'train', **kwargs) -> None:
        check_split('Digits', split)
        super().__init__(data_root=data_root, split=split, **kwargs)

    def load_data_list(self) -> list[dict]:
        """The samples; makes the files if they are not there yet."""
        make_once(self.data_root, build_digits)
        return super().load_data_list()


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, packed (``path`` with ``.gz``) or not.

    The format: two zero bytes, the type, the number of dimensions, the dimensions as big-endian
    32-bit integers, the values.
    """
    packed = path.with_name(path.name + '.gz')
    try:
        data = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f'neither {packed.absolute()} nor {path.name} exists: data_root must name the folder '
            'with the four published files'
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f'{packed} cannot be read: {error}') from error
    if len(data) < 4 or data[:3] != bytes((0, 0, IDX_UINT8)):
        raise DataError(f'{path} is no IDX file of bytes')
    start = 4 + 4 * data[3]
    shape = [int.from_bytes(data[i : i + 4], 'big') for i in range(4, start, 4)]
    if len(data) - start != np.prod(shape):
        raise DataError(
            f'{path} holds {len(data) - start} values instead of {np.prod(shape)}: cut short?'
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


@DATASETS.register_module()
class FashionMNIST(theirs.FashionMNIST):
    """Fashion-MNIST: 60,000 training and 10,000 test images, 28x28, 10 classes.

    mmpretrain's class insists on unpacked copies beside the files and on a download; this one
    reads a read-only folder. Images come as three equal channels.

    Args:
        data_root: The folder with ``train-images-idx3-ubyte.gz`` and the other three.
        split: ``'train'`` or ``'test'``.
        **kwargs: ``pipeline``, ``indices`` ... of mmpretrain's ``BaseDataset``.
    """

    MADE_OF = {'download': 'files that are there'}

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        check_split('FashionMNIST', split)
        kwargs.setdefault('test_mode', split == 'test')
        super().__init__(data_root=data_root, split=split, download=False, **kwargs)

    def load_data_list(self) -> list[dict]:
        """``{'img': (28, 28) uint8, 'gt_label': int}`` for each image."""
        names = self.train_list if self.split == 'train' else self.test_list
        files = [Path(self.data_prefix['root'], name.removesuffix('.gz')) for name, _ in names]
        images, labels = (read_idx(file) for file in files)
        if images.ndim != 3 or len(images) != len(labels):
            raise DataError(
                f'{files[0]} holds {images.shape} values for {len(labels)} labels: not the '
                'published files'
            )
        return [
            {'img': image, 'gt_label': int(label)}
            for image, label in zip(images, labels, strict=True)
        ]

    def get_data_info(self, idx: int) -> dict:
        """A sample with its image as (28, 28, 3); kept as one channel, for memory."""
        info = super().get_data_info(idx)
        info['img'] = np.repeat(info['img'][..., None], 3, axis=2)
        info['img_shape'] = info['ori_shape'] = info['img'].shape[:2]
        return info
