"""Checkpoints from the web, each kept under its whole address."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from http.client import HTTPException
from pathlib import Path
from urllib import request
from urllib.parse import unquote, urlsplit

from torch import hub

from ..errors import CheckpointError

SCHEMES = ('http', 'https')
TIMEOUT = 60  # seconds without a byte


def is_address(source: str | Path) -> bool:
    """Whether a checkpoint is named by an address and not by a file."""
    return '://' in str(source)


def download(address: str) -> Path:
    """The local file of an http(s) address, downloaded when it is asked for the first time.

    It lies in PyTorch's folder of downloads (``$TORCH_HOME/hub/checkpoints``), whole or not at all,
    under the last part of the address and a hash of all of it: addresses that end alike do not mix.

    Raises:
        CheckpointError: No http(s) address, or it cannot be downloaded.
    """
    if urlsplit(address).scheme not in SCHEMES:
        raise CheckpointError(
            f'checkpoint {address}: files and http(s) addresses can be loaded; download it first'
        )
    last = re.sub(r'[^\w.-]', '_', unquote(Path(urlsplit(address).path).name))[-80:]
    digest = hashlib.sha256(address.encode()).hexdigest()[:32]
    path = Path(hub.get_dir()) / 'checkpoints' / f'{digest}-{last}'
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(address, path)
        except (OSError, HTTPException) as error:
            raise CheckpointError(f'checkpoint {address} cannot be downloaded: {error}') from error
    return path


def _fetch(address: str, path: Path) -> None:
    """Download into a file beside ``path`` and rename it: processes do not disturb each other."""
    asked = request.Request(address, headers={'User-Agent': 'effvit_mm'})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix='.', suffix='.tmp')
    try:
        with os.fdopen(handle, 'wb') as file, request.urlopen(asked, timeout=TIMEOUT) as response:
            shutil.copyfileobj(response, file)
            announced = response.headers.get('Content-Length')
            if announced is not None and file.tell() != int(announced):
                raise OSError(f'cut short, {file.tell()} of {announced} bytes came')
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
