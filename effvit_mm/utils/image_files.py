"""Finding image files."""

from __future__ import annotations

import os
from pathlib import Path

EXTENSIONS = (
    '.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm', '.gif',
)  # fmt: skip


def list_images(folder: Path) -> list[str]:
    """The sorted paths of all images in ``folder`` and below it."""
    return sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and name[0] != '.'
    )
