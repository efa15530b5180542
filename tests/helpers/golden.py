"""Reference values of the published implementations, and the rule that makes their weights.

A fixture is one ``.npz`` file. It holds no weights: both sides rebuild them from the
parameter's name with :func:`golden_tensor`, so the file stays small. What it holds:

``spec``      JSON: ``{"keys": [[name, shape], ...], "inputs": {...}, "note": "..."}``
``out/NAME``  an output of the published code, whole where it is small
``at/NAME``   flat indices (int64) and ``val/NAME`` the values there, where it is large
``sum/NAME``  mean, standard deviation, minimum and maximum of the whole output

Compare with :func:`check`, which raises ``AssertionError`` and names the output that differs.
"""

import json
import zlib

import numpy as np

SAMPLES = 512


def golden_tensor(name, shape):
    """The weight called ``name``: float32, a function of its name and shape alone."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    noise = rng.standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if name.endswith('running_var'):
        return (1 + 0.2 * np.abs(noise)).astype(np.float32)
    if name.endswith(('running_mean', 'bias')):
        return (0.1 * noise).astype(np.float32)
    if len(shape) == 1:  # scales of normalisation layers
        return (1 + 0.1 * noise).astype(np.float32)
    fan_in = int(np.prod(shape[1:])) or 1
    return (noise / np.sqrt(fan_in)).astype(np.float32)


def golden_input(seed, shape):
    """An input of standard normal values: float32, a function of seed and shape alone."""
    return np.random.RandomState(seed).standard_normal(tuple(shape)).astype(np.float32)


def golden_state(keys):
    """``{name: array}`` for ``[[name, shape], ...]``, under the published names."""
    return {name: golden_tensor(name, shape) for name, shape in keys}


def save(path, keys, inputs, outputs, note):
    """Write a fixture. ``outputs`` maps a name to an array."""
    arrays = {'spec': np.array(json.dumps({'keys': keys, 'inputs': inputs, 'note': note}))}
    for name, value in outputs.items():
        value = np.asarray(value)
        if value.size <= 8192 or value.dtype.kind in 'iub':
            arrays[f'out/{name}'] = value
        else:
            at = (
                np.random.RandomState(7).choice(value.size, SAMPLES, replace=False).astype(np.int64)
            )
            arrays[f'at/{name}'] = at
            arrays[f'val/{name}'] = value.reshape(-1)[at]
            arrays[f'shape/{name}'] = np.array(value.shape)
            arrays[f'sum/{name}'] = np.array(
                [value.mean(), value.std(), value.min(), value.max()], np.float64
            )
    np.savez_compressed(path, **arrays)


def load(path):
    """``(spec, arrays)`` of a fixture."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return json.loads(str(arrays.pop('spec'))), arrays


def check(arrays, name, value, rtol=1e-4, atol=1e-4):
    """Compare an output of yours with the fixture's ``name``; the largest difference, or raise."""
    value = np.asarray(value)
    if f'out/{name}' in arrays:
        want, got = arrays[f'out/{name}'], value
    else:
        assert tuple(arrays[f'shape/{name}']) == value.shape, (
            f'{name}: shape {value.shape}, the reference has {tuple(arrays[f"shape/{name}"])}'
        )
        want, got = arrays[f'val/{name}'], value.reshape(-1)[arrays[f'at/{name}']]
    assert want.shape == got.shape, f'{name}: shape {got.shape}, the reference has {want.shape}'
    scale = max(float(np.abs(want).max()), 1e-12)
    worst = float(np.abs(want.astype(np.float64) - got).max())
    assert worst <= atol + rtol * scale, (
        f'{name}: largest difference {worst:.3g}, values up to {scale:.3g}'
    )
    return worst
