"""Vector databases that run inside a process, side by side: what galleries could be kept in.

Each candidate is a class with the same few methods; it is measured in a process of its own, and
killed in another while it adds. Features are those of :mod:`.galleries`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .galleries import NARROW, TOP, WIDTH, Nearest, disk_bytes, make_block, make_queries
from .memory import peak_bytes, reset_peak, resident_bytes

ROWS = 10_000  # that are made and added at a time
KILLED_AFTER = 2_000  # images were confirmed
KILLED_ROWS = 50


class Candidate(Protocol):
    """A database with a camera and a moment for each feature; ``make``: there is none yet."""

    def __init__(self, folder: Path, make: bool) -> None: ...

    def add(self, numbers: np.ndarray, features: np.ndarray, cameras, begin) -> None: ...

    def build(self) -> None: ...

    def nearest(self, query: np.ndarray, narrow: bool) -> list[int]: ...

    def count(self) -> int: ...


class Milvus:
    """Milvus Lite by pymilvus, which speaks to a server or cluster in the same way."""

    KIND = 'FLAT'

    def __init__(self, folder: Path, make: bool) -> None:
        from pymilvus import DataType, MilvusClient

        self.client = MilvusClient(str(folder / 'x.db'))
        if make:
            schema = self.client.create_schema(auto_id=False)
            schema.add_field('id', DataType.INT64, is_primary=True)
            schema.add_field('feature', DataType.FLOAT_VECTOR, dim=WIDTH)
            schema.add_field('camera', DataType.INT64)
            schema.add_field('begin', DataType.DOUBLE)
            index = self.client.prepare_index_params()
            settings = {'M': 32, 'efConstruction': 80} if self.KIND == 'HNSW' else {}
            index.add_index('feature', index_type=self.KIND, metric_type='IP', params=settings)
            self.client.create_collection('people', schema=schema, index_params=index)
        self.client.load_collection('people')

    def add(self, numbers, features, cameras, begin) -> None:
        values = zip(numbers.tolist(), features, cameras.tolist(), begin.tolist(), strict=True)
        rows = [{'id': n, 'feature': f, 'camera': c, 'begin': b} for n, f, c, b in values]
        for start in range(0, len(rows), 4096):
            self.client.insert('people', rows[start : start + 4096])

    def build(self) -> None:
        self.client.flush('people')

    def nearest(self, query, narrow) -> list[int]:
        chosen = f'camera in {list(NARROW.cameras)} and begin < {NARROW.end}' if narrow else ''
        settings = {'params': {'ef': 128}}
        (hits,) = self.client.search(
            'people', data=[query], limit=TOP, filter=chosen, search_params=settings
        )
        return [hit['id'] for hit in hits]

    def count(self) -> int:
        rows = self.client.query('people', filter='id >= 0', output_fields=['count(*)'])
        return rows[0]['count(*)']


class MilvusGraph(Milvus):
    """The same with HNSW."""

    KIND = 'HNSW'


class Qdrant:
    """qdrant-client's local mode, which speaks to a server in the same way."""

    def __init__(self, folder: Path, make: bool) -> None:
        from qdrant_client import QdrantClient, models

        self.models, self.client = models, QdrantClient(path=str(folder))
        if make:
            vectors = models.VectorParams(size=WIDTH, distance=models.Distance.DOT)
            self.client.create_collection('people', vectors_config=vectors)

    def add(self, numbers, features, cameras, begin) -> None:
        known = zip(cameras.tolist(), begin.tolist(), strict=True)
        batch = self.models.Batch(
            ids=numbers.tolist(),
            vectors=features.tolist(),
            payloads=[{'camera': c, 'begin': b} for c, b in known],
        )
        self.client.upsert('people', batch)

    def build(self) -> None:
        pass  # it compares all, always

    def nearest(self, query, narrow) -> list[int]:
        m = self.models
        cameras = m.FieldCondition(key='camera', match=m.MatchAny(any=list(NARROW.cameras)))
        early = m.FieldCondition(key='begin', range=m.Range(lt=NARROW.end))
        chosen = m.Filter(must=[cameras, early]) if narrow else None
        found = self.client.query_points(
            'people', query=query.tolist(), limit=TOP, query_filter=chosen
        )
        return [point.id for point in found.points]

    def count(self) -> int:
        return self.client.count('people').count


