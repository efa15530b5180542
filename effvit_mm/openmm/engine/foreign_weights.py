"""Weights that other packages' modules ask mmengine for: ``init_cfg`` of mmdet's ResNet, say.

mmengine's own reader unpickles what it could not read as weights alone.
"""

from __future__ import annotations

from mmengine.runner import CheckpointLoader

from ...weights import read_checkpoint

PREFIXES = ('', 'http://', 'https://')


def read_foreign_weights(trust: bool) -> None:
    """Have mmengine's ``CheckpointLoader`` read files and addresses by our reader from now on.

    Args:
        trust: Unpickle whatever a file holds, which can run code.
    """

    def load_from_data(filename: str, map_location: str | None = None) -> dict:
        return read_checkpoint(filename, trust=trust, map_location=map_location or 'cpu')

    CheckpointLoader.register_scheme(PREFIXES, load_from_data, force=True)
