"""Data files changed: their bytes, or their values with lengths and checksums made right again."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .configs import Mutation, mutate

BYTES = ('cut', 'flipped', 'filled', 'doubled', 'empty')
HUGE = (2**31, 2**63, 10**30, -(2**40), 1e308)
WORDS = ('0', '-1', '1e9', 'nan', 'x', '', '9' * 25, '0.5 0.5', '\u00e9', '\x00')
Changed = tuple[str, tuple[str, ...]]


def change_bytes(path: Path, draw: random.Random) -> str:
    """Cut, flip, fill, double or empty a file."""
    content, kind = bytearray(path.read_bytes()), draw.choice(BYTES)
    place = draw.randrange(max(len(content), 1))
    if kind == 'cut':
        del content[place:]
    elif kind == 'flipped':
        for _ in range(draw.choice((1, 3, 20))):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == 'filled':
        end = min(len(content), place + draw.choice((1, 8, 300)))
        content[place:end] = bytes(draw.choice((0, 255)) for _ in range(end - place))
    elif kind == 'doubled':
        content += content[place:]
    else:
        content = bytearray()
    path.write_bytes(content)
    return f'{path.name}: {kind} at {place}'


def change_json(path: Path, draw: random.Random) -> str:
    """Change one value of a JSON file, or its bytes."""
    if draw.random() < 0.25:
        return change_bytes(path, draw)
    data = json.loads(path.read_text())
    mutation = change_value(data, draw)
    path.write_text(json.dumps(data))
    return f'{path.name}: {mutation}'


def change_text(path: Path, draw: random.Random) -> str:
    """Change a word of a text file, or its bytes."""
    text = path.read_text()
    if draw.random() < 0.3:
        return change_bytes(path, draw)
    words = text.replace('<', ' <').replace('>', '> ').split(' ')
    place = draw.randrange(len(words))
    before, words[place] = words[place], draw.choice(WORDS)
    path.write_text(' '.join(words))
    return f'{path.name}: {before.strip()!r:.40} -> {words[place]!r:.40}'


def change_one(pattern: str, change: Callable[[Path, random.Random], str]) -> Callable:
    """Change one of the files that fit."""

    def call(draw: random.Random) -> Changed:
        path = draw.choice(sorted(Path().glob(pattern)))
        return change(path, draw), (path.name, str(path))

    return call


def change_name(draw: random.Random) -> Changed:
    """Rename one of the pictures of a set of persons, or a folder of them, or take it away."""
    path = draw.choice(sorted(Path('data').glob('*/*.png')))
    words = ('-1', '0', '99999999999999999999', 'x', '', '\u0663', '0001')
    kind = draw.choice(('person', 'camera', 'any', 'folder', 'gone'))
    if kind == 'gone':
        shutil.rmtree(path.parent)
        return f'{path.parent} gone', (path.parent.name, 'data')
    if kind == 'folder':
        path.parent.rename(path.parent.with_name(draw.choice(('quary', 'Query', '.query'))))
        return f'{path.parent} renamed', (path.parent.name, 'data')
    pid, rest = path.name.split('_', 1)
    word = draw.choice(words)
    name = {
        'person': f'{word}_{rest}', 'camera': f'{pid}_c{word}s1_{rest[5:]}', 'any': f'{word}.png'
    }[kind]  # fmt: skip
    path.rename(path.with_name(name))
    return f'{path} -> {name}', (path.name, name, path.parent.name, 'data')


# Of containers ----------------------------------------------------------------------------------


def change_value(data: Any, draw: random.Random) -> Mutation:
    """Change a place of plain data, sometimes to a huge number."""
    mutation = mutate(data, draw)
    if mutation.kind == 'out of range' and draw.random() < 0.5:
        holder: Any = data
        for key in mutation.path[:-1]:
            holder = holder[key]
        holder[mutation.path[-1]] = draw.choice(HUGE)
        mutation = mutation._replace(after=holder[mutation.path[-1]])
    return mutation


def change_zip(path: Path, draw: random.Random) -> str:
    """Change a part of a ZIP file of JSON texts and arrays; the checksums are right again."""
    if draw.random() < 0.25:
        return change_bytes(path, draw)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = draw.choice(sorted(parts))
    if draw.random() < 0.1:
        del parts[name]
        said = 'gone'
    elif name.endswith('.json'):
        data = [json.loads(parts[name])]
        said = str(change_value(data, draw))
        parts[name] = json.dumps(data[0] if data else None).encode()
    elif name.endswith('.npy'):
        parts[name], said = changed_array(parts[name], draw)
    else:
        place = draw.randrange(len(parts[name]))
        parts[name], said = parts[name][:place], f'cut at {place}'
    with zipfile.ZipFile(path, 'w') as archive:
        for key, content in parts.items():
            archive.writestr(key, content)
    return f'{path.name}/{name}: {said}'


def changed_array(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """An array of another type or shape, or one whose head tells of more than there is."""
    values = np.load(io.BytesIO(content), allow_pickle=False)
    other = {
        'texts': lambda: values.astype('U'),
        'float64': lambda: np.zeros(values.shape),
        'uint8': lambda: np.zeros(values.shape, np.uint8),
        'one more dimension': lambda: values[None],
        'flat': lambda: values.reshape(-1),
        'a row less': lambda: values[:-1] if values.ndim else values,
        'nothing': lambda: values.reshape(-1)[:0],
        'complex': lambda: np.zeros(values.shape, np.complex64),
        'huge numbers': lambda: np.full(values.shape, 2**62),
    }
    kind = draw.choice([*other, 'huge shape'])
    if kind != 'huge shape':
        file = io.BytesIO()
        np.save(file, other[kind]())
        return file.getvalue(), kind
    file = io.BytesIO()
    head = {'descr': '<f4', 'fortran_order': False, 'shape': (2**40, 8)}
    np.lib.format.write_array_header_1_0(file, head)
    return file.getvalue() + bytes(64), kind


def change_safetensors(path: Path, draw: random.Random) -> str:
    """Change the JSON head of a safetensors file, whose length is right again; or its bytes."""
    if draw.random() < 0.3:
        return change_bytes(path, draw)
    content = path.read_bytes()
    (length,) = struct.unpack('<Q', content[:8])
    head = json.loads(content[8 : 8 + length])
    said = change_value(head, draw)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + content[8 + length :])
    return f'{path.name}: {said}'


def change_checkpoint(path: Path, draw: random.Random) -> str:
    """Change what a PyTorch file holds; or its bytes."""
    if draw.random() < 0.3:
        return change_bytes(path, draw)
    content = torch.load(path, weights_only=True)
    content['state_dict'] = dict(content['state_dict'])
    if draw.random() < 0.4:
        name = draw.choice(sorted(content['state_dict']))
        value = content['state_dict'][name]
        other = {
            'half': value.half(), 'integers': value.long(), 'another shape': value.flatten()[:-1],
            'nothing': value.flatten()[:0], 'no numbers': torch.full_like(value, float('nan')),
            'expanded': torch.zeros(1).expand(2**20, 2**10), 'a number': 3,
            'complex': value.to(torch.complex64),
        }  # fmt: skip
        kind = draw.choice(sorted(other))
        content['state_dict'][name], said = other[kind], f'{name}: {kind}'
    else:
        said = str(mutate(content, draw))
    torch.save(content, path)
    return f'{path.name}: {said}'


def change_parquet(path: Path, draw: random.Random) -> str:
    """Change a column, or the head, of a table; or its bytes."""
    if draw.random() < 0.5:
        return change_bytes(path, draw)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    head = dict(table.schema.metadata)
    rows = table.num_rows
    if draw.random() < 0.4:
        key = next(key for key in head if b'effvit' in key)
        data = [json.loads(head[key])]
        said = str(change_value(data, draw))
        table = table.replace_schema_metadata({key: json.dumps(data[0] if data else None)})
    else:
        name = draw.choice(table.column_names)
        other = {
            'texts': pa.array(['x'] * rows), 'missing': pa.array([None] * rows, pa.int64()),
            'lists': pa.array([[1.0, 2.0]] * rows), 'uneven': pa.array([[1.0]] + [[]] * (rows - 1)),
            'float64': pa.array([0.5] * rows), 'huge': pa.array([2**62] * rows),
        }  # fmt: skip
        kind = draw.choice([*other, 'gone'])
        said = f'{name}: {kind}'
        place = table.column_names.index(name)
        table = table.remove_column(place)
        if kind != 'gone':
            table = table.add_column(place, name, other[kind])
        table = table.replace_schema_metadata(head)
    pq.write_table(table, path)
    return f'{path.name}: {said}'
