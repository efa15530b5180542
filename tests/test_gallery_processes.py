"""Galleries and processes: a kill loses nothing that was confirmed; a client that is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gallery_images import NO_DATABASE, ON_DISK, WIDTH, images
from pyproject import read_pyproject
from remedies import tries

from effvit_mm.errors import ConfigError
from effvit_mm.reid.database_gallery import DatabaseGallery
from effvit_mm.reid.galleries import KINDS, create_gallery, open_gallery

ADDING = """
import sys
import numpy as np
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.galleries import create_gallery

place, index = sys.argv[1:]
gallery = create_gallery(place, 16, index=index)
for start in range(0, 10**6, 20):
    numbers = np.arange(start, start + 20)
    features = np.random.default_rng(start).standard_normal((20, 16))
    added = ReIDFeatures(features, numbers, numbers, [str(n) for n in numbers])
    gallery.add(added, {'double': (2 * numbers).tolist()})
    print(start + 20, flush=True)
"""


@pytest.fixture(scope='module')
def killed(tmp_path_factory):
    """Place of each kind of gallery that was killed, and how many images it had confirmed."""
    kinds = ['large'] if NO_DATABASE else ['large', 'file.db']
    places = {kind: tmp_path_factory.mktemp('killed') / kind for kind in kinds}
    processes = {
        kind: subprocess.Popen(
            [sys.executable, '-c', ADDING, place, kind if kind in KINDS else 'exact'],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        for kind, place in places.items()
    }
    confirmed = {}
    for kind, process in processes.items():
        for line in process.stdout:
            confirmed[kind] = int(line)
            if confirmed[kind] == 400:
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return {kind: (place, confirmed[kind]) for kind, place in places.items()}


@pytest.mark.parametrize('kind', ON_DISK)
def test_a_kill_while_adding_loses_nothing_that_was_confirmed(kind, killed):
    place, confirmed = killed[kind]
    gallery = open_gallery(place)
    there = gallery.find()
    assert confirmed >= 400 and there[:confirmed].tolist() == list(range(confirmed))
    for start in range(0, confirmed, 20):
        features, columns = gallery.take(range(start, start + 20))
        assert columns['double'] == [2 * n for n in range(start, start + 20)]
        assert features.paths == [str(n) for n in range(start, start + 20)]
        made = np.random.default_rng(start).standard_normal((20, 16)).astype(np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        np.testing.assert_allclose(features.features, made, atol=1e-3)
    added = images(3, 1)
    added.model = ''
    numbers = gallery.add(added, {'double': [1, 2, 3]})
    assert numbers.min() > there.max()
    assert gallery.search(added, 1)[0].min() == numbers.min()
    if isinstance(gallery, DatabaseGallery):
        gallery.close()


@tries("`pip install 'effvit-mm[gallery]'`")
def test_without_the_client_databases_alone_are_missing(tmp_path, monkeypatch):
    for missing, place in (('pymilvus', 'http://localhost:1'), ('milvus_lite', tmp_path / 'x.db')):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            if missing == 'milvus_lite':
                patch.setitem(sys.modules, 'pymilvus', sys)
            with pytest.raises(
                ConfigError, match=rf"{missing}: `pip install 'effvit-mm\[gallery\]'"
            ):
                create_gallery(place, WIDTH)
    extra = read_pyproject()['project']['optional-dependencies']['gallery']
    assert [line.split('>=')[0] for line in extra] == ['pymilvus', 'milvus-lite']


@pytest.mark.parametrize(('place', 'seconds'), [('x.db', 2**31 / 1000), ('http://127.0.0.1:9', 10)])
def test_a_file_is_not_asked_again_and_again_whether_it_is_there(
    place, seconds, tmp_path, monkeypatch
):
    """Its server is in this process, and ends connections that ask often: a line of gRPC's."""
    grpc, asked = pytest.importorskip('grpc'), []
    servers = pytest.importorskip('milvus_lite.server_manager').server_manager_instance

    class StoppedError(Exception):
        pass

    def channel(address, options):
        asked.append(dict(options)['grpc.keepalive_time_ms'] / 1000)
        raise StoppedError

    monkeypatch.setattr(grpc, 'insecure_channel', channel)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoppedError):
        create_gallery(place, WIDTH)
    servers.release_server(place)
    assert asked == [pytest.approx(seconds, rel=1e-6)]


def test_a_database_leaves_the_handlers_of_others_open(tmp_path):
    """pymilvus configures logging at its import, which closes a training's log file."""
    pytest.importorskip('pymilvus')
    code = """
import logging, sys
handler = logging.FileHandler('run.log')
logging.getLogger('mine').addHandler(handler)
from effvit_mm.reid.database_gallery import import_milvus
import_milvus('http://localhost:19530')
assert 'pymilvus' in sys.modules and handler.stream is not None
logging.config.dictConfig({'version': 1, 'incremental': True})  # itself again
"""
    subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True)
