"""Person re-identification: data, model, losses, evaluation, search; torchreid behind one adapter.

Names are imported when they are asked for: evaluating features needs no OpenMMLab, training no
FAISS, and nothing here torchreid, but for its adapter.
"""

from importlib import import_module

_PLACES = {
    'AverageFeatureTTA': 'tta',
    'CircleLoss': 'losses',
    'ConcatReID': 'datasets',
    'Gallery': 'search',
    'PKSampler': 'sampler',
    'ReIDDataset': 'datasets',
    'ReIDFeatures': 'features',
    'ReIDMetric': 'metric',
    'ReIDModel': 'model',
    'ReIDResults': 'ranking',
    'TripletLoss': 'losses',
    'evaluate': 'ranking',
    'register_torchreid': 'torchreid',
}

__all__ = list(_PLACES)


def __getattr__(name: str):
    """Import the module that has the name."""
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_PLACES[name]}'), name)
