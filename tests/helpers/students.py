"""Small networks of every family: students of a distillation with a batch for them, and by name."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / 'configs' / 'pslt' / 'pslt-tiny_digits.py'
CLASSES = 5
VIT = {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2}
PSLT = {'embed_dims': 12, 'depths': (1, 1, 1, 1), 'num_heads': (4, 8)}
CROSSVIT = {
    'embed_dims': (24, 48),
    'depth': 1,
    'num_heads': 3,
    'mlp_ratio': 2,
    'patch_embed': 'conv',
    'img_size': 48,
}
LEVIT = {'embed_dims': (16, 24, 32), 'num_heads': (2, 3, 2), 'depths': (1, 1, 1), 'key_dim': 8}
MVITV2 = {'embed_dims': 12, 'num_heads': 1, 'depths': (1, 1, 1, 1)}
CASTLING = {'attention': {'type': 'LinearAngularAttention'}}
TOKEN = {'out_type': 'cls_token'}
# Small networks of every family by names of list_models(), whose arguments these replace.
NETWORKS = {
    'pslt_tiny': {'arch': PSLT, 'shifts': (0, -3)},
    'crossvit_9_dagger': {'arch': CROSSVIT},
    'deit_tiny_distilled': {'arch': VIT},
    'castling_deit_tiny': {'arch': VIT},
    'lightweight_vit_tiny': {'arch': VIT, 'sampled_blocks': (2, 3)},
    'levit_128s': {'arch': LEVIT},
    'castling_levit_128s': {'arch': LEVIT},
    'mvitv2_tiny': {'arch': MVITV2},
    'castling_mvitv2_tiny': {'arch': MVITV2},
}


def classifier(kind, arch, head, **kwargs):
    """Backbone and head of a classifier's config."""
    head = {'num_classes': CLASSES, 'topk': (1,), **head}
    return {'backbone': {'type': f'effvit_mm.{kind}', 'arch': arch, **kwargs}, 'head': head}


def linear(width):
    return {'type': 'effvit_mm.LinearClsHead', 'in_channels': width}


DEIT = classifier('VisionTransformer', VIT, linear(24), **TOKEN, img_size=32)
PAIR = {'type': 'effvit_mm.DistilledClsHead', 'widths': (24, 24)}
LEVIT_HEAD = {'type': 'effvit_mm.LeViTClsHead', 'in_channels': 32}
POOL = {'neck': {'type': 'GlobalAveragePooling'}}
SAMPLING = {'attention': {'type': 'EAttention', 'num_samples': 3}, 'sampled_blocks': (2, 3)}
FAMILIES = {
    'PSLT': classifier('PSLT', PSLT, linear(192)),
    "PSLT, mmpretrain's head": {
        **classifier('PSLT', PSLT, {'type': 'LinearClsHead', 'in_channels': 192}),
        **POOL,
    },
    'CrossViT': classifier(
        'CrossViT', CROSSVIT, {'type': 'effvit_mm.TokenClsHead', 'widths': (24, 48)}, **TOKEN
    ),
    'DeiT': DEIT,
    'DeiT distilled': classifier('VisionTransformer', VIT, PAIR, **TOKEN, distilled=True),
    'LeViT': classifier('LeViT', LEVIT, LEVIT_HEAD),
    'MViTv2': classifier('MViTv2', MVITV2, linear(96)),
    'Castling-DeiT': classifier(
        'VisionTransformer', VIT, PAIR, **TOKEN, **CASTLING, distilled=True
    ),
    'Castling-LeViT': classifier('LeViT', LEVIT, LEVIT_HEAD, **CASTLING),
    'Castling-MViTv2': classifier('MViTv2', MVITV2, linear(96), **CASTLING),
    'lightweight': classifier('VisionTransformer', VIT, linear(24), **TOKEN, **SAMPLING),
}
UNTRAINED = {'timm': 'test_resnet', 'untrained': True}
PREPROCESSOR = {'mean': [120.0, 110.0, 100.0], 'std': [60.0, 55.0, 50.0], 'to_rgb': True}
HEAD_OF_FIVE = {'head': {'num_classes': CLASSES}}


def build(teacher=UNTRAINED, distillation=None, model=DEIT, preprocessor=PREPROCESSOR, **kwargs):
    return MODELS.build(
        {
            'type': 'effvit_mm.DistilledClassifier',
            **copy.deepcopy(model),
            'data_preprocessor': dict(preprocessor),
            'teacher': teacher,
            'distillation': distillation,
            **kwargs,
        }
    )


def batch(size=32, count=4, mixed=False):
    """Raw images as a loader gives them, BGR in whole numbers of 0 to 255, with labels."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i % CLASSES) for i in range(count)]
    if mixed:
        for sample, score in zip(samples, torch.rand(count, CLASSES).softmax(1), strict=True):
            sample.set_gt_score(score)
    return {'inputs': list(images), 'data_samples': samples}


def raw_rgb(data):
    return torch.stack(data['inputs']).float().flip(1)


def randomised(model):
    for value in model.state_dict().values():
        if value.is_floating_point():
            torch.nn.init.uniform_(value, 0.01, 0.1)
    return model.eval()
