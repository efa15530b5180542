"""Small networks of every family, images for them, and how far two outputs lie apart."""

from dataclasses import dataclass, field
from pathlib import Path

import golden
import pytest
import torch
from torch import nn

from effvit_mm.backbones import PSLT, Backbone, CrossViT, LeViT, MViTv2, VisionTransformer
from effvit_mm.backbones.base import BatchNorm

PSLT_ARCH = {'embed_dims': 12, 'depths': (1, 2, 2, 1), 'num_heads': (4, 8)}
PSLT_NARROW = {'embed_dims': 6, 'depths': (1, 1, 1, 1), 'num_heads': (2, 4)}
CROSSVIT = {
    'embed_dims': (24, 48),
    'depth': 2,
    'num_heads': 3,
    'mlp_ratio': 2,
    'patch_embed': 'conv',
    'img_size': 240,
}
CROSSVIT_LINEAR = {**CROSSVIT, 'patch_embed': 'linear'}
LEVIT = {'embed_dims': (16, 24, 32), 'num_heads': (2, 3, 2), 'depths': (1, 1, 1), 'key_dim': 8}
MVITV2 = {'embed_dims': 12, 'num_heads': 1, 'depths': (1, 2, 2, 1)}
VIT = {'embed_dims': 24, 'depths': (1, 1, 2, 1), 'num_heads': 3, 'mlp_ratio': 2}
CASTLING = {'attention': {'type': 'LinearAngularAttention'}}
SAMPLING = {'type': 'EAttention', 'num_samples': 12}

# What the extra `export` asks for, and graphs for any size.
needs_exporter = pytest.mark.skipif(
    torch.__version__ < '2.9', reason='PyTorch before 2.9 writes no graphs for any size'
)

SIZES = ((32, 32), (33, 47), (64, 96), (256, 128), (97, 225))


@dataclass
class Case:
    """A small variant of a backbone, fast enough to be run many times."""

    cls: type[Backbone]
    arch: dict
    norm: str | None = None  # name of the norm behind the last map
    kwargs: dict = field(default_factory=dict)
    num_stages: int = 4

    @property
    def all_maps(self) -> range:
        return range(self.cls.num_maps)

    def build(self, **kwargs) -> Backbone:
        torch.manual_seed(0)
        return randomise_norms(self.cls(self.arch, **{**self.kwargs, **kwargs}))


CASES = {
    'PSLT': Case(PSLT, PSLT_ARCH, norm='norm'),
    'PSLT masked': Case(
        PSLT,
        PSLT_NARROW,
        norm='norm',
        kwargs={'mask_padding': True, 'shifts': (0, -2), 'window_size': 4},
    ),
    'PSLT castling': Case(
        PSLT, PSLT_NARROW, norm='norm', kwargs={**CASTLING, 'shifts': (0, -2), 'window_size': 4}
    ),
    'CrossViT': Case(CrossViT, CROSSVIT, norm='norms', num_stages=3),
    'CrossViT dense': Case(
        CrossViT, CROSSVIT_LINEAR, norm='norms', kwargs={'mode': 'dense'}, num_stages=3
    ),
    'CrossViT windows': Case(
        CrossViT,
        CROSSVIT_LINEAR,
        norm='norms',
        kwargs={'mode': 'dense', 'window_size': 3},
        num_stages=3,
    ),
    'CrossViT castling': Case(
        CrossViT,
        CROSSVIT_LINEAR,
        norm='norms',
        kwargs={**CASTLING, 'mode': 'dense', 'window_size': 3},
        num_stages=3,
    ),
    'CrossViT e-attention': Case(
        CrossViT, CROSSVIT_LINEAR, norm='norms', kwargs={'attention': SAMPLING}, num_stages=3
    ),
    'LeViT': Case(LeViT, LEVIT),
    'LeViT castling': Case(LeViT, LEVIT, kwargs=CASTLING),
    'VisionTransformer': Case(VisionTransformer, VIT, norm='norm'),
    'VisionTransformer castling': Case(VisionTransformer, VIT, norm='norm', kwargs=CASTLING),
    'VisionTransformer e-attention': Case(
        VisionTransformer,
        VIT,
        norm='norm',
        kwargs={'distilled': True, 'attention': SAMPLING, 'sampled_blocks': (1, 3)},
    ),
    'VisionTransformer windows': Case(
        VisionTransformer, VIT, norm='norm', kwargs={**CASTLING, 'window_size': 3}
    ),
    'MViTv2': Case(MViTv2, MVITV2, norm='norm'),
    'MViTv2 castling': Case(MViTv2, MVITV2, norm='norm', kwargs=CASTLING),
}


class SigmoidAttention(nn.Module):
    """A mechanism of a user's own, which says of itself nothing that it need not."""

    def __init__(self, num_heads: int, key_dim: int, value_dim: int, power: float = 1.0):
        super().__init__()
        self.shape, self.power = (num_heads, key_dim, value_dim), power

    def forward(self, q, k, v, layout, bias=None):
        assert bias is None
        assert self.shape == (q.shape[1], k.shape[3], v.shape[3])
        extra, (rows, columns) = layout.num_extra_tokens, layout.key_grid
        assert k.shape[2] == v.shape[2] == extra + rows * columns
        assert q.shape[2] == extra + layout.query_grid[0] * layout.query_grid[1]
        return (q @ k.mT).sigmoid() ** self.power @ v / k.shape[2]


def images(*size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def randomise_norms(model: nn.Module) -> nn.Module:
    """Batch norms as after training: fresh ones hide mistakes behind mean 0 and scale 1."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.6, 1.5)
            nn.init.uniform_(module.weight, 0.6, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model


def as_trained(model: nn.Module) -> nn.Module:
    """Norms and positions that hide nothing, in evaluation mode."""
    for name, parameter in randomise_norms(model).named_parameters():
        if any(part in name for part in ('table', 'rel_pos', 'pos_embed')):
            nn.init.normal_(parameter, std=0.5)
    return model.eval()


def grads(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Gradients of all parameters after one seeded training step's backward pass.

    Of a fixed direction in each map: the squares of what a norm gives hardly change.
    """
    model.zero_grad()
    torch.manual_seed(2)
    maps, generator = model(x), torch.Generator().manual_seed(3)
    sum((m * torch.randn(m.shape, generator=generator).to(m)).mean() for m in maps).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def tensors(output) -> list[torch.Tensor]:
    """What a network put out: logits, maps, or the class tokens."""
    if isinstance(output, torch.Tensor):
        return [output]
    return list(output[0] if isinstance(output[0], list) else output)


def deviation(got, want) -> float:
    """Largest difference over the largest value, of the worst of several tensors."""
    pairs = list(zip(tensors(got), tensors(want), strict=True))
    assert all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


STAGES = ('c2', 'c3', 'c4', 'c5')  # names of the maps in the fixtures of PSLT


def read_fixture(name: str):
    """Reference outputs, input and published state dict of a fixture of ``data/``."""
    spec, reference = golden.load(Path(__file__).parents[1] / 'data' / f'{name}.npz')
    state = {k: torch.from_numpy(v) for k, v in golden.golden_state(spec['keys']).items()}
    return reference, torch.from_numpy(golden.golden_input(**spec['inputs']['x'])), state
