"""Window attention of the ladder against the definition, written out pixel by pixel."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from networks import SigmoidAttention

from effvit_mm.attention import PixelAdaptiveFusion, ShiftedWindowAttention
from effvit_mm.attention.ladder import MASKED, window_mask
from effvit_mm.attention.windows import window_partition, window_reverse
from effvit_mm.deploy import switch_modules

WINDOW, DIM, HEADS = 7, 12, 3


def attention(**kwargs):
    torch.manual_seed(0)
    module = ShiftedWindowAttention(DIM, HEADS, WINDOW, **kwargs).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def definition(module, x, value=None):
    """The same for one map ``(H, W, C)``, from the coordinates of each pair of pixels.

    Two pixels see each other where they fall into one window after the roll, and neither or both
    crossed the border when rolled. Padding is a pixel like any other unless it is hidden.
    """
    h, w, _ = x.shape
    shift = module.shift if min(h, w) > WINDOW else 0
    full = [n + -n % WINDOW for n in (h, w)]
    pad = (0, 0, 0, full[1] - w, 0, full[0] - h)
    x = F.pad(x, pad).flatten(0, 1)
    value = None if value is None else F.pad(value, pad).flatten(0, 1)
    places = torch.cartesian_prod(torch.arange(full[0]), torch.arange(full[1]))
    rolled = places + shift
    windows = (rolled % torch.tensor(full)) // WINDOW
    crossed = torch.div(rolled, torch.tensor(full), rounding_mode='floor')
    group = torch.cat([windows, crossed], 1)
    seen = (group[:, None] == group[None]).all(-1)
    if module.mask_padding:
        seen = seen & ((places[:, 0] < h) & (places[:, 1] < w))[None]
    offset = places[:, None] - places[None] + WINDOW - 1
    row = (offset[..., 0] * (2 * WINDOW - 1) + offset[..., 1]).clamp(0, (2 * WINDOW - 1) ** 2 - 1)
    bias = module.relative_position_bias_table[row].permute(2, 0, 1)
    if value is None:
        q, k, v = module.qkv(x).chunk(3, -1)
    else:
        (q, k), v = module.qk(x).chunk(2, -1), value
    out = []
    for head, (qh, kh, vh) in enumerate(
        zip(*(t.split(DIM // HEADS, -1) for t in (q, k, v)), strict=True)
    ):
        logits = qh @ kh.T / (DIM // HEADS) ** 0.5 + bias[head]
        out.append(logits.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num(0) @ vh)
    out = module.proj(torch.cat(out, -1))
    if value is not None:
        out = out + x
    return out.view(*full, -1)[:h, :w]


@pytest.mark.parametrize('size', [(14, 14), (8, 4), (3, 5), (7, 7), (7, 10), (15, 9), (1, 1)])
@pytest.mark.parametrize('shift', [0, -3, 3, 1, -6])
@pytest.mark.parametrize('takes_value', [False, True])
@pytest.mark.parametrize('mask_padding', [False, True])
@torch.no_grad()
def test_equals_definition(size, shift, takes_value, mask_padding):
    module = attention(shift=shift, takes_value=takes_value, mask_padding=mask_padding)
    x, value = torch.randn(2, *size, DIM), torch.randn(2, *size, DIM)
    value = value if takes_value else None
    got = module(x, value)
    for i in range(2):
        want = definition(module, x[i], None if value is None else value[i])
        torch.testing.assert_close(got[i], want, rtol=1e-4, atol=1e-5)


def in_windows(module, alone, x, value):
    """One window after another, of a map padded with zeros: what ``alone`` makes of each.

    The map moves by the shift, to the bottom right where it is positive; the windows stay.
    """
    height, width = x.shape[1:3]
    shift = module.shift if min(height, width) > WINDOW else 0
    out = torch.full_like(x, torch.nan)
    margin = 2 * WINDOW
    padded = [F.pad(t, (0, 0, *[margin] * 4)) for t in (x, value) if t is not None]
    starts = (range(-shift - WINDOW, n, WINDOW) for n in (height, width))
    for top, left in itertools.product(*starts):
        rows, columns = (slice(margin + n, margin + n + WINDOW) for n in (top, left))
        y = alone(*(t[:, rows, columns] for t in padded))
        for i, j in itertools.product(range(WINDOW), repeat=2):
            if 0 <= top + i < height and 0 <= left + j < width:
                out[:, top + i, left + j] = y[:, i, j]
    return out


@pytest.mark.parametrize('size', [(14, 14), (8, 4), (3, 5), (7, 7), (7, 10), (15, 9), (8, 20)])
@pytest.mark.parametrize('shift', [0, -3, 3, 1, -6])
@pytest.mark.parametrize('takes_value', [False, True])
@pytest.mark.parametrize(
    'kind', ['LinearAttention', 'LinearAngularAttention', SigmoidAttention], ids=str
)
@torch.no_grad()
def test_mechanisms_without_a_mask_see_the_windows_of_a_padded_map(size, shift, takes_value, kind):
    """The places of softmax attention's windows; but what these would mask is zeros here."""
    kwargs = {'takes_value': takes_value, 'attention': {'type': kind}}
    module, alone = attention(shift=shift, **kwargs), attention(**kwargs)
    alone.load_state_dict(module.state_dict())
    x, value = torch.randn(2, *size, DIM), torch.randn(2, *size, DIM)
    value = value if takes_value else None
    want = in_windows(module, alone, x, value)
    for layer in (module, switch_modules(module)):
        torch.testing.assert_close(layer(x, value), want, rtol=1e-4, atol=1e-5)


