"""The table of docs/add_attention.md: which host takes which mechanism."""

from pathlib import Path

import pytest
import torch
from torch import nn

import effvit_mm
from effvit_mm.attention.mechanism import MECHANISMS
from effvit_mm.backbones import PSLT, CrossViT, LeViT, MViTv2, VisionTransformer

PAGE = Path(__file__).parents[1] / 'docs' / 'add_attention.md'
OWN = 'your own'


class MeanAttention(nn.Module):
    """Every query gets the mean of all values."""

    def __init__(self, num_heads, key_dim, value_dim):
        super().__init__()

    def forward(self, q, k, v, layout, bias=None):
        return v.mean(2, keepdim=True).expand(-1, -1, q.shape[2], -1)


HOSTS = {
    '`VisionTransformer`': lambda attention: VisionTransformer(
        {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 2, 'mlp_ratio': 2},
        attention=attention, img_size=64,
    ),
    'its windows': lambda attention: VisionTransformer(
        {'embed_dims': 24, 'depths': (2, 1, 1, 1), 'num_heads': 2, 'mlp_ratio': 2},
        attention=attention, img_size=64, window_size=3, global_blocks=(),
    ),
    '`CrossViT`': lambda attention: CrossViT(
        {'embed_dims': (16, 32), 'depth': 2, 'num_heads': 2, 'mlp_ratio': 2,
         'patch_embed': 'linear', 'img_size': 64},
        attention=attention,
    ),
    '`LeViT`': lambda attention: LeViT(
        {'embed_dims': (32, 48, 64), 'num_heads': (2, 3, 4), 'depths': (1, 1, 1), 'key_dim': 8},
        attention=attention, img_size=64,
    ),
    '`MViTv2`': lambda attention: MViTv2(
        {'embed_dims': 16, 'num_heads': 1, 'depths': (1, 1, 1, 1)},
        attention=attention, img_size=64,
    ),
    '`PSLT`': lambda attention: PSLT(
        {'embed_dims': 12, 'depths': (1, 1, 2, 1), 'num_heads': (2, 2)}, attention=attention
    ),
}  # fmt: skip


def read_table() -> dict[tuple[str, str], str]:
    """``{(mechanism, host): cell}`` of the page's first table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith('|')]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    header, body = rows[0], rows[2:]
    return {
        (row[0].strip('`'), host): cell
        for row in body
        for host, cell in zip(header[1:], row[1:], strict=True)
    }


TABLE = read_table()


def test_table_has_every_mechanism_and_host():
    assert {mechanism for mechanism, _ in TABLE} == {*MECHANISMS, OWN}
    assert {host for _, host in TABLE} == set(HOSTS)


@pytest.mark.parametrize(('mechanism', 'host'), TABLE)
def test_cell_is_true(mechanism, host):
    kind = MeanAttention if mechanism == OWN else mechanism
    cell = TABLE[mechanism, host]
    if cell != 'yes':
        assert cell.startswith('no: ')
        with pytest.raises(ValueError, match=f'{mechanism}.*class token'):
            HOSTS[host]({'type': kind})
        return
    torch.manual_seed(0)
    network = HOSTS[host]({'type': kind}).train()
    x = torch.randn(2, 3, 80, 70)
    sum(m.float().square().mean() for m in network(x)).backward()
    learns = [p.grad is not None for p in network.parameters()]
    assert sum(learns) > 0.8 * len(learns)  # without queries and keys where only values count
    network.eval()
    with torch.no_grad():
        before = network(x)
        after = network.switch_to_deploy()(x)
    for a, b in zip(before, after, strict=True):
        assert (a - b).abs().max() <= 1e-4 * a.abs().max()
    assert all(
        isinstance(m, MECHANISMS.get(mechanism, MeanAttention))
        for name, m in network.named_modules()
        if name.endswith('.mechanism')
    )


def test_own_mechanism_by_name():
    effvit_mm.register_mechanism(MeanAttention)
    try:
        network = HOSTS['`CrossViT`']({'type': 'MeanAttention'})
        assert any(isinstance(m, MeanAttention) for m in network.modules())
    finally:
        del MECHANISMS['MeanAttention']
