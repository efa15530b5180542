"""A network that ``export.py --preprocess`` wrote: photographs to outputs, from the file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..runtime import Preprocessing, open_compiled
from ..runtime.pixels import METADATA_KEY
from .videos import Image


class PhotographFile:
    """What classifiers and extractors share; arguments are those of ``Classifier``.

    Attributes:
        kind: What it holds, for messages.
        key: Of its metadata, by which one of this kind is known.
        told: What the metadata say there.

    Raises:
        ConfigError: It is of another kind, or does not take photographs.
        ExportError: The runtime is not installed, or the file cannot be read.
    """

    kind: ClassVar[str]
    key: ClassVar[str]

    def __init__(
        self,
        path: str | Path,
        runtime: str | None,
        precision: str,
        runtime_options: Mapping[str, Any] | None,
    ) -> None:
        self.network = open_compiled(path, runtime, precision, **(runtime_options or {}))
        about = self.network.session.about
        self.place = Preprocessing.from_json(about.get(METADATA_KEY, 'null'))
        if self.key not in about or self.place.steps is None:
            raise ConfigError(
                f'{path}: no {self.kind} that takes photographs: export.py CONFIG CHECKPOINT '
                '--preprocess writes them'
            )
        self.told = about[self.key]

    def load(self, image: Image) -> np.ndarray:
        """(H, W, 3) uint8, BGR, as the network takes it."""
        return self.place(image.pixels())

    def shape(self, loaded: np.ndarray) -> Sequence[int]:
        return loaded.shape

    def outputs(self, loaded: Sequence[np.ndarray], mirrored: bool = False) -> Tensor:
        """What the network gives of each."""
        images = torch.from_numpy(np.stack(loaded))
        return self.network(images.flip(2) if mirrored else images)
