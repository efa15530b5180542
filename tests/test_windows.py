"""Windowed blocks equal attention to each window alone; weights and small maps do not notice."""

import pytest
import torch

import effvit_mm
from effvit_mm.attention import tokens_to_windows, window_of, windows_to_tokens
from effvit_mm.backbones import CrossViT, VisionTransformer
from effvit_mm.backbones.crossvit_blocks import SelfAttention
from effvit_mm.backbones.vision_transformer import Attention, Layout, WindowAttention

VIT = {'embed_dims': 24, 'depths': (1, 2, 2, 1), 'num_heads': 3, 'mlp_ratio': 2}
CROSSVIT = {
    'embed_dims': (24, 48),
    'depth': 2,
    'num_heads': 3,
    'mlp_ratio': 2,
    'patch_embed': 'linear',
    'img_size': 240,
}
MECHANISMS = ('SoftmaxAttention', 'LinearAttention', 'LinearAngularAttention')


def noise(*size):
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def plain(attend, x, grid, extra, size):
    """Attention to one window after another, in loops: ``attend(tokens, window) -> tokens``."""
    (height, width), (h, w) = grid, (min(size, grid[0]), min(size, grid[1]))
    rows, columns = -(-height // h), -(-width // w)
    cells = torch.zeros(len(x), rows * h, columns * w, x.shape[-1])
    cells[:, :height, :width] = x[:, extra:].reshape(len(x), height, width, -1)
    out, copies = torch.zeros_like(cells), []
    for i in range(0, rows * h, h):
        for j in range(0, columns * w, w):
            window = cells[:, i : i + h, j : j + w].flatten(1, 2)
            y = attend(torch.cat((x[:, :extra], window), 1), (h, w))
            copies.append(y[:, :extra])
            out[:, i : i + h, j : j + w] = y[:, extra:].unflatten(1, (h, w))
    mean = torch.stack(copies).mean(0)
    return torch.cat((mean, out[:, :height, :width].flatten(1, 2)), 1)


@pytest.mark.parametrize('grid', [(4, 6), (5, 7), (1, 9), (2, 2), (3, 3)], ids=str)
@pytest.mark.parametrize('extra', [0, 1, 2])
def test_tokens_go_into_windows_and_back(grid, extra):
    x = noise(2, extra + grid[0] * grid[1], 5)
    windows = tokens_to_windows(x, grid, extra, 3)
    h, w = window_of(grid, 3)
    assert windows.shape[1:] == (extra + h * w, 5)
    torch.testing.assert_close(windows_to_tokens(windows, grid, extra, 3), x)


@pytest.mark.parametrize('grid', [(6, 6), (5, 7), (2, 8)], ids=str)
@pytest.mark.parametrize('kind', MECHANISMS)
@torch.no_grad()
def test_windowed_attention_is_attention_to_each_window(kind, grid):
    torch.manual_seed(0)
    layer = WindowAttention(24, 3, {'type': kind}, window_size=3).eval()
    alone = Attention(24, 3, {'type': kind}).eval()
    alone.load_state_dict(layer.state_dict())
    x = noise(2, 2 + grid[0] * grid[1], 24)

    def attend(tokens, window):
        return alone(tokens, Layout(window, window, 2), None)

    want = plain(attend, x, grid, 2, 3)
    torch.testing.assert_close(layer(x, Layout(grid, grid, 2)), want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_windowed_crossvit_is_attention_to_each_window():
    torch.manual_seed(0)
    layer = SelfAttention(24, 3, window_size=4)
    alone = SelfAttention(24, 3)
    alone.load_state_dict(layer.state_dict())
    x = noise(2, 1 + 6 * 9, 24)
    want = plain(lambda tokens, window: alone(tokens), x, (6, 9), 1, 4)
    torch.testing.assert_close(layer(x, (6, 9)), want, rtol=1e-4, atol=1e-5)


NETWORKS = {
    **{kind: (VisionTransformer, VIT, {'attention': {'type': kind}}) for kind in MECHANISMS},
    'distilled': (VisionTransformer, VIT, {'distilled': True}),
    'CrossViT': (CrossViT, CROSSVIT, {'mode': 'dense'}),
    'CrossViT parity': (CrossViT, CROSSVIT, {'mode': 'parity'}),
}


@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_windows_matter_for_maps_that_exceed_them_alone(name):
    """The same weights; one window over the whole map is global attention."""
    cls, arch, kwargs = NETWORKS[name]
    torch.manual_seed(0)
    whole = cls(arch, **kwargs).eval()
    for size in (100, 16):
        windowed = cls(arch, window_size=size, **kwargs).eval()
        windowed.load_state_dict(whole.state_dict())
        for a, b in zip(windowed(noise(2, 3, 97, 140)), whole(noise(2, 3, 97, 140)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    narrow = cls(arch, window_size=3, **kwargs).eval()
    narrow.load_state_dict(whole.state_dict())
    assert not torch.allclose(narrow(noise(2, 3, 97, 140))[-1], whole(noise(2, 3, 97, 140))[-1])


def windows_of(model):
    return [
        block.attn.window_size if isinstance(block.attn, WindowAttention) else None
        for stage in model.stages
        for block in stage
    ]


def test_which_blocks_are_global():
    named = VisionTransformer('tiny', window_size=14)
    assert [i for i, size in enumerate(windows_of(named)) if size is None] == [2, 5, 8, 11]
    chosen = VisionTransformer(VIT, window_size=5, global_blocks=(1, 4))
    assert windows_of(chosen) == [5, None, 5, 5, None, 5]
    assert windows_of(VisionTransformer(VIT)) == [None] * 6
    stages = CrossViT(CROSSVIT, mode='dense', window_size=5).stages
    small = [stage.blocks[0][0].attn.window_size for stage in stages]
    large = [[block.attn.window_size for block in stage.blocks[1]] for stage in stages]
    assert small == [5, 5, None] and large == [[5, None]] * 3


@torch.no_grad()
def test_a_window_sees_nothing_of_the_others_but_the_class_token():
    """Without global blocks and without class tokens' exchange, a change stays in its window."""
    model = VisionTransformer(VIT, window_size=2, global_blocks=(), out_indices=0).eval()
    x = noise(1, 3, 64, 64)
    changed = x.clone()
    changed[..., :16, :16] += 1
    same = torch.isclose(model(x)[0], model(changed)[0], atol=1e-6).all(1)[0]
    # One block: the class token carries nothing to other windows before the second.
    assert not same[:2, :2].any() and same[2:].all() and same[:, 2:].all()


@torch.no_grad()
def test_windows_save_computation():
    whole = effvit_mm.count_flops(VisionTransformer(VIT), (3, 512, 512))
    model = VisionTransformer(VIT, window_size=8, global_blocks=())
    assert effvit_mm.count_flops(model, (3, 512, 512)) < 0.6 * whole


@pytest.mark.parametrize(
    ('cls', 'kwargs', 'message'),
    [
        (VisionTransformer, {'window_size': 0}, 'window_size=0'),
        (VisionTransformer, {'window_size': 7.0}, r'window_size=7\.0'),
        (VisionTransformer, {'global_blocks': (1,)}, r'global_blocks=\(1,\) needs a window_size'),
        (VisionTransformer, {'window_size': 7, 'global_blocks': (6,)}, 'blocks are 0 to 5'),
        (
            VisionTransformer,
            {'window_size': 7, 'attention': {'type': 'EAttention'}},
            'window_size=7: EAttention samples tokens .* leave window_size None',
        ),
        (
            VisionTransformer,
            {'window_size': 7, 'attention': {'type': 'SampledSoftmaxAttention'}},
            'SampledSoftmaxAttention samples tokens',
        ),
        (CrossViT, {'window_size': 0}, 'window_size=0'),
    ],
)
def test_refuses(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(VIT if cls is VisionTransformer else CROSSVIT, **kwargs)


@pytest.mark.parametrize('kind', MECHANISMS)
def test_padding_of_windows_has_a_gradient(kind):
    """Zero rows, which the padding gives where the bias is zero, must not make it NaN."""
    layer = WindowAttention(24, 3, {'type': kind}, window_size=3)
    torch.nn.init.zeros_(layer.qkv.bias)
    x = noise(2, 1 + 4 * 5, 24).requires_grad_()
    layer(x, Layout((4, 5), (4, 5), 1)).square().sum().backward()
    for tensor in (x, *layer.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.any()
