"""Fashion-MNIST, read from the four files as they are published: no download, nothing written."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from mmpretrain.datasets import FashionMNIST as _FashionMNIST

from ...errors import DataError
from ..registry import DATASETS

IDX_UINT8 = 8


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
class FashionMNIST(_FashionMNIST):
    """Fashion-MNIST: 60,000 training and 10,000 test images, 28x28, 10 classes.

    mmpretrain's class insists on unpacked copies beside the files and on a download; this one
    reads a read-only folder. Images come as three equal channels.

    Args:
        data_root: The folder with ``train-images-idx3-ubyte.gz`` and the other three.
        split: ``'train'`` or ``'test'``.
        **kwargs: ``pipeline``, ``indices`` ... of mmpretrain's ``BaseDataset``.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in ('train', 'test'):
            raise DataError(f"FashionMNIST has the splits 'train' and 'test', not {split!r}")
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
