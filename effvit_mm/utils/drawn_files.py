"""Pictures of a folder that we have drawn, so that the next that draw there can clear them away."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from ..errors import UserError

LIST = '.drawn_by_test'  # a name a line, as JSON: names of files may have any character


def note_drawn(path: str | Path) -> Path:
    """Write down that a file is one of ours, before it is drawn; gives its path.

    Several processes may do so for one folder.

    Raises:
        UserError: The folder cannot be written.
    """
    path = Path(path)
    try:
        with (path.parent / LIST).open('a', encoding='ascii') as file:
            file.write(json.dumps(path.name) + '\n')
    except OSError as error:
        raise UserError(f'{path} cannot be written: {error.strerror or error}') from error
    return path


def remove_drawn(folder: str | Path) -> None:
    """Remove what was drawn into a folder before; other files stay.

    Raises:
        UserError: A file cannot be removed.
    """
    folder = Path(folder)
    try:
        for line in (folder / LIST).read_text(encoding='ascii', errors='replace').splitlines():
            name = None
            with suppress(json.JSONDecodeError):  # the last one, of a test that was killed
                name = json.loads(line)
            # Nothing outside of the folder, whatever the list says.
            if isinstance(name, str) and name == Path(name).name and (folder / name).is_file():
                (folder / name).unlink()
        (folder / LIST).unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(
            f'{folder}: pictures of an earlier test cannot be removed: {error.strerror or error}'
        ) from error
