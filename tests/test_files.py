"""Files are written whole or not at all, on any file system."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from effvit_mm.errors import UserError
from effvit_mm.utils.files import (
    folder_kept_with_file,
    remove_stale_temporaries,
    write_text,
    written_atomically,
)


def test_a_folder_goes_where_its_file_does_not_come(tmp_path):
    """An export that is cancelled leaves no empty folder; what was there, or is in it, stays."""
    for there in (tmp_path, tmp_path / 'mine'):
        there.mkdir(exist_ok=True)
        with pytest.raises(KeyboardInterrupt), folder_kept_with_file(there / 'a' / 'b' / 'file'):
            (there / 'a' / 'b').mkdir(parents=True)
            raise KeyboardInterrupt
        assert there.is_dir() and not (there / 'a').exists()
    with pytest.raises(KeyError), folder_kept_with_file(tmp_path / 'c' / 'd' / 'file'):
        (tmp_path / 'c' / 'd').mkdir(parents=True)
        (tmp_path / 'c' / 'other').write_text('')
        raise KeyError
    assert [p.name for p in (tmp_path / 'c').iterdir()] == ['other']
    with folder_kept_with_file(tmp_path / 'e' / 'file'):
        (tmp_path / 'e').mkdir()
    assert (tmp_path / 'e').is_dir()


def test_atomic_write(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(KeyError), written_atomically(path) as temporary:
        temporary.write_text('half')
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ['file'] and path.read_text() == 'old'
    with written_atomically(path) as temporary:
        temporary.write_text('new')
    assert path.read_text() == 'new'
    with pytest.raises(UserError, match='cannot be written'), written_atomically('/proc/x') as file:
        file.write_text('')
    (tmp_path / '.x.tmp').write_text('')
    assert [p.name for p in remove_stale_temporaries(tmp_path)] == ['.x.tmp']


@pytest.mark.parametrize('code', [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize('folders_alone', [True, False])
def test_file_systems_without_sync(code, folders_alone, tmp_path, monkeypatch):
    """A network's, say, have it for files but not for folders, or not at all."""

    def fsync(descriptor):
        if not folders_alone or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'fsync', fsync)
    write_text(tmp_path / 'a', 'new')
    assert (tmp_path / 'a').read_text() == 'new'


def test_a_disk_that_fails_to_sync_is_told(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, 'fsync', fsync)
    with pytest.raises(UserError, match='a cannot be written: Input/output error'):
        write_text(tmp_path / 'a', 'new')
