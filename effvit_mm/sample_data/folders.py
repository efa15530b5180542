"""Making a folder of data once, whoever asks first and however many ask at the same time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError

# Stands in every folder that was made here; holds the version of its content.
MARKER = '.effvit_mm'


def make_once(folder: str | Path, build: Callable[[Path], None], version: str = '1') -> Path:
    """Return ``folder``, filled by ``build`` if it does not exist yet.

    ``build`` writes into a temporary folder beside the final one, which then gets its name in one
    step: a folder that exists is complete, also after a kill or with several ranks (on one machine
    or on a shared disk) starting at once. Who comes second drops its own copy.

    Args:
        folder: Where the data shall be.
        build: Called with an empty folder to fill; must give the same files each time.
        version: Changes with the content, so that data of an older release is not mixed in.

    Raises:
        DataError: The place cannot be written, or holds something else.
    """
    folder = Path(folder)
    if _is_complete(folder, version):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f'.{folder.name}-', dir=folder.parent))
    except OSError as error:
        raise DataError(f'sample data cannot be made in {folder}: {error}') from error
    try:
        build(temporary)
        (temporary / MARKER).write_text(version)
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out the others on a shared disk
        try:
            temporary.rename(folder)
        except OSError as error:
            if not _is_complete(folder, version):
                raise DataError(f'sample data cannot be put at {folder}: {error}') from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _is_complete(folder: Path, version: str) -> bool:
    """Whether ``folder`` holds finished data; an error if it holds anything else."""
    marker = folder / MARKER
    if marker.is_file():
        present = marker.read_text()
        if present != version:
            raise DataError(
                f'{folder} holds sample data of version {present}, this release makes {version}: '
                'delete the folder and it is made anew'
            )
        return True
    if not folder.is_dir():
        if folder.exists():
            raise DataError(f'{folder} is a file: sample data would be made in a folder there')
        return False
    if any(folder.iterdir()):
        raise DataError(
            f'{folder} exists, but effvit_mm did not make it: give another data_root, or delete it'
        )
    return False
