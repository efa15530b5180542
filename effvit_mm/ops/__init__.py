"""mmcv's compiled operators on top of torchvision.

A plain ``pip install onedl-mmcv`` has no compiled module ``mmcv._ext``, so that ``mmcv.ops`` and
with it most of mmdet cannot be used. Importing this package makes ``mmcv._ext`` importable: its
operators run on torch and torchvision, on the CPU and on CUDA, and give the numbers of the
compiled ones. Where a compiled ``mmcv._ext`` exists, that one is used.

``python -m effvit_mm.ops`` says which operator comes from where.

Nothing but the finder is loaded here: torchvision and the operators follow when ``mmcv._ext`` is
imported.
"""

from .finder import install

__all__ = ['install']

install()
