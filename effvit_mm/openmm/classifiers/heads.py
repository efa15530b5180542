"""Our heads as mmpretrain's: it brings losses, accuracy and predictions, they the layers.

Each takes its layers' arguments and those of mmpretrain's ``ClsHead`` (``loss``, ``topk``,
``cal_acc``, ``init_cfg``). They pool maps and join class tokens themselves, so no neck is needed.
"""

from __future__ import annotations

from mmpretrain.models.heads import ClsHead

from ...heads import DistilledHeads, LeViTHead, LinearHead, TokenHeads
from ..registry import MODELS


@MODELS.register_module()
class LinearClsHead(LinearHead, ClsHead):
    """See :class:`effvit_mm.heads.LinearHead`."""


@MODELS.register_module()
class TokenClsHead(TokenHeads, ClsHead):
    """See :class:`effvit_mm.heads.TokenHeads`."""


@MODELS.register_module()
class DistilledClsHead(DistilledHeads, ClsHead):
    """See :class:`effvit_mm.heads.DistilledHeads`."""


@MODELS.register_module()
class LeViTClsHead(LeViTHead, ClsHead):
    """See :class:`effvit_mm.heads.LeViTHead`. mmpretrain's own refuses to train."""
