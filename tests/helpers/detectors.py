"""Small detectors of the shipped configs: their structure, a few channels wide."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from effvit_mm.openmm.config.checks import returned_maps

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {'embed_dims': 24, 'depths': (1, 2, 1, 1), 'num_heads': 3, 'mlp_ratio': 2}
# A config of each family, and what makes its network small.
FAMILIES = {
    'pslt/{}_pslt-tiny': {'arch': {'embed_dims': 12, 'depths': (1, 1, 1, 1), 'num_heads': (4, 8)}},
    'crossvit/{}_crossvit-9': {
        'arch': {
            'embed_dims': (24, 48),
            'depth': 2,
            'num_heads': 3,
            'mlp_ratio': 2,
            'patch_embed': 'linear',
            'img_size': 240,
        },
        'window_size': 3,
    },
    'castling/{}_castling-levit-128s': {
        'arch': {
            'embed_dims': (16, 24, 32),
            'num_heads': (2, 3, 2),
            'depths': (1, 1, 1),
            'key_dim': 8,
        }
    },
    'castling/{}_castling-deit-tiny': {'arch': PLAIN, 'window_size': 3},
    'castling/{}_castling-mvitv2-tiny': {
        'arch': {'embed_dims': 12, 'num_heads': 1, 'depths': (1, 1, 1, 1)}
    },
    'lightweight_vit/{}_lightweight-vit-tiny': {'arch': PLAIN, 'sampled_blocks': (1, 3)},
}


def load(family, detector):
    return Config.fromfile(ROOT / 'configs' / f'{family.format(detector)}_fpn_1x_coco.py')


def build(model, device='cpu'):
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device(device):
        return MODELS.build(model)


def small_config(family, detector):
    """The config with a detector of three classes, a few channels wide; its structure stays."""
    config = load(family, detector)
    model = config.model
    model.backbone.update(FAMILIES[family])
    channels, _ = returned_maps(model.backbone)
    one = isinstance(model.neck.in_channels, int)
    model.neck.update(in_channels=channels[0] if one else channels, out_channels=32)
    if detector == 'mask-rcnn':
        model.rpn_head.update(in_channels=32, feat_channels=32)
        heads = model.roi_head
        heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 32
        heads.bbox_head.update(in_channels=32, fc_out_channels=64, num_classes=3)
        heads.mask_head.update(in_channels=32, conv_out_channels=32, num_classes=3)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    else:
        model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=3)
        model.test_cfg.update(score_thr=0.0, max_per_img=5)
    return config
