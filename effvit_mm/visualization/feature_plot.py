"""Features of people in the plane: PCA or t-SNE, by scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..utils.files import written_atomically

METHODS = ('pca', 'tsne')
PERPLEXITY = 30.0
NAMED = 20  # persons in the legend, and colours that differ
MARKERS = 'osD^v<>pP*Xh'


def project(features: np.ndarray, method: str, seed: int = 0) -> np.ndarray:
    """Features ``(N, D)`` to ``(N, 2)``; their lengths, which search ignores, do not count.

    Raises:
        ConfigError: An unknown method.
        DataError: Fewer than three features.
    """
    if method not in METHODS:
        raise ConfigError(f'method={method!r}: allowed are {", ".join(METHODS)}')
    if len(features) < 3:
        raise DataError(f'{len(features)} features: three or more are needed for a picture')
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    if method == 'pca':
        from sklearn.decomposition import PCA

        return PCA(2, random_state=seed).fit_transform(unit)
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init='pca', random_state=seed).fit_transform(unit)


def most_seen(pids: np.ndarray, people: int) -> np.ndarray:
    """Rows of the ``people`` persons with most images, in their order; unknown ones (-1) never."""
    known, counts = np.unique(pids[pids >= 0], return_counts=True)
    chosen = known[np.argsort(-counts, kind='stable')[:people]]
    return np.flatnonzero(np.isin(pids, chosen))


def draw_features(
    points: np.ndarray, pids: np.ndarray, camids: np.ndarray, title: str, path: str | Path
) -> None:
    """Draw points ``(N, 2)``, a colour for each person and a marker for each camera, as PNG."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6), layout='constrained')
    axis = figure.subplots()
    persons = np.unique(pids)
    palette = colormaps['tab20' if len(persons) <= NAMED else 'hsv']
    for number, pid in enumerate(persons):
        place = number % NAMED if len(persons) <= NAMED else number / len(persons)
        for camera in np.unique(camids[pids == pid]):
            shown = (pids == pid) & (camids == camera)
            first = camera == camids[pids == pid].min()
            axis.scatter(
                *points[shown].T,
                color=palette(place),
                marker=MARKERS[camera % len(MARKERS)],
                s=22,
                label=f'person {pid}' if first and len(persons) <= NAMED else None,
            )
    if len(persons) <= NAMED:
        axis.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1, 0.5))
    axis.set(title=title, xticks=[], yticks=[])
    with written_atomically(path) as temporary:
        figure.savefig(temporary, format='png', dpi=110)
