"""What mmengine imports when it meets the scope ``effvit_mm``: :mod:`.openmm.registry`."""

from .openmm.registry import *  # noqa: F403
from .openmm.registry import __all__  # noqa: F401
