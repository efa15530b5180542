"""Folders of pictures whose names tell person and camera: reading and checking them.

Market-1501's names (``0002_c1s1_000451_03.jpg``: person 2, camera 1) are the default; a pattern of
one's own has the named groups ``pid`` and ``cam``, whose values may be any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, DataError, MissingDataError
from ..utils.image_files import Listing, list_images

SUBSETS = ('train', 'query', 'gallery')
MARKET_FOLDERS = {'train': 'bounding_box_train', 'query': 'query', 'gallery': 'bounding_box_test'}
MARKET_PATTERN = r'(?:^|/)(?P<pid>-1|\d+)_c(?P<cam>\d+)[^/]*$'
# What Market-1501 calls a box with too little of a person, and people in its gallery alone.
JUNK, DISTRACTOR = '-1', '0'
NUMBER = '[0-9]{1,18}'  # that is its own label, which has 64 bits; longer ones are names
MAX_NAMED = 5


class ReIDItem(NamedTuple):
    """A picture, as torchreid has it.

    Attributes:
        img_path: The file.
        pid: Person; of training pictures from 0 on without gaps.
        camid: Camera, from 0 on.
        dsetid: Data set of a joint training.
    """

    img_path: str
    pid: int
    camid: int
    dsetid: int = 0


class Named(NamedTuple):
    """A file with the person and the camera that its name tells."""

    path: str
    pid: str
    cam: str


@dataclass(frozen=True)
class ReIDSplits:
    """A data set for re-identification.

    Attributes:
        name: For messages.
        train: Pictures to train on; persons from 0 on.
        query: Pictures to search for.
        gallery: Pictures to search in; its persons are numbered as those of ``query``.
        persons: What the training persons are called, in their order.
        cameras: What the cameras are called, in their order.
        remarks: What was left out, and what may be meant in another way: lines to be told.
    """

    name: str
    train: list[ReIDItem]
    query: list[ReIDItem]
    gallery: list[ReIDItem]
    persons: tuple[str, ...]
    cameras: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def compile_pattern(pattern: str | None, needed: Sequence[str] = ('pid', 'cam')) -> re.Pattern:
    """The pattern of file names; None is Market-1501's.

    ``needed``: named groups that it must have.

    Raises:
        ConfigError: No regular expression, or one without the groups.
    """
    try:
        compiled = re.compile(pattern or MARKET_PATTERN)
    except re.error as error:
        raise ConfigError(f'pattern={pattern!r} is no regular expression: {error}') from error
    missing = set(needed) - set(compiled.groupindex)
    if missing:
        raise ConfigError(
            f'pattern={pattern!r}: the named group {min(missing)!r} is missing; needed are '
            '(?P<pid>...) for the person and (?P<cam>...) for the camera'
        )
    return compiled


def read_names(folder: Path, pattern: re.Pattern) -> tuple[list[Named], Listing]:
    """The pictures in a folder and below it, by path, with what their names tell.

    The second result is all that is there.

    The pattern is searched for in the path below ``folder``, with ``/`` between its parts.

    Raises:
        DataError: There is no such folder, or no picture; names that the pattern does not fit,
            named and counted.
    """
    if not folder.is_dir():
        raise MissingDataError(
            f'data folder {folder.absolute()} does not exist; expected is the layout of '
            'Market-1501: data_root/{bounding_box_train,query,bounding_box_test}/*.jpg, or folders '
            'that are given'
        )
    named, strange = [], []
    found = list_images(folder)
    for path in found.images:
        name = Path(path).relative_to(folder).as_posix()
        match = pattern.search(name)
        if match is None or None in (match['pid'], match['cam']):
            strange.append(name)
        else:
            named.append(Named(path, _canonical(match['pid']), _canonical(match['cam'])))
    if strange:
        raise DataError(
            f'{folder.absolute()}: {len(strange)} of {len(strange) + len(named)} file names do not '
            f'tell person and camera: {some(strange)}; the pattern is {pattern.pattern!r} '
            "(Market-1501's are as 0002_c1s1_000451_03.jpg)"
        )
    if not named:
        left_out = found.left_out(folder)
        raise DataError(f'{folder.absolute()} has no images{left_out and "; "}{left_out}')
    return named, found


def _canonical(text: str) -> str:
    """Numbers without leading zeros: 0002 and 2 are one person."""
    return str(int(text)) if re.fullmatch(r'-?[0-9]+', text) else text


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct names: numbers by value, before any text."""
    numbers: set[str] = set()
    texts: set[str] = set()
    for name in names:
        (numbers if re.fullmatch(r'-?[0-9]+', name) else texts).add(name)
    return sorted(numbers, key=int) + sorted(texts)


