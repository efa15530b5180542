"""Registries of this package, children of mmengine's.

``dict(type='effvit_mm.PSLT')`` builds from mmengine, mmpretrain and mmdet configs without
``custom_imports``: mmengine imports this module when it meets the scope. Backbones are registered
in mmengine's root too, where the unprefixed ``dict(type='PSLT')`` finds them; a class of the same
name in mmpretrain or mmdet keeps precedence there.
"""

import sys
from importlib import import_module
from importlib.util import find_spec

from ..errors import MissingPackageError, tell_missing_packages

try:
    from mmengine import registry as root
    from mmengine.registry import Registry
except ModuleNotFoundError as error:
    if error.name != 'mmengine':
        raise
    tell_missing_packages()
    raise MissingPackageError(
        "effvit_mm needs mmengine: `pip install 'effvit-mm[openmm]'` brings the OneDL "
        "distributions; OpenMMLab's own packages work too",
        name='mmengine',
    ) from error

SCOPE = 'effvit_mm'


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=list(locations))


class _DetectionRegistry(Registry):
    """Imports ``module`` when one of its classes, ``names``, is asked for.

    It needs mmdet, which takes seconds.
    """

    def __init__(self, name: str, module: str, names: tuple[str, ...], **kwargs) -> None:
        super().__init__(name, scope=SCOPE, **kwargs)
        self.module, self.names = module, names

    def get(self, key: str) -> type | None:
        """The class of this name, or None."""
        if find_spec('mmdet') and (
            'mmdet.datasets' in sys.modules or key.rpartition('.')[2] in self.names
        ):
            import_module(self.module)
        return super().get(key)


# Detection goes without mmpretrain.
_CLASSIFIERS = ['effvit_mm.openmm.classifiers'] if find_spec('mmpretrain') else []
_REID = [f'effvit_mm.openmm.reid.{n}' for n in ('model', 'losses', 'tta', 'torchreid_backbone')]
_LAYERS = ('effvit_mm.openmm.backbones', 'effvit_mm.openmm.necks')
MODELS = _child('model', root.MODELS, *_LAYERS, *_CLASSIFIERS, *_REID)
# By module: a hook can be looked up without the runner being loaded.
_ENGINE = 'effvit_mm.openmm.engine'
RUNNERS = _child('runner', root.RUNNERS, f'{_ENGINE}.runner')
HOOKS = _child(
    'hook',
    root.HOOKS,
    *(f'{_ENGINE}.{name}' for name in ('hooks', 'checkpoints', 'castling_hook', 'testing')),
)
OPTIM_WRAPPERS = _child('optim_wrapper', root.OPTIM_WRAPPERS, f'{_ENGINE}.optim')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, f'{_ENGINE}.optim'
)
DATASETS = _DetectionRegistry(
    'dataset',
    'effvit_mm.openmm.datasets.detection',
    (
        'CocoDataset',
        'CocoFolder',
        'DigitScenes',
        'VOCDataset',
        'WalkerScenes',
        'XMLDataset',
        'YoloFolder',
    ),
    parent=root.DATASETS,
    locations=['effvit_mm.openmm.datasets', 'effvit_mm.openmm.reid.datasets'],
)
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'effvit_mm.openmm.reid.sampler')
METRICS = _DetectionRegistry(
    'metric',
    'effvit_mm.openmm.metrics',
    ('CocoMetric', 'FasterCocoMetric', 'VOCMetric'),
    parent=root.METRICS,
    locations=['effvit_mm.openmm.reid.metric'],
)
TRANSFORMS = _child('transform', root.TRANSFORMS, 'effvit_mm.openmm.datasets')


__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'RUNNERS',
    'SCOPE',
    'TRANSFORMS',
]
