"""Features that go into a gallery on disk as they come; it is itself what a run goes on with."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from ..reid.galleries import AnyGallery, closing, create_gallery, finish, is_there, open_gallery
from .reid import ReIDExtractor
from .results import PersonFeature, PersonFeatures
from .videos import Image

BLOCK = 4096  # images that are added together: so many features a kill loses


class GalleryWriter:
    """A gallery in a folder or a database that grows by results; a context manager.

    Args:
        place: Folder, database file or address.
        extractor: What makes the features.
        index, distance: Of a new gallery.
        resume: Go on with one that is there.

    Attributes:
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
        self._done: set[str] = set()
        self._count = 0
        if not is_there(place):
            return
        if not resume:
            raise ConfigError(
                f'--out {place}: there is a gallery already; to add to it, take --resume'
            )
        self.gallery = open_gallery(place, model=extractor.identity)
        for name, value in self.settings.items():
            if getattr(self.gallery, name) != value:
                there = getattr(self.gallery, name)
                raise ConfigError(f'--{name} {value}: gallery {place} has {there}')
        numbers = self.gallery.find()
        self._count = len(numbers)
        for start in range(0, len(numbers), BLOCK):
            self._done.update(self.gallery.take(numbers[start : start + BLOCK])[0].paths)

    @property
    def count(self) -> int:
        return self._count + len(self._block)

    def done(self, image: Image) -> bool:
        """Whether the gallery has an image."""
        return image.name in self._done

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
