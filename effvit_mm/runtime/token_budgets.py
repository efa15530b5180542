"""How many tokens the blocks of a network that drops tokens have room for.

A graph has the same rows for every image. How many an image keeps depends on the weights and on the
image, so the room that pays is found with images like those that the network is for.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ..attention import Sampled
from ..attention.e_attention import TokenSamplingAttention
from ..errors import ConfigError


def token_budgets(network: nn.Module) -> list[int | None]:
    """The budget of each block that drops tokens, in their order; None where it has none."""
    return [mechanism.budget for mechanism in _samplers(network)]


@torch.no_grad()
def set_token_budgets(
    network: nn.Module, images: Iterable[Tensor | np.ndarray], share: float = 0.75
) -> list[int]:
    """Let each block that drops tokens keep as many as it does of most images, and no more.

    Of an image that would keep more, the least significant tokens are left out too: in PyTorch and
    in graphs that are made from then on, with the same result. Other images change nothing.

    Args:
        network: In evaluation, deployed or not. Its budgets are replaced.
        images: Batches ``(B, 3, H, W)``, normalised, float32, of the size that graphs are made for.
        share: Part of the images that a block has room for, above 0 and up to 1.

    Returns:
        The budgets in patch tokens, in the blocks' order.

    Raises:
        ConfigError: The network drops no tokens; there are no images; ``share`` is out of range.
    """
    if not 0 < share <= 1:
        raise ConfigError(f'share={share!r}: above 0 and up to 1 is needed')
    samplers = _samplers(network)
    if not samplers:
        raise ConfigError('token budgets: the network has no block that drops tokens')
    counts: dict[TokenSamplingAttention, list[Tensor]] = {mechanism: [] for mechanism in samplers}

    def count(mechanism: TokenSamplingAttention, args: tuple, out: Sampled) -> None:
        counts[mechanism].append(out.tokens.valid.sum(1))

    hooks = [mechanism.register_forward_hook(count) for mechanism in samplers]
    try:
        for mechanism in samplers:
            mechanism.budget = None
        for batch in images:
            network(torch.as_tensor(batch))
    finally:
        for hook in hooks:
            hook.remove()
    budgets = []
    for mechanism, kept in counts.items():
        if not kept:
            raise ConfigError('images: there are none to find token budgets with')
        most = torch.cat(kept).float().quantile(share, interpolation='higher')
        mechanism.budget = max(int(most), 1)
        budgets.append(mechanism.budget)
    return budgets


def _samplers(network: nn.Module) -> list[TokenSamplingAttention]:
    """Mechanisms that drop tokens, in the network's order."""
    return [m for m in network.modules() if isinstance(m, TokenSamplingAttention) and m.sample]
