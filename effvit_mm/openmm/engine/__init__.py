"""Training and testing: a runner that resumes exactly, its hooks, bfloat16 on the CPU."""

from .castling_hook import MaskedSoftmaxHook
from .checkpoint_hook import CheckpointHook
from .hooks import NonFiniteLossHook, RecordHook, ReseedHook, ValidateOnResumeHook
from .optim import CPUAmpOptimWrapper
from .param_groups import LayerDecayOptimWrapperConstructor, MergedOptimWrapperConstructor
from .runner import Runner
from .testing import DrawPredictionsHook

__all__ = [
    'CPUAmpOptimWrapper',
    'CheckpointHook',
    'DrawPredictionsHook',
    'LayerDecayOptimWrapperConstructor',
    'MaskedSoftmaxHook',
    'MergedOptimWrapperConstructor',
    'NonFiniteLossHook',
    'RecordHook',
    'ReseedHook',
    'Runner',
    'ValidateOnResumeHook',
]