def test_later_branches_take_their_values():
    with pytest.raises(ValueError, match='value'):
        attention(takes_value=True)(torch.randn(1, 7, 7, DIM))
    with pytest.raises(ValueError, match='value'):
        attention()(torch.randn(1, 7, 7, DIM), torch.randn(1, 7, 7, DIM))


def test_arguments_are_checked():
    with pytest.raises(ValueError, match='num_heads=5'):
        ShiftedWindowAttention(12, 5)
    with pytest.raises(ValueError, match='shift=7'):
        ShiftedWindowAttention(12, 3, shift=-7 + 14)


def test_masked_pairs_have_no_weight_at_all():
    """Not one of e^-100: denormal numbers make every product with them slow."""
    mask = window_mask((14, 14), (7, 7), -3, False, torch.device('cpu'), torch.float32)
    weights = (mask + torch.randn_like(mask) * 10).softmax(-1)
    assert set(mask.unique().tolist()) == {0.0, MASKED}
    assert torch.equal(weights > 0, mask == 0)


@pytest.mark.parametrize('shift', [0, -3])
def test_learning_and_rested_weights_attend_alike(shift):
    """The plain steps that train the bias, and the fused kernel of weights at rest."""
    module = attention(shift=shift).double()
    x = torch.randn(2, 14, 14, DIM, dtype=torch.double, requires_grad=True)
    learning = module(x)
    (gradient,) = torch.autograd.grad(learning.square().sum(), x)
    module.requires_grad_(False)
    rested = module(x)
    torch.testing.assert_close(learning, rested)
    torch.testing.assert_close(torch.autograd.grad(rested.square().sum(), x)[0], gradient)
    module.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda table: _with_table(module, table, x[:1, :8, :8]),
        (module.relative_position_bias_table.detach().requires_grad_(),),
        fast_mode=True,
    )


def _with_table(module, table, x):
    return torch.func.functional_call(module, {'relative_position_bias_table': table}, (x,))


def test_partition_and_reverse_are_inverse():
    x = torch.randn(2, 14, 21, 3)
    windows = window_partition(x, (7, 7))
    assert windows.shape == (2, 6, 49, 3)
    assert torch.equal(windows[0, 1].view(7, 7, 3), x[0, :7, 7:14])
    assert torch.equal(window_reverse(windows, (7, 7), (14, 21)), x)


def test_masks_are_made_once():
    arguments = ((15, 9), (7, 7), -3, False, torch.device('cpu'), torch.float32)
    assert window_mask(*arguments) is window_mask(*arguments)


@torch.no_grad()
def test_fusion_is_a_gate_and_a_residual():
    fusion = PixelAdaptiveFusion(8)
    x = torch.randn(2, 3, 3, 8)
    gated = x * fusion.fc2(fusion.fc1(x).clamp(min=0)).sigmoid()
    torch.testing.assert_close(fusion(x), gated + fusion.proj(gated))
    torch.testing.assert_close(fusion(x)[:, 1, 2], fusion(x[:, 1:2, 2:3])[:, 0, 0])  # pixel alone
