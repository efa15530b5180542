"""CrossViT's multi-scale block: transformer blocks of two branches, and the exchange between them.

Chen, Fan, Panda, "CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image
Classification", ICCV 2021, arXiv 2103.14899, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from ..attention import CrossAttention
from .transformer import Block, LayerNorm, Tokens, run_block

BRANCHES = (0, 1)


def token_projection(dim: int, out_dim: int) -> nn.Sequential:
    """Take a class token to the other branch's width, f or g of the paper's equation 5."""
    return nn.Sequential(LayerNorm(dim), nn.GELU(), nn.Linear(dim, out_dim))


class Fusion(nn.Module):
    """A branch's class token collects from the other branch's patches (equations 3 to 5, figure 4).

    It goes over to the other branch's width, attends there, and comes back. There is a residual
    around the attention, none around the whole.

    Shapes:
        cls: ``(B, 1, dim)``, the branch's own class token; other: ``(B, 1 + M, other_dim)``; valid:
        ``(B, 1 + M)``, False where a row of ``other`` is padding, or None. Returns ``(B, 1, dim)``.
    """

    def __init__(self, dim: int, other_dim: int, num_heads: int, drop_path: float) -> None:
        super().__init__()
        self.project = token_projection(dim, other_dim)
        self.norm = LayerNorm(other_dim)
        self.attn = CrossAttention(other_dim, num_heads)
        self.revert = token_projection(other_dim, dim)
        self.drop_path = StochasticDepth(drop_path, 'row')

    def forward(self, cls: Tensor, other: Tensor, valid: Tensor | None = None) -> Tensor:
        cls = self.project(cls)
        tokens = self.norm(torch.cat((cls, other[:, 1:]), 1))
        return self.revert(cls + self.drop_path(self.attn(tokens, valid)))


class MultiScaleStage(nn.Module):
    """One multi-scale block: transformer blocks in each branch, then the exchange (figure 2).

    Args:
        dims: Widths of the branches.
        depths: Transformer blocks of the branches; 0 where a branch ends before this stage.
        fused: Branches whose class token is renewed at the end.
        num_heads, mlp_ratio, attention: Of both branches' blocks.
        drop_rates: Stochastic depth of the blocks: S takes the first, the exchange the last.
        windows: For each branch the ``window_size`` of its blocks.
    """

    def __init__(
        self,
        dims: Sequence[int],
        depths: Sequence[int],
        fused: Sequence[int],
        num_heads: int,
        mlp_ratio: float,
        attention: Mapping | None,
        drop_rates: Sequence[float],
        windows: Sequence[Sequence[int | None]],
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(
                    Block(dims[b], num_heads, mlp_ratio, drop_rates[i], attention, windows[b][i])
                    for i in range(depths[b])
                )
            )
            for b in BRANCHES
        )
        self.fusions = nn.ModuleDict(
            {str(b): Fusion(dims[b], dims[1 - b], num_heads, drop_rates[-1]) for b in fused}
        )

    def __len__(self) -> int:
        """Layers one after another: the blocks of the deeper branch, and the exchange."""
        return max(map(len, self.blocks)) + bool(self.fusions)

    def forward(self, tokens: Sequence[Tokens], run: Callable, keep_dropped: bool) -> list[Tokens]:
        """Tokens of the branches to the same behind the stage; ``run(block, *args)`` runs a block.

        ``keep_dropped``: keep the last features of tokens that a mechanism drops.
        """
        tokens = list(tokens)
        for b in BRANCHES:
            for block in self.blocks[b]:
                tokens[b] = run_block(block, tokens[b], run, keep_dropped)
        fused = list(tokens)  # both directions read the tokens from before the exchange
        for name, fusion in self.fusions.items():
            own, other = tokens[int(name)], tokens[1 - int(name)]
            cls = run(fusion, own.x[:, :1], other.x, other.valid())
            fused[int(name)] = own._replace(x=torch.cat((cls, own.x[:, 1:]), 1))
        return fused