def some(names: Sequence[object]) -> str:
    """The first few of many names, for messages."""
    more = ', ...' if len(names) > MAX_NAMED else ''
    return ', '.join(map(str, names[:MAX_NAMED])) + more


def read_folders(
    root: str | Path,
    pattern: str | None = None,
    folders: Mapping[str, str] | None = None,
    needed: Sequence[str] = SUBSETS,
    allow_shared_ids: bool = False,
    min_cameras: int = 2,
) -> ReIDSplits:
    """A data set out of folders of named pictures.

    With Market-1501's names pictures of person -1 in the gallery are left out, and are an error
    elsewhere, where Market-1501 has none. With a pattern of one's own every person is one.

    Args:
        root: Where the folders are.
        pattern: Regular expression with the groups ``pid`` and ``cam``, searched for in paths below
            the folders; None for Market-1501's.
        folders: Names of the folders of ``'train'``, ``'query'`` and ``'gallery'``; those of
            Market-1501 where left out.
        needed: Which of the three must be there; others are read if they are.
        allow_shared_ids: A person may be in training and in query or gallery.
        min_cameras: How many cameras each half must have.

    Raises:
        ConfigError: An argument cannot be.
        DataError: What is on the disk cannot be used; names files and counts.
    """
    compiled = compile_pattern(pattern)
    unknown = sorted(set(folders or {}) - set(SUBSETS))
    if unknown:
        raise ConfigError(f'folders: {unknown[0]!r} is none of {", ".join(SUBSETS)}')
    places = {key: Path(root, name) for key, name in {**MARKET_FOLDERS, **(folders or {})}.items()}
    named: dict[str, list[Named]] = {}
    remarks = []
    for subset in SUBSETS:
        wanted = subset in needed or places[subset].is_dir()
        named[subset], found = read_names(places[subset], compiled) if wanted else ([], Listing())
        remarks.append(found.left_out(places[subset]))
    if pattern is None:
        remarks += _follow_market(named, places)
    _check_needed(named, places, needed)
    if not allow_shared_ids:
        _check_shared_ids(named, str(root))
    splits = _number(named, str(root), tuple(filter(None, remarks)))
    check_cameras(splits, needed, min_cameras)
    return splits


def _follow_market(named: dict[str, list[Named]], places: Mapping[str, Path]) -> list[str]:
    """Leave out junk, which is no picture of anybody; gives what is to be told.

    Persons 0, whom Market-1501 has in its gallery alone, need no rule: nobody looks for them there.
    Elsewhere 0 is a person of another set.
    """
    remarks = []
    for subset in SUBSETS:
        place, gallery = places[subset].absolute(), subset == 'gallery'
        junk, zero = (
            [Path(item.path).name for item in named[subset] if item.pid == pid]
            for pid in (JUNK, DISTRACTOR)
        )
        if junk and not gallery:
            raise DataError(
                f'{place}: {len(junk)} images of person -1 ({some(junk)}): junk by the names of '
                f'Market-1501, which has none in its {subset} set; remove them, or, if it is a '
                f"person of yours, read the set by source='folder' with pattern={MARKET_PATTERN!r}"
            )
        if junk:
            remarks.append(
                f'{place}: {len(junk)} images of person -1 are left out, junk by the names of '
                f'Market-1501 ({some(junk)})'
            )
        if zero and not gallery:
            remarks.append(
                f'{place}: {len(zero)} images of person 0 are those of a person like the others, '
                'though Market-1501 calls distractors so, in its gallery'
            )
        named[subset] = [item for item in named[subset] if item.pid != JUNK]
    return remarks


def _check_needed(
    named: Mapping[str, list[Named]], places: Mapping[str, Path], needed: Sequence[str]
) -> None:
    for subset in needed:
        if not named[subset]:
            raise DataError(
                f'{places[subset].absolute()}: the {subset} set is empty but for junk (-1)'
            )


