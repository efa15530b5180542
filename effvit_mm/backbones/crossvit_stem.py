"""How CrossViT makes tokens of an image: patches of each branch, with their positions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.mechanism import Size
from ..attention.sizes import surely_equal
from .transformer import PositionEmbedding, Tokens


def linear_patches(dim: int, patch_size: int) -> nn.Module:
    """Patches to tokens by one linear map: ``(B, 3, p H, p W) -> (B, dim, H, W)``."""
    return nn.Conv2d(3, dim, patch_size, patch_size)


# Kernel, stride and padding of the three convolutions, for each patch size.
_CONV_PATCHES = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}


def conv_patches(dim: int, patch_size: int) -> nn.Module:
    """Patches to tokens by three convolutions, the paper's dagger: same shapes."""
    widths = (3, dim // 4, dim // 2, dim)
    layers: list[nn.Module] = []
    for i, geometry in enumerate(_CONV_PATCHES[patch_size]):
        layers += [nn.Conv2d(widths[i], widths[i + 1], *geometry), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


PATCH_EMBEDDINGS = {'linear': linear_patches, 'conv': conv_patches}


def branch_grid(size: Size, patch_size: int, fraction: Size) -> Size:
    """Tokens along height and width, of an image of ``size`` pixels scaled by ``fraction``."""
    pixels, of = fraction
    height, width = (_rounded(side * pixels, of * patch_size) for side in size)
    return height, width


def _rounded(numerator: int, denominator: int) -> int:
    """``round`` of a quotient in whole numbers: sizes may be symbols, which have no ``round``."""
    floor, rest = numerator // denominator, numerator % denominator
    # One more from a half on; at the very half, only to get an even number.
    return floor + (2 * rest + floor % 2 + denominator - 1) // (2 * denominator)


class BranchEmbedding(PositionEmbedding):
    """Image to the tokens of one branch: class token first, positions added.

    Args:
        dim: Width.
        patch_size: Side of a patch, in pixels.
        patch_embed: ``'linear'`` or ``'conv'``.
        grid: (H, W) of the position embeddings.

    Shapes:
        x: ``(B, 3, H, W)``, of any size, and the grid (h, w) to cut it into: the image is resized
        to whole patches. Returns :class:`Tokens` ``(B, 1 + h * w, dim)``.
    """

    def __init__(self, dim: int, patch_size: int, patch_embed: str, grid: Size) -> None:
        super().__init__(dim, grid, ('cls_token',))
        self.patch_size = patch_size
        self.proj = PATCH_EMBEDDINGS[patch_embed](dim, patch_size)

    def forward(self, x: Tensor, grid: Size) -> Tokens:
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        if not surely_equal((x.shape[2], x.shape[3]), size):
            x = F.interpolate(x, size=size, mode='bicubic', align_corners=False)
        return Tokens(self.add_positions(self.proj(x)), grid, self.num_extra_tokens)
