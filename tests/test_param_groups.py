"""Parameter groups: merged ones, and layer-wise decay asked of the backbone."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from networks import CASES
from torch import nn

from effvit_mm.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
RATE, LR, DECAY = 0.5, 0.1, 0.05


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 2)


def wrapper(model, optimizer=None, **paramwise):
    return build_optim_wrapper(
        model,
        {
            'type': 'OptimWrapper',
            'constructor': 'effvit_mm.LayerDecayOptimWrapperConstructor',
            'optimizer': optimizer or {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY},
            'paramwise_cfg': {'layer_decay_rate': RATE, **paramwise},
        },
    )


def settings(optim_wrapper):
    """``{parameter: (lr, weight decay)}``, each parameter once."""
    found = {}
    for group in optim_wrapper.optimizer.param_groups:
        for parameter in group['params']:
            assert parameter not in found
            found[parameter] = (group['lr'], group['weight_decay'])
    return found


@pytest.mark.parametrize('case', CASES)
def test_rates_fall_from_the_output_to_the_stem(case):
    model = Model(CASES[case].build(out_indices=CASES[case].all_maps))
    found = settings(wrapper(model))
    for name, parameter in model.named_parameters():
        depth, count = model.backbone.get_layer_depth(name, 'backbone.')
        assert found[parameter] == pytest.approx((LR * RATE ** (count - 1 - depth), DECAY)), name
    assert found[model.head.weight][0] == LR
    stem = next(p for n, p in model.named_parameters() if n.startswith('backbone.stem'))
    assert found[stem][0] == min(rate for rate, _ in found.values())


def test_mmengines_options_work_besides_and_equal_settings_share_a_group():
    model = Model(CASES['VisionTransformer'].build(frozen_stages=1))
    options = {'norm_decay_mult': 0.0, 'custom_keys': {'head': {'lr_mult': 10.0}}}
    built = wrapper(model, **options)
    found = settings(built)
    assert found[model.head.weight] == pytest.approx((10 * LR, DECAY))
    assert found[model.backbone.norm.weight] == (LR, 0)
    trained = {p for p in model.parameters() if p.requires_grad}
    assert found.keys() == trained  # what is frozen is left out
    assert len(built.optimizer.param_groups) <= 3 * (len(list(model.backbone.stages)) + 3)


def test_a_step_equals_one_of_single_groups():
    """Merging groups changes no step."""
    torch.manual_seed(0)
    model, twin = (Model(CASES['VisionTransformer'].build()) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    built = wrapper(model)
    rates = settings(built)
    pairs = list(zip(model.parameters(), twin.parameters(), strict=True))
    single = torch.optim.AdamW([{'params': [t], 'lr': rates[p][0]} for p, t in pairs], LR,
                               weight_decay=DECAY)  # fmt: skip
    for p, t in pairs:
        p.grad = torch.randn_like(p)
        t.grad = p.grad.clone()
    built.step()
    single.step()
    for p, t in pairs:
        torch.testing.assert_close(p, t, rtol=0, atol=0)


def test_groups_of_equal_settings_are_merged_and_no_setting_changes():
    paramwise = {'norm_decay_mult': 0.0, 'custom_keys': {'head': {'lr_mult': 0.5}}}
    config = {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': LR, 'weight_decay': DECAY},
        'paramwise_cfg': paramwise,
    }
    model = Model(CASES['PSLT'].build())
    plain = build_optim_wrapper(model, dict(config))
    merged = build_optim_wrapper(
        model, {**config, 'constructor': 'effvit_mm.MergedOptimWrapperConstructor'}
    )
    assert settings(merged) == settings(plain)
    assert len(plain.optimizer.param_groups) == len(list(model.parameters()))
    assert len(merged.optimizer.param_groups) == 3  # head, norms, all else


PLAIN_HOSTS = sorted(
    path
    for host in ('castling/*_castling-deit-tiny', 'lightweight_vit/*_lightweight-vit-tiny')
    for path in CONFIGS.glob(f'{host}_fpn_*_coco.py')
)


@pytest.mark.parametrize('path', PLAIN_HOSTS, ids=lambda path: path.stem)
def test_detectors_on_plain_hosts_learn_by_vitdets_rates(path):
    """The base rate in neck and heads, 0.7 times the rate of the block above in each of 12 blocks.

    Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022,
    appendix: 0.7 for the 12 blocks of ViT-B.
    """
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        model = MODELS.build(config.model)
        found = settings(build_optim_wrapper(model, config.optim_wrapper))
    lr = config.optim_wrapper.optimizer.lr
    stages = [len(stage) for stage in model.backbone.stages]
    assert sum(stages) == 12
    for name, parameter in model.named_parameters():
        place = re.match(r'backbone\.stages\.(\d)\.(\d)\.', name)
        if place:
            stage, block = map(int, place.groups())
            above = 12 - sum(stages[:stage]) - block  # 1 for the last block
        else:
            above = 13 if name.startswith('backbone.stem') else 0
        assert found[parameter][0] == pytest.approx(lr * 0.7**above), name
    assert {'neck', 'backbone'} < {name.partition('.')[0] for name, _ in model.named_parameters()}


@pytest.mark.parametrize('rate', [None, 0, 1.5, 'x'])
def test_bad_rates_are_refused(rate):
    model = Model(CASES['VisionTransformer'].build())
    with pytest.raises(ConfigError, match=r'layer_decay_rate='):
        wrapper(model, layer_decay_rate=rate)


def test_models_that_know_no_layers_are_refused():
    with pytest.raises(ConfigError, match='Model has none'):
        wrapper(Model(nn.Linear(3, 3)))
    with pytest.raises(ConfigError, match=r'optimizer\.lr is missing'):
        wrapper(Model(CASES['VisionTransformer'].build()), {'type': 'Adadelta'})
