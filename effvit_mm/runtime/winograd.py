"""3x3 convolutions with a quarter of the products, as steps that a graph can hold.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016, arXiv:1509.09308),
F(4x4, 3x3): a tile of 4 x 4 outputs costs 36 products a pair of channels instead of 144, and the
tile's transforms, which many channels share. Rounding is that of sums of a few more terms: 1e-5 of
the largest value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Section 4.3; rows are those of B^T, G and A^T.
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
TILE, INNER = len(OUTPUT), len(INPUT)
# Below these the transforms cost more than they save (OpenVINO 2026.4, AVX-512).
LEAST_CHANNELS, LEAST_TILES = 64, 36


class WinogradConv2d(nn.Module):
    """A 3x3 convolution with stride and padding of 1; small maps are convolved directly.

    Args:
        conv: Whose weights it takes over.

    Shapes:
        ``(B, C, H, W)`` to ``(B, O, H, W)``.
    """

    products: Tensor
    input: Tensor
    output: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        kernel, weight = torch.tensor(KERNEL, dtype=torch.float64), conv.weight.double()
        products = torch.einsum('ij,ocjk,lk->ilco', kernel, weight, kernel).flatten(0, 1)
        self.register_buffer('products', products.to(conv.weight.dtype))  # 36 C O
        for name, rows in (('input', INPUT), ('output', OUTPUT)):
            matrix = torch.tensor(rows, dtype=conv.weight.dtype)
            self.register_buffer(name, torch.kron(matrix, matrix))  # of a tile, row by row

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        down, across = -(-height // TILE), -(-width // TILE)
        if down * across < LEAST_TILES:
            return self.conv(x)
        x = F.pad(x, (1, 1 + across * TILE - width, 1, 1 + down * TILE - height))
        x = x.permute(0, 2, 3, 1)
        rows = [x[:, row : row + down * TILE : TILE] for row in range(INNER)]
        tiles = [row[:, :, i : i + across * TILE : TILE] for row in rows for i in range(INNER)]
        wide = self.input @ torch.stack(tiles).flatten(1)
        products = wide.view(INNER * INNER, -1, channels) @ self.products
        outputs = self.output @ products.flatten(1)
        outputs = outputs.view(TILE, TILE, batch, down, across, -1).permute(2, 5, 3, 0, 4, 1)
        outputs = outputs.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]
        return outputs if self.conv.bias is None else outputs + self.conv.bias[:, None, None]


def winograd_convolution(conv: nn.Conv2d) -> nn.Module:
    """A convolution as :class:`WinogradConv2d` where it is one of 3x3 and has channels enough."""
    pairs = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    fits = pairs == ((3, 3), (1, 1), (1, 1), (1, 1)) and conv.padding_mode == 'zeros'
    many = min(conv.in_channels, conv.out_channels) >= LEAST_CHANNELS
    return WinogradConv2d(conv) if fits and many and conv.groups == 1 else conv
