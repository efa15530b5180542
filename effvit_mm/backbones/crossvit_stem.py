"""How CrossViT makes tokens of an image: patches of each branch, with their positions."""

from __future__ import annotations

from functools import partial
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention.caching import SizeCache, cached_by_size
from ..attention.eager import runs_eagerly
from ..attention.sizes import surely_equal
from ..deploy import PackingModule, packed_conv, packed_patches

Size = tuple[int, int]


def linear_patches(dim: int, patch_size: int) -> nn.Module:
    """Patches to tokens by one linear map: ``(B, 3, p H, p W) -> (B, dim, H, W)``."""
    return nn.Conv2d(3, dim, patch_size, patch_size)


# Kernel, stride and padding of the three convolutions, for each patch size.
_CONV_PATCHES = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}


class ConvPatches(nn.Sequential):
    """Patches to tokens by three convolutions, the paper's dagger; same shapes."""

    def __init__(self, dim: int, patch_size: int) -> None:
        widths = (3, dim // 4, dim // 2, dim)
        layers: list[nn.Module] = []
        for i, geometry in enumerate(_CONV_PATCHES[patch_size]):
            layers += [nn.Conv2d(widths[i], widths[i + 1], *geometry), nn.ReLU()]
        super().__init__(*layers[:-1])
        self.kept = tuple(SizeCache() for _ in _CONV_PATCHES[patch_size])

    def switch_to_deploy(self) -> ConvPatches:
        """From now on keep the weights as oneDNN takes them, too."""
        for kept in self.kept:
            kept.active = True
        return self

    def forward(self, x: Tensor) -> Tensor:
        if not self.kept[0].active:
            return super().forward(x)
        first, _, second, _, third = self
        for conv, kept in zip((first, second), self.kept[:2], strict=True):
            x = packed_conv(conv, x, kept, relu=True)
        return packed_conv(third, x, self.kept[2])


PATCH_EMBEDDINGS = {'linear': linear_patches, 'conv': ConvPatches}


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


def resize_positions(positions: Tensor, grid: Size, new_grid: Size) -> Tensor:
    """Position embeddings of another grid, by bicubic interpolation.

    Args:
        positions: ``(1, 1 + H * W, C)``, the class token's first: that one stays as it is.
        grid: (H, W) of ``positions``.
        new_grid: (H, W) that is wanted.
    """
    if surely_equal(grid, new_grid):
        return positions
    extra, table = positions[:, :1], positions[:, 1:]
    table = table.transpose(1, 2).unflatten(2, grid)  # 1 C H W
    new = F.interpolate(table.float(), size=new_grid, mode='bicubic', align_corners=False)
    return torch.cat((extra, new.to(table.dtype).flatten(2).transpose(1, 2)), 1)


# Outputs of a resized row or column that are made by one product.
BAND = 56


def resize_images(x: Tensor, size: Size) -> Tensor:
    """Bicubic interpolation of images ``(B, C, H, W)`` to a size of (H, W).

    In eager inference it is two products for each band, of columns and then of rows, with a matrix
    of its weights: the pixels that a band is made of are few more than those it has.
    """
    old = (x.shape[2], x.shape[3])
    if surely_equal(old, size):
        return x
    if not (x.device.type == 'cpu' and x.dtype == torch.float32 and runs_eagerly(x)):
        return F.interpolate(x, size=size, mode='bicubic', align_corners=False)
    planes = x.flatten(0, 1)
    wide = x.new_empty(len(planes), old[0], size[1])
    for first, last, low, high, weights in bicubic_bands(old[1], size[1]):
        torch.matmul(planes[:, :, low:high], weights.t(), out=wide[:, :, first:last])
    result = x.new_empty(len(planes), *size)
    for first, last, low, high, weights in bicubic_bands(old[0], size[0]):
        weights = weights.expand(len(planes), -1, -1)
        torch.bmm(weights, wide[:, low:high], out=result[:, first:last])
    return result.unflatten(0, x.shape[:2])


@cached_by_size
def bicubic_bands(old: int, new: int) -> list[tuple[int, int, int, int, Tensor]]:
    """How ``old`` pixels in a line become ``new``, in bands of these.

    Returns:
        For each band its first output and the one behind its last, the same of the inputs that it
        is made of, and their weights ``(outputs, inputs)``.
    """
    # A picture of nothing but unit vectors, resized on one axis alone, is the matrix.
    unit = torch.eye(old)[None, None]
    weights = F.interpolate(unit, size=(new, old), mode='bicubic', align_corners=False)[0, 0]
    bands = []
    for first in range(0, new, BAND):
        band = weights[first : first + BAND]
        used = band.any(0).nonzero()
        low, high = int(used[0]), int(used[-1]) + 1
        bands.append((first, first + len(band), low, high, band[:, low:high].contiguous()))
    return bands


class BranchEmbedding(PackingModule):
    """Image to the tokens of one branch: class token first, positions added.

    Shapes:
        x: ``(B, 3, H, W)``, of any size, and the grid to cut it into; returns ``(B, 1 + h * w,
        dim)`` for the grid (h, w). The image is resized to whole patches, the position embeddings
        to the grid.
    """

    def __init__(self, dim: int, patch_size: int, patch_embed: str, grid: Size) -> None:
        super().__init__(count=1)
        self.patch_size, self.grid = patch_size, grid
        self.proj = PATCH_EMBEDDINGS[patch_embed](dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], dim))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.kept = SizeCache()

    def switch_to_deploy(self) -> BranchEmbedding:
        """From now on keep the position embeddings of each grid, and weights in MKL's order."""
        self.kept.active = True
        super().switch_to_deploy()
        return self

    def forward(self, x: Tensor, grid: Size) -> Tensor:
        size = (grid[0] * self.patch_size, grid[1] * self.patch_size)
        tokens = packed_patches(self.proj, resize_images(x, size), self.packed[0])
        tokens = tokens.flatten(2).transpose(1, 2)  # B N C
        tokens = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), tokens), 1)
        positions = self.positions(grid)
        if runs_eagerly(tokens, positions) and tokens.dtype == positions.dtype:
            return tokens.add_(positions)
        return tokens + positions

    def positions(self, grid: Size) -> Tensor:
        """Position embeddings of a grid, the class token's first."""
        resize = partial(resize_positions, self.pos_embed, self.grid, grid)
        return self.kept.get(grid, self.pos_embed, resize)

    def fit_positions(self, state: dict[str, Tensor], prefix: str) -> None:
        """Resize the position embeddings in ``state``, of another square grid, to ours."""
        name = f'{prefix}pos_embed'
        given, own = state.get(name), self.pos_embed
        if given is None or given.ndim != 3 or given.shape[1] == own.shape[1]:
            return
        side = isqrt(given.shape[1] - 1)
        if side > 0 and side**2 == given.shape[1] - 1:
            state[name] = resize_positions(given, (side, side), self.grid)
