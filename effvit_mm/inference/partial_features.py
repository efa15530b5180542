"""Features of a gallery that is not whole yet: in a file from which an extraction goes on."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..reid.search import Gallery
from .reid import ReIDExtractor
from .result_files import ResultFile
from .results import PersonFeature
from .videos import Image


class PartialFeatures(ResultFile):
    """A ``.jsonl`` file of features, bit for bit.

    Args:
        path: Its name.
        extractor: What makes them.
        resume: Keep what it has.
        gallery: What they are added to.

    Attributes:
        gallery: The same; None where the file has all its images.
        results: Features of images that the gallery has not, those that were in the file first.
        there: Names of images that were in file or gallery.
        count: How many images both have.

    Raises:
        ConfigError: Features that are there are of another model, or of images that were prepared
            in another way.
    """

    def __init__(
        self, path: Path, extractor: ReIDExtractor, resume: bool, gallery: Gallery | None = None
    ) -> None:
        super().__init__(path, PersonFeature, resume, _to_line, keep_rows=True)
        written = {row['image'] for row in self.rows}
        added_to = set(() if gallery is None else gallery.paths)
        self.gallery = None if added_to <= written else gallery
        self.there = written | added_to
        self._added_to = set() if self.gallery is None else added_to
        made_by = extractor.identity, extractor.preparation
        self.results: list[PersonFeature] = []
        for row in self.rows:
            if (row['model'], row['preparation']) != made_by:
                raise ConfigError(
                    f'--resume: {path} has features of {row["model"]}, of images prepared by '
                    f'{row["preparation"]}: take the same model and options, or begin anew with '
                    '--overwrite'
                )
            if row['image'] in self._added_to:
                continue
            feature = np.frombuffer(base64.b64decode(row['feature']), '<f4')
            self.results.append(PersonFeature(row['image'], row['frame'], feature, *made_by))
        self.rows = []

    @property
    def count(self) -> int:
        return len(self._added_to) + len(self.results)

    def done(self, image: Image) -> bool:
        """Whether the gallery or the file has an image."""
        return image.name in self._added_to or super().done(image)

    def write(self, result: PersonFeature) -> None:
        super().write(result)
        self.results.append(result)


def _to_line(result: PersonFeature) -> str:
    feature = base64.b64encode(result.feature.astype('<f4').tobytes()).decode()
    return json.dumps({**vars(result), 'feature': feature})
