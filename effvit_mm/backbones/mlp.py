"""The perceptron of a transformer block, the same for every network that has ViT's."""

from __future__ import annotations

from torch import Tensor, nn

from ..deploy import PackingModule, linear_add, linear_gelu, packed_linear


class MLP(PackingModule):
    """Two linear layers with an exact GELU between.

    Shapes:
        x: ``(B, N, C)``, residual: the same, added to what comes out; returns the same.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(count=2)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        hidden = linear_gelu(self.fc1, x, self.packed[0])
        if residual is None:
            return packed_linear(self.fc2, hidden, self.packed[1])
        return linear_add(self.fc2, hidden, residual, self.packed[1])
