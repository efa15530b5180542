"""The plain vision transformer as DeiT has it, with a choice of attention and token sampling.

Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021; Touvron et al., "Training
data-efficient image transformers and distillation through attention", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.mechanism import check_choice
from ..attention.sizes import is_recorded, round_up, surely_zero
from .base import Backbone, drop_path_rates, init_linear_layers
from .transformer import OUT_TYPES, Block, LayerNorm, PositionEmbedding, Tokens, run_block


class PatchEmbedding(PositionEmbedding):
    """Image to tokens: extra tokens first, positions added, for any image size.

    Args:
        dim: Width.
        patch_size: Side of a patch, in pixels.
        grid: Side of the position embeddings' square grid.
        distilled: Have a distillation token behind the class token.

    Shapes:
        x: ``(B, 3, H, W)``, zero-padded at the right and bottom to whole patches; returns
        :class:`Tokens` ``(B, extra + h * w, dim)`` of the grid (h, w).
    """

    def __init__(self, dim: int, patch_size: int, grid: int, distilled: bool) -> None:
        tokens = ('cls_token', 'dist_token') if distilled else ('cls_token',)
        super().__init__(dim, (grid, grid), tokens)
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, dim, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tokens:
        bottom, right = (round_up(side, self.patch_size) - side for side in x.shape[-2:])
        if not surely_zero(bottom, right):
            x = F.pad(x, (0, right, 0, bottom))
        x = self.proj(x)
        return Tokens(self.add_positions(x), (x.shape[2], x.shape[3]), self.num_extra_tokens)


class VisionTransformer(Backbone):
    """DeiT's transformer: one resolution, stride 16, four stages of equal depth.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, or a dict with ``embed_dims``, ``depths`` (blocks
            of the four stages), ``num_heads`` and ``mlp_ratio``.
        attention: ``dict(type='SoftmaxAttention')`` or another mechanism with its options.
        sampled_blocks: Blocks (from 0) in which a mechanism that samples tokens does so; None is
            what the mechanism's own options say, in all blocks.
        window_size: Side of the windows, in tokens, that blocks attend within, as in ViTDet; None
            is attention to the whole map in all blocks. Weights are the same either way. Not for
            mechanisms that sample tokens.
        global_blocks: With windows, the blocks (from 0) that attend to the whole map all the same;
            None is the last of each stage: ``(2, 5, 8, 11)`` of the named variants.
        distilled: Have a distillation token besides the class token.
        out_type: ``'featmap'`` returns maps ``(B, C, H/16, W/16)``, sizes rounded up; pruned cells
            hold their token's last feature. ``'cls_token'`` returns a tuple of one, the list of the
            class token (and the distillation token), each ``(B, C)``.
        out_indices: Stages whose maps are returned, of 0..3.
        final_norm: Norm the last stage's output.
        img_size: Side of the image that the position embeddings are for; others are interpolated.
        patch_size: Side of a patch in pixels, which is the stride; small images want small ones.
        drop_path_rate: Stochastic depth of the last block; rises linearly from 0.
        frozen_stages, norm_eval, with_cp: See :class:`Backbone`.

    Attributes:
        kept_tokens: After a forward pass with a sampling mechanism, for each sampling block how
            many patch tokens each image had left: ``(B,)`` counts. Graphs that are compiled or
            exported do not count.
        extra_alone: Send nothing but the extra tokens through the last block, where no more is
            returned. Multiply-adds of the papers are without it; deployment sets it.
    """

    arch_settings = {
        name: {'embed_dims': dim, 'depths': (3, 3, 3, 3), 'num_heads': heads, 'mlp_ratio': 4}
        for name, dim, heads in (('tiny', 192, 3), ('small', 384, 6), ('base', 768, 12))
    }
    extra_alone = False

    def __init__(
        self,
        arch: str | Mapping = 'small',
        attention: Mapping | None = None,
        sampled_blocks: Sequence[int] | None = None,
        distilled: bool = False,
        out_type: str = 'featmap',
        out_indices: int | Sequence[int] = -1,
        final_norm: bool = True,
        img_size: int = 224,
        patch_size: int = 16,
        drop_path_rate: float = 0.1,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        window_size: int | None = None,
        global_blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__(arch, out_indices, frozen_stages, norm_eval, with_cp)
        settings = self.settings(arch)
        dim, depths = settings['embed_dims'], settings['depths']
        if dim % settings['num_heads']:
            raise ValueError(f'num_heads={settings["num_heads"]} does not divide embed_dims={dim}')
        self.out_type = check_choice('out_type', out_type, OUT_TYPES)
        if type(patch_size) is not int or not 1 <= patch_size <= img_size:
            raise ValueError(f'patch_size={patch_size!r}: an int from 1 to img_size is needed')
        blocks, sampled = range(sum(depths)), None
        if sampled_blocks is not None:
            if attention is None or not all(i in blocks for i in sampled_blocks):
                raise ValueError(
                    f'sampled_blocks={sampled_blocks!r}: blocks are 0 to {blocks[-1]}, and an '
                    f'attention that samples tokens is needed, not {attention!r}'
                )
            sampled = iter([i in sampled_blocks for i in blocks])
        options = attention or {}
        self.min_size = 2 * patch_size
        self.window_size = window_size
        self.stem = PatchEmbedding(dim, patch_size, img_size // patch_size, distilled)
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        windows = iter(block_windows(window_size, global_blocks, depths))
        self.stages = nn.ModuleList(
            nn.ModuleList(
                Block(
                    dim,
                    settings['num_heads'],
                    settings['mlp_ratio'],
                    next(rates),
                    attention if sampled is None else {**options, 'sample': next(sampled)},
                    next(windows),
                )
                for _ in range(depth)
            )
            for depth in depths[: self.out_indices[-1] + 1]
        )
        if final_norm and len(self.stages) == self.num_maps:
            self.norm = LayerNorm(dim)
        self.token_widths = (dim,) * self.stem.num_extra_tokens
        self.kept_tokens: list[Tensor] = []
        init_linear_layers(self)
        self.finish((dim,) * 4, (patch_size,) * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | tuple[list[Tensor]]:
        """Images ``(B, 3, H, W)`` to what ``out_type`` and ``out_indices`` say."""
        self.check_input(x)
        tokens: Tokens = self.stem(x)
        dense, last = self.out_type == 'featmap', self.stages[-1][-1]
        self.kept_tokens, maps = [], []
        for i, stage in enumerate(self.stages):
            for block in stage:
                before = tokens
                extra_alone = self.extra_alone and not dense and block is last
                tokens = run_block(block, tokens, self.run_block, dense, extra_alone)
                state = None if tokens.state is before.state else tokens.state
                if state is not None and not is_recorded():
                    self.kept_tokens.append(state.valid.sum(1))  # a graph leaves none behind
            if dense and i in self.out_indices:
                maps.append(tokens.as_map(self.norm_behind(i)))
        if dense:
            return tuple(maps)
        out = self.norm_behind(len(self.stages) - 1)(tokens.x[:, : tokens.extra])
        return (list(out.unbind(1)),)


def block_windows(
    window_size: int | None, global_blocks: Sequence[int] | None, depths: Sequence[int]
) -> list[int | None]:
    """The window of each block, None where it attends to the whole map.

    Raises:
        ValueError: ``window_size`` is no positive int; ``global_blocks`` without it, or out of
            range.
    """
    count = sum(depths)
    if window_size is None:
        if global_blocks is not None:
            raise ValueError(f'global_blocks={global_blocks!r} needs a window_size')
        return [None] * count
    if type(window_size) is not int or window_size < 1:
        raise ValueError(f'window_size={window_size!r}: None or a positive int is needed')
    if global_blocks is None:
        global_blocks = [sum(depths[: i + 1]) - 1 for i in range(len(depths))]
    if not all(i in range(count) for i in global_blocks):
        raise ValueError(f'global_blocks={global_blocks!r}: blocks are 0 to {count - 1}')
    return [None if i in global_blocks else window_size for i in range(count)]
