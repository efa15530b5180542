"""All that touches mmengine, mmcv, mmpretrain and mmdet."""

from . import registry as _registry  # noqa: F401  first: it says what brings mmengine