class QdrantEdge:
    """qdrant-edge-py: Qdrant's storage in a process; its interface is not the server's."""

    def __init__(self, folder: Path, make: bool) -> None:
        import qdrant_edge as edge

        self.edge = edge
        if make:
            vectors = edge.EdgeVectorParams(size=WIDTH, distance=edge.Distance.Dot)
            self.shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=vectors))
        else:
            self.shard = edge.EdgeShard.load(str(folder))

    def add(self, numbers, features, cameras, begin) -> None:
        values = zip(
            numbers.tolist(), features.tolist(), cameras.tolist(), begin.tolist(), strict=True
        )
        points = [self.edge.Point(n, f, {'camera': c, 'begin': b}) for n, f, c, b in values]
        self.shard.update(self.edge.UpdateOperation.upsert_points(points))

    def build(self) -> None:
        self.shard.flush()
        self.shard.optimize()

    def nearest(self, query, narrow) -> list[int]:
        e = self.edge
        cameras = e.FieldCondition(key='camera', match=e.MatchAny(any=list(NARROW.cameras)))
        early = e.FieldCondition(key='begin', range=e.RangeFloat(lt=float(NARROW.end)))
        chosen = e.Filter(must=[cameras, early]) if narrow else None
        asked = e.QueryRequest(limit=TOP, query=e.Query.Nearest(query.tolist()), filter=chosen)
        return [point.id for point in self.shard.query(asked)]

    def count(self) -> int:
        return self.shard.count(self.edge.CountRequest(exact=True))


CANDIDATES: dict[str, type[Candidate]] = {
    'Milvus Lite, FLAT': Milvus,
    'Milvus Lite, HNSW': MilvusGraph,
    'Qdrant, local mode': Qdrant,
    'Qdrant Edge, HNSW': QdrantEdge,
}


def parts(count: int):
    """Numbers, features, cameras and moments of the images, some at a time."""
    for number, start in enumerate(range(0, count, ROWS)):
        block = make_block(number, min(ROWS, count - start))
        numbers = np.arange(start, start + len(block.features))
        yield numbers, block.features, block.cameras, block.begin


def measure_candidate(name: str, folder: str, count: int, queries: int) -> dict[str, Any]:
    """Fill and search a candidate; gives seconds, bytes and recall."""
    place = Path(folder)
    place.mkdir(parents=True)
    asked = Nearest(make_queries(ROWS, queries)), Nearest(make_queries(ROWS, queries))
    before = resident_bytes()
    reset_peak()
    database, adding = CANDIDATES[name](place, True), 0.0
    for numbers, features, cameras, begin in parts(count):
        began = time.perf_counter()
        database.add(numbers, features, cameras, begin)
        adding += time.perf_counter() - began
        chosen = NARROW.mask(cameras, lambda name, b=begin: b, None)
        asked[0].see(numbers, features)
        asked[1].see(numbers[chosen], features[chosen])
    began = time.perf_counter()
    database.build()
    result = {'adding': adding, 'building': time.perf_counter() - began}
    for exact, narrow in zip(asked, (False, True), strict=True):
        database.nearest(exact.queries[0], narrow)
        began = time.perf_counter()
        found = [database.nearest(query, narrow) for query in exact.queries]
        kind = 'narrow' if narrow else 'all'
        result[kind] = (time.perf_counter() - began) / len(found)
        result[f'{kind}_recall'] = exact.recall(found)
    result |= {'memory': peak_bytes() - before, 'disk': disk_bytes(place)}
    return result


def measure_kill(name: str, folder: str) -> tuple[int, int]:
    """Kill a candidate while it adds: how many images it had confirmed, how many are there."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, '-m', 'benchmarks.measure.databases', name, folder],
        stdout=subprocess.PIPE,
        text=True,
    )
    confirmed = 0
    for line in process.stdout:
        if line.strip().isdigit():
            confirmed = int(line)
        if confirmed == KILLED_AFTER:
            os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return confirmed, CANDIDATES[name](Path(folder), False).count()


def add_until_killed(name: str, folder: str) -> None:
    """Add images, and say after each call how many are confirmed."""
    database = CANDIDATES[name](Path(folder), True)
    for numbers, features, cameras, begin in parts(10 * KILLED_AFTER):
        for start in range(0, len(numbers), KILLED_ROWS):
            part = slice(start, start + KILLED_ROWS)
            database.add(numbers[part], features[part], cameras[part], begin[part])
            print(int(numbers[part][-1]) + 1, flush=True)


if __name__ == '__main__':
    add_until_killed(*sys.argv[1:])