def _check_shared_ids(named: Mapping[str, list[Named]], root: str) -> None:
    train = {item.pid for item in named['train']}
    test = {item.pid for subset in ('query', 'gallery') for item in named[subset]}
    shared = in_order(train & test)
    if shared:
        raise DataError(
            f'{root}: {len(shared)} persons are in training and in query or gallery '
            f'({some(shared)}): the test would not be of unseen people. If the ids mean different '
            'people, or that is what you want, set allow_shared_ids=True'
        )


def _number(named: Mapping[str, list[Named]], name: str, remarks: tuple[str, ...]) -> ReIDSplits:
    """Numbers for persons and cameras; test persons keep theirs, where all are numbers from 0 on.

    -1 would be nobody to an evaluation.
    """
    items = [item for subset in SUBSETS for item in named[subset]]
    cameras = in_order(item.cam for item in items)
    camids = {camera: number for number, camera in enumerate(cameras)}
    persons = in_order(item.pid for item in named['train'])
    labels = {person: number for number, person in enumerate(persons)}
    tested = in_order(item.pid for item in items)
    numeric = all(re.fullmatch(NUMBER, person) for person in tested)
    pids = {person: int(person) if numeric else i for i, person in enumerate(tested)}
    return ReIDSplits(
        name=name,
        remarks=remarks,
        persons=tuple(persons),
        cameras=tuple(cameras),
        **{
            subset: [
                ReIDItem(
                    item.path, (labels if subset == 'train' else pids)[item.pid], camids[item.cam]
                )
                for item in named[subset]
            ]
            for subset in SUBSETS
        },
    )


def check_cameras(splits: ReIDSplits, needed: Sequence[str], min_cameras: int) -> None:
    """Raise where training or test have fewer than ``min_cameras`` cameras."""
    if type(min_cameras) is not int or min_cameras < 1:
        raise ConfigError(f'min_cameras={min_cameras!r}: a whole number of at least 1 is needed')
    halves = {'training': ('train',), 'query and gallery': ('query', 'gallery')}
    for half, subsets in halves.items():
        if not set(subsets) & set(needed):
            continue
        camids = {item.camid for subset in subsets for item in getattr(splits, subset)}
        if len(camids) < min_cameras:
            names = [splits.cameras[camid] for camid in sorted(camids)]
            why = (
                'matches count between different cameras alone'
                if half != 'training'
                else 'nothing would teach what stays the same between cameras'
            )
            raise DataError(
                f'{splits.name}: {half} have {len(camids)} camera ({some(names)}), needed are '
                f'{min_cameras}: {why}. Look at the pattern of the file names, or set min_cameras'
            )


class Labels(NamedTuple):
    """Who (N,) files show and which cameras took them, by their names; -1: not told."""

    pids: np.ndarray
    camids: np.ndarray


def label_files(files: Sequence[str], pattern: str | None = None) -> Labels:
    """Persons and cameras by the names of files.

    Persons that are numbers keep them, cameras begin at 0; other names are numbered in order.

    Args:
        files: Their paths. The pattern is searched for in the whole path, with ``/`` between parts.
        pattern: Regular expression with the group ``cam`` and, where persons are told too, ``pid``;
            None for Market-1501's.

    Raises:
        ConfigError: The pattern cannot be.
        DataError: Names that it does not fit, named and counted.
    """
    compiled = compile_pattern(pattern, ('cam',))
    matches = [compiled.search(Path(file).absolute().as_posix()) for file in files]
    found = [{} if match is None else match.groupdict() for match in matches]
    strange = [file for file, groups in zip(files, found, strict=True) if not groups.get('cam')]
    if strange:
        raise DataError(
            f'{len(strange)} of {len(files)} file names do not tell the camera: {some(strange)}; '
            f'the pattern is {compiled.pattern!r}; give one that has a group (?P<cam>...)'
        )
    cameras = _numbered([groups['cam'] for groups in found])
    persons = _numbered([groups.get('pid') for groups in found])
    return Labels(persons, cameras - (cameras.min(initial=1) > 0))


def _numbered(names: Sequence[str | None]) -> np.ndarray:
    """Numbers as they are, other names numbered in order, None -1: (N,) int64."""
    texts = [None if name is None else _canonical(name) for name in names]
    order = in_order(text for text in texts if text is not None)
    numeric = all(re.fullmatch(f'-?{NUMBER}', text) for text in order)
    number = {text: int(text) if numeric else place for place, text in enumerate(order)}
    return np.array([-1 if text is None else number[text] for text in texts], np.int64)
