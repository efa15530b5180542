"""Features that go into a gallery on disk as they come; it is itself what a run goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError
from ..reid.galleries import AnyGallery, closing, create_gallery, finish, is_there, open_gallery
from ..reid.gallery_checks import check_features
from .reid import ReIDExtractor
from .results import PersonFeature, PersonFeatures
from .videos import Image

BLOCK = 4096  # images that are added together: so many features a kill loses


def open_again(
    place: str | Path, extractor: ReIDExtractor, settings: Mapping[str, str]
) -> AnyGallery:
    """A gallery that an extractor's features can be added to.

    Args:
        place: File, folder, database file or address.
        extractor: What makes the features.
        settings: ``index`` and ``distance`` that it is to have.

    Raises:
        ConfigError: It is of another kind or distance.
        DataError: It cannot be read, is of another model, or of images prepared in another way.
    """
    gallery = open_gallery(place, model=extractor.identity)
    for name, value in settings.items():
        if getattr(gallery, name) != value:
            raise ConfigError(f'--{name} {value}: gallery {place} has {getattr(gallery, name)}')
    none = gallery.take([])[0]
    check_features(none, gallery.width, extractor.identity, extractor.preparation)
    return gallery


class GalleryWriter:
    """A gallery in a folder or a database that grows by results; a context manager.

    Args:
        place: Folder, database file or address.
        extractor: What makes the features.
        index, distance: Of a new gallery.
        resume: Go on with one that is there.

    Attributes:
        there: Names of images that it had.
        count: Images in it.

    Raises:
        ConfigError: There is a gallery, which is not to be resumed, or one of another distance.
        DataError: It cannot be read, or is of another model.
    """

    def __init__(
        self, place: str | Path, extractor: ReIDExtractor, index: str, distance: str, resume: bool
    ) -> None:
        self.place, self.extractor = place, extractor
        self.settings = {'index': index, 'distance': distance}
        self.gallery: AnyGallery | None = None
        self._block: list[PersonFeature] = []
        self.there: set[str] = set()
        self._count = 0
        if not is_there(place):
            return
        if not resume:
            raise ConfigError(
                f'--out {place}: there is a gallery already; to add to it, take --resume '
                '(--overwrite is for galleries in files)'
            )
        self.gallery = open_again(place, extractor, self.settings)
        numbers = self.gallery.find()
        self._count = len(numbers)
        for start in range(0, len(numbers), BLOCK):
            self.there.update(self.gallery.take(numbers[start : start + BLOCK])[0].paths)

    @property
    def count(self) -> int:
        return self._count + len(self._block)

    def done(self, image: Image) -> bool:
        """Whether the gallery has an image."""
        return image.name in self.there

    def write(self, result: PersonFeature) -> None:
        """Add a feature, with the others of its block."""
        self._block.append(result)
        if len(self._block) == BLOCK:
            self._add()

    def _add(self) -> None:
        if not self._block:
            return
        features, self._block = PersonFeatures(self._block), []
        if self.gallery is None:
            self.gallery = create_gallery(
                self.place, features.width, features.model, **self.settings
            )
        self.gallery.add(features)
        self._count += len(features)

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Add what is left, also where the run is cut short; the gallery is closed then."""
        self._add()
        if self.gallery is not None:
            with closing(self.gallery):
                finish(self.gallery, self.place)
