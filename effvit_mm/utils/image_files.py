"""Which files of a folder are images, and what else lies there.

One walk and one list of formats for training sets, checks, inferencers and galleries: what one of
them reads, all do. What is passed over is known by kind, to be counted and named.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import DataError
from .text import shorten

# What `images.decode_image` reads.
EXTENSIONS = (
    '.avif', '.bmp', '.dib', '.gif', '.jfif', '.jp2', '.jpe', '.jpeg', '.jpg', '.pbm', '.pgm',
    '.png', '.pnm', '.ppm', '.tga', '.tif', '.tiff', '.webp',
)  # fmt: skip
# Pictures in formats that it does not read: of phones, cameras and programs for drawing.
UNREAD_EXTENSIONS = (
    '.arw', '.cr2', '.cr3', '.dng', '.exr', '.hdr', '.heic', '.heif', '.jxl', '.nef', '.orf',
    '.psd', '.raf', '.rw2', '.svg',
)  # fmt: skip
VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
# What file systems, storage boxes and archives leave in folders, beside what begins with a dot.
SYSTEM_NAMES = {
    '@eadir', '@tmp', '@recycle', '@recently-snapshot', '@__thumb', '#recycle', '#snapshot',
    '__macosx', '__pycache__', '$recycle.bin', 'system volume information', 'lost+found',
    'thumbs.db', 'ehthumbs.db', 'desktop.ini',
}  # fmt: skip


@dataclass
class Listing:
    """What a walk found: paths, each list sorted.

    Attributes:
        images: Files of the formats that are read.
        videos: Files that are videos by their names.
        unread: Pictures in formats that are not read.
        others: Files of other kinds.
        system: Hidden and system folders, which were not entered, and hidden images.
        links: Links that lead back to a folder which is read anyway, and those that lead nowhere.
        unopened: Folders that were not entered, as only one level was asked for.
        beside: Images beside folders that were to hold them.
    """

    images: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    unopened: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def left_out(self, folder: str | Path) -> str:
        """All that is not read, counted and named below ``folder``; nothing where all is read."""
        told = self.told(folder)
        return f'folder {folder}: {told}' if told else ''

    def told(self, folder: str | Path) -> str:
        """The same without the folder's name."""
        titles = {
            'videos': 'videos',
            'unread': 'pictures in formats that are not read: convert them to JPEG or PNG',
            'others': 'files that are no images by their names',
            'system': 'hidden and system files and folders',
            'links': 'links that lead back or nowhere',
            'unopened': 'folders, which are not looked into',
            'beside': 'images beside the folders of the classes',
        }
        parts = [
            f'{len(paths)} {title} ({shorten([os.path.relpath(path, folder) for path in paths])})'
            for kind, title in titles.items()
            if (paths := getattr(self, kind))
        ]
        return f'passed over: {"; ".join(parts)}' if parts else ''


def list_images(
    folder: str | Path, subfolders: bool = True, extensions: Sequence[str] = EXTENSIONS
) -> Listing:
    """Look through a folder, and what is below it.

    Hidden and system folders are passed over. Links to folders are followed, but no folder is read
    twice, and none that a link lies in.

    Args:
        folder: Its path comes before all that is found.
        subfolders: Look into the folders in it, too.
        extensions: How images' names end, in small letters.

    Raises:
        DataError: A folder cannot be read.
    """
    found = Listing()
    seen: set[str] = set()
    # Folders, and the real places on the way to them. Links come after all that is there without
    # them: by its own name a folder is found first.
    todo: deque[tuple[str, tuple[str, ...]]] = deque([(str(folder), ())])
    linked: deque[tuple[str, tuple[str, ...]]] = deque()
    while todo or linked:
        place, way = todo.popleft() if todo else linked.popleft()
        real = os.path.realpath(place)
        if real in seen:
            found.links.append(place)
            continue
        seen.add(real)
        way = (*way, real)
        for entry in _entries(place):
            kind = _kind(entry, tuple(extensions))
            if kind == 'folder' and entry.is_symlink() and _leads_back(entry.path, way):
                kind = 'links'
            if kind == 'folder' and subfolders:
                (linked if entry.is_symlink() else todo).append((entry.path, way))
            elif kind:
                getattr(found, 'unopened' if kind == 'folder' else kind).append(entry.path)
    for part in fields(found):
        getattr(found, part.name).sort()
    return found


def list_folders(folder: str | Path) -> tuple[list[str], Listing]:
    """The sorted names of the folders of classes in a folder; and what else is there.

    Raises:
        DataError: The folder cannot be read.
    """
    found = list_images(folder, subfolders=False)
    names = [os.path.basename(path) for path in found.unopened]
    found.beside, found.images, found.unopened = found.images, [], []
    return names, found


def merged(listings: Iterable[Listing]) -> Listing:
    """Several listings as one."""
    whole = Listing()
    for listing in listings:
        for part in fields(whole):
            getattr(whole, part.name).extend(getattr(listing, part.name))
    return whole


def _entries(place: str) -> Iterator[os.DirEntry]:
    try:
        with os.scandir(place) as entries:
            yield from entries
    except OSError as error:
        raise DataError(f'folder {place} cannot be read: {error.strerror or error}') from error


def _kind(entry: os.DirEntry, extensions: tuple[str, ...]) -> str:
    """A field of :class:`Listing`, ``'folder'`` for one to enter, or nothing to be told."""
    name = entry.name.lower()
    system = name.startswith('.') or name in SYSTEM_NAMES
    dangling = entry.is_symlink() and not os.path.exists(entry.path)
    folder = not dangling and entry.is_dir()
    if system:
        return 'system' if folder or name.endswith(extensions) else ''
    if folder or dangling:
        return 'folder' if folder else 'links'
    # Pipes and devices are no files: reading one might never end.
    if entry.is_file() and name.endswith(extensions):
        return 'images'
    if name.endswith(UNREAD_EXTENSIONS):
        return 'unread'
    return 'videos' if name.endswith(VIDEO_EXTENSIONS) else 'others'


def _leads_back(link: str, places: Iterable[str]) -> bool:
    """Whether a link leads to a folder in which one of these lies, or to itself."""
    target = os.path.realpath(link)
    return any(os.path.commonpath([target, place]) == target for place in places)
