"""Data sets for re-identification as mmengine's loops read them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from mmengine.dataset import BaseDataset, ConcatDataset, force_full_init
from mmengine.registry import DATASETS as ROOT_DATASETS

from ...errors import ConfigError, DataError
from ...reid.names import ReIDSplits, check_cameras, read_folders, some
from ...sample_data.walker_scenes import make_walker_scenes
from ...sample_data.walkers import make_walkers
from ..datasets.scan import SkipCorrupt, find_corrupt, tell_once
from ..registry import DATASETS

# Sets that are made on first use, and the folder below theirs where the pictures are.
SAMPLES = {'walkers': (make_walkers, ''), 'walker_scenes': (make_walker_scenes, 'reid')}
SPLITS = {'train': ('train',), 'test': ('query', 'gallery')}


class Offsets(NamedTuple):
    """What is added to the numbers of a part of a joint training set."""

    pid: int = 0
    camid: int = 0
    dsetid: int = 0


def read_splits(source: str, data_root: str, needed: Sequence[str], **options) -> ReIDSplits:
    """The pictures of a data set.

    Args:
        source: ``'folder'``, one of ``SAMPLES`` or the name of one of torchreid's image data sets.
        data_root: Where it is.
        needed: Subsets that must be there.
        **options: ``pattern``, ``folders``, ``allow_shared_ids`` and ``min_cameras`` of
            :func:`effvit_mm.reid.names.read_folders`, and ``source_args`` for torchreid's class.

    Raises:
        ConfigError: Options that do not belong to the source.
        DataError: The pictures cannot be used.
    """
    source_args = options.pop('source_args', None)
    if source == 'folder' or source in SAMPLES:
        if source_args:
            raise ConfigError(f'source_args={source_args!r} is for data sets of torchreid')
        if source in SAMPLES:
            make, below = SAMPLES[source]
            data_root = os.path.join(make(data_root), below)
        return read_folders(data_root, needed=needed, **options)
    from ...torchreid import read_dataset

    min_cameras = options.pop('min_cameras')
    given = [name for name, value in options.items() if value]
    if given:
        raise ConfigError(
            f"{given[0]}={options[given[0]]!r} goes with source='folder': names and ids of "
            f'{source!r} are read by torchreid'
        )
    splits = read_dataset(source, data_root, **(source_args or {}))
    check_cameras(splits, needed, min_cameras)
    return splits


class _Pictures(BaseDataset):
    """The plain data set below :class:`ReIDDataset`."""

    def __init__(
        self,
        data_root: str,
        source: str = 'folder',
        split: str = 'train',
        pattern: str | None = None,
        folders: Mapping[str, str] | None = None,
        allow_shared_ids: bool = False,
        min_cameras: int = 2,
        source_args: Mapping | None = None,
        test_mode: bool | None = None,
        lazy_init: bool = False,
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split={split!r}: re-ID data sets have 'train' and 'test'")
        if not data_root:
            raise DataError('data_root is empty: it must name the folder with the data set')
        self.split = split
        self.source = source
        self.offsets = Offsets()
        self._options = {
            'pattern': pattern,
            'folders': folders,
            'allow_shared_ids': allow_shared_ids,
            'min_cameras': min_cameras,
            'source_args': source_args,
        }
        # Later than the base class would, which sets nothing of ours before it loads.
        super().__init__(
            data_root=os.path.expanduser(data_root),
            test_mode=split == 'test' if test_mode is None else test_mode,
            lazy_init=True,
            **kwargs,
        )
        if not lazy_init:
            self.full_init()

    def load_data_list(self) -> list[dict]:
        """The pictures, queries before the gallery; sets the names in ``metainfo``."""
        subsets = SPLITS[self.split]
        splits = read_splits(self.source, self.data_root, subsets, **self._options)
        for remark in splits.remarks:
            tell_once(remark)
        self._metainfo['cameras'] = splits.cameras
        if self.split == 'train':
            self._metainfo['classes'] = splits.persons
        return [
            {**item._asdict(), 'subset': subset}
            for subset in subsets
            for item in getattr(splits, subset)
        ]


@DATASETS.register_module()
class ReIDDataset(SkipCorrupt, _Pictures):
    """Pictures of persons seen by cameras.

    A sample has ``img_path``, ``pid``, ``camid``, ``dsetid`` and ``subset``, in training
    ``gt_label`` too, which is ``pid``: there persons are numbered from 0 on. The test set holds
    the queries (``num_query`` of them), then the gallery.

    Args:
        data_root: The folder of the data set. For torchreid's, the folder that torchreid calls so,
            or the data set's own.
        source: ``'folder'`` for pictures in folders whose names tell person and camera,
            ``'walkers'`` or ``'walker_scenes'`` for the sample sets, which are made on first use,
            or the name of one of torchreid's image data sets: ``'market1501'``,
            ``'dukemtmcreid'``, ``'cuhk03'``, ``'msmt17'`` ...
        split: ``'train'`` or ``'test'``.
        pattern: For ``'folder'``: a regular expression with the groups ``pid`` and ``cam``, to be
            found in paths below the folders; Market-1501's by default.
        folders: For ``'folder'``: ``dict(train=..., query=..., gallery=...)``, Market-1501's by
            default.
        allow_shared_ids: For ``'folder'``: persons may be in training and test.
        min_cameras: How many cameras the split must have.
        source_args: For torchreid's class: ``dict(cuhk03_labeled=True)``; of MSMT17
            ``dict(version='V2', train='train+val')``.
        skip_corrupt: Leave out images that cannot be decoded. Without it those of query and gallery
            end the run before it starts, those of training when met.
        **kwargs: ``pipeline``, ``indices`` ... of mmengine's ``BaseDataset``.

    Raises:
        ConfigError: Arguments that cannot be, or do not go together.
        DataError: The pictures cannot be used; names files and counts.
    """

    def load_data_list(self) -> list[dict]:
        """The pictures, the corrupt ones judged, persons to train on numbered without gaps."""
        samples = super().load_data_list()
        if self.split == 'train':
            return self._label(samples)
        if not self.skip_corrupt:
            self._refuse_corrupt(samples)
        return samples

    def _label(self, samples: list[dict]) -> list[dict]:
        """Labels; a person all of whose images were skipped has none."""
        left = sorted({sample['pid'] for sample in samples})
        labels = {pid: number for number, pid in enumerate(left)}
        for sample in samples:
            sample['pid'] = sample['gt_label'] = labels[sample['pid']]
        self._metainfo['classes'] = tuple(self._metainfo['classes'][pid] for pid in left)
        return samples

    def _refuse_corrupt(self, samples: list[dict]) -> None:
        """An evaluation after hours of training is a bad time to learn of a broken file."""
        faults = find_corrupt([sample['img_path'] for sample in samples], self._place())
        if faults:
            raise DataError(
                f'{len(faults)} images of query and gallery cannot be read: '
                f'{some(list(faults.values()))}; repair them, or leave them out by '
                'skip_corrupt=True in the data set'
            )

    def get_data_info(self, idx: int) -> dict:
        """A sample; in a joint training with the numbers that it has there."""
        info = super().get_data_info(idx)
        for key, offset in self.offsets._asdict().items():
            info[key] += offset
        if 'gt_label' in info:
            info['gt_label'] = info['pid']
        return info

    @property
    @force_full_init
    def num_pids(self) -> int:
        """Persons to train on."""
        return len(self._metainfo.get('classes', ()))

    @property
    @force_full_init
    def num_query(self) -> int:
        """Queries, which come first in the test set."""
        return sum(self.get_data_info(i)['subset'] == 'query' for i in range(len(self)))

    @force_full_init
    def get_pids(self) -> np.ndarray:
        """Person of each sample, (N,) int64."""
        return np.array([self.get_data_info(i)['pid'] for i in range(len(self))], np.int64)

    @force_full_init
    def get_camids(self) -> np.ndarray:
        """Camera of each sample, (N,) int64."""
        return np.array([self.get_data_info(i)['camid'] for i in range(len(self))], np.int64)


@DATASETS.register_module()
class ConcatReID(ConcatDataset):
    """Several training sets as one: persons and cameras of different sets are kept apart.

    Args:
        datasets: Configs of :class:`ReIDDataset`, or such data sets, all of split ``'train'``.
        lazy_init: As in mmengine.

    Raises:
        ConfigError: A part is not a training set for re-identification.
    """

    def __init__(self, datasets: Sequence[Mapping | ReIDDataset], lazy_init: bool = False) -> None:
        if not datasets:
            raise ConfigError('datasets is empty: one or more training sets are needed')
        parts = [d if isinstance(d, BaseDataset) else ROOT_DATASETS.build(d) for d in datasets]
        for number, part in enumerate(parts):
            if not isinstance(part, ReIDDataset) or part.split != 'train':
                what = getattr(part, 'split', None)
                raise ConfigError(
                    f'datasets[{number}] ({type(part).__name__}, split {what!r}): a '
                    "effvit_mm.ReIDDataset of split 'train' is needed; test sets are evaluated one "
                    'at a time'
                )
        super().__init__(parts, lazy_init=lazy_init, ignore_keys=['classes', 'cameras'])

    def full_init(self) -> None:
        """Load the parts and number their persons and cameras one after the other."""
        if self._fully_initialized:
            return
        super().full_init()
        pid = camid = 0
        names: dict[str, list[str]] = {'classes': [], 'cameras': []}
        for number, part in enumerate(self.datasets):
            part.offsets = Offsets(pid, camid, number)
            meta = part.metainfo
            for key, called in names.items():
                called += [f'{number}/{name}' for name in meta[key]]
            pid += len(meta['classes'])
            camid += len(meta['cameras'])
        self._metainfo.update({key: tuple(called) for key, called in names.items()})

    @property
    @force_full_init
    def num_pids(self) -> int:
        """Persons to train on, of all parts."""
        return len(self._metainfo['classes'])

    @force_full_init
    def get_pids(self) -> np.ndarray:
        """Person of each sample, (N,) int64."""
        return np.concatenate([part.get_pids() for part in self.datasets])

    @force_full_init
    def get_camids(self) -> np.ndarray:
        """Camera of each sample, (N,) int64."""
        return np.concatenate([part.get_camids() for part in self.datasets])
