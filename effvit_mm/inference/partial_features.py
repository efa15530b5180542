"""Features of a gallery that is not whole yet: in a file from which an extraction goes on."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .reid import ReIDExtractor
from .result_files import ResultFile
from .results import PersonFeature


class PartialFeatures(ResultFile):
    """A ``.jsonl`` file of features, bit for bit.

    Args:
        path: Its name.
        extractor: What makes them.
        resume: Keep what it has.

    Attributes:
        results: All features, those that were there first.
        count: How many these are.

    Raises:
        ConfigError: Features that are there are of another model, or of images that were prepared
            in another way.
    """

    def __init__(self, path: Path, extractor: ReIDExtractor, resume: bool) -> None:
        super().__init__(path, PersonFeature, resume, _to_line, keep_rows=True)
        made_by = extractor.identity, extractor.preparation
        self.results: list[PersonFeature] = []
        for row in self.rows:
            if (row['model'], row['preparation']) != made_by:
                raise ConfigError(
                    f'--resume: {path} has features of {row["model"]}, of images prepared by '
                    f'{row["preparation"]}: take the same model and options, or begin anew'
                )
            feature = np.frombuffer(base64.b64decode(row['feature']), '<f4')
            self.results.append(PersonFeature(row['image'], row['frame'], feature, *made_by))
        self.rows = []

    @property
    def count(self) -> int:
        return len(self.results)

    def write(self, result: PersonFeature) -> None:
        super().write(result)
        self.results.append(result)


def _to_line(result: PersonFeature) -> str:
    feature = base64.b64encode(result.feature.astype('<f4').tobytes()).decode()
    return json.dumps({**vars(result), 'feature': feature})
