"""ONNX files that name other files for their weights: they are refused before a runtime opens them.

onnxruntime before 1.24 (the last for Python 3.10 is 1.23) and OpenVINO before 2026.2 read files
outside the model's folder where the model names them, OpenVINO through links alone. What
:func:`export_onnx` writes has all inside.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from .graph import ExportError

# Messages of onnx.proto that hold tensors: {field number: what is in it}.
FIELDS = {
    'model': {7: 'graph', 20: 'training', 25: 'function'},
    'training': {1: 'graph', 2: 'graph'},
    'graph': {1: 'node', 5: 'tensor', 15: 'sparse'},
    'function': {7: 'node', 11: 'attribute'},
    'node': {5: 'attribute'},
    'attribute': {5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse'},
    'sparse': {1: 'tensor', 2: 'tensor'},
}
NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14  # of a tensor
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # of protobuf


def check_weights_inside(path: str | Path) -> None:
    """Raise where a tensor of an ONNX file lies in another file.

    Args:
        path: The file; what is no protobuf is left to the runtime, which says so.

    Raises:
        ExportError: It names other files.
        OSError: It cannot be read.
    """
    with open(path, 'rb') as file:
        if not Path(path).stat().st_size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            name = next(_outside(content, 'model', 0, len(content)), None)
    if name is not None:
        raise ExportError(
            f'{path}: the weights of {name!r} are in another file, which could be any file of this '
            'machine, so it was refused; if they are yours, put them inside with '
            'onnx.save(onnx.load(path), path)'
        )


def _outside(content: mmap.mmap, kind: str, start: int, end: int) -> Iterator[str]:
    """Names of the tensors of a message whose values are outside the file."""
    name, outside = '', False
    for field, wire, first, last in _fields(content, start, end):
        if kind == 'tensor':
            if field == NAME and wire == BYTES:
                name = content[first:last].decode('utf-8', 'replace')
            outside |= field == EXTERNAL_DATA or (field == DATA_LOCATION and first != 0)
        elif wire == BYTES and field in FIELDS[kind]:
            yield from _outside(content, FIELDS[kind][field], first, last)
    if outside:
        yield name


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, wire type, and where its bytes are; of a varint its value."""
    while start < end:
        tag, start = _varint(content, start, end)
        wire = tag & 7
        if wire == VARINT:
            value, start = _varint(content, start, end)
            yield tag >> 3, wire, value, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == BYTES:
            size, start = _varint(content, start, end)
        if size is None or start + size > end:
            return  # no protobuf, or cut short
        yield tag >> 3, wire, start, start + size
        start += size


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while start < end:
        byte = content[start]
        value |= (byte & 127) << shift
        start += 1
        if byte < 128:
            return value, start
        shift += 7
        if shift > 63:
            break  # no protobuf
    return value, end
