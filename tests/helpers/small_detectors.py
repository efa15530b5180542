"""Configs and checkpoints of small detectors, one-stage and with masks."""

from __future__ import annotations

from pathlib import Path

import torch

from effvit_mm.openmm.trained import build_detector

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ('red', 'white', 'platelet')
EXTRA = """
model.update(
    backbone=dict(
        type='effvit_mm.PSLT',
        arch=dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8)),
        out_indices=(1, 2, 3),
        final_norm=False,
    ),
    neck=dict(type='FPN', in_channels=[48, 96, 192], out_channels=8, num_outs=3),
)
model['test_cfg'].update(score_thr=0.0)
test_pipeline = [
    dict(type='effvit_mm.LoadImage'),
    dict(type='Resize', scale=(96, 72), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    pipeline[2],
]
test_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='effvit_mm.CocoFolder', data_root=train_dataloader['dataset']['data_root'],
        ann_file='train.json', data_prefix=dict(img='images'), pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = dict(
    type='CocoMetric', metric='bbox',
    ann_file=test_dataloader['dataset']['data_root'] + '/train.json',
)
test_cfg = dict()
"""
MASKS = """
_base_ = {base!r}
arch = dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8))
pool = dict(out_channels=16)
model = dict(
    backbone=dict(
        _delete_=True, type='effvit_mm.PSLT', arch=arch, out_indices=(0, 1, 2, 3), final_norm=False
    ),
    neck=dict(in_channels=[24, 48, 96, 192], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=pool,
        mask_roi_extractor=pool,
        bbox_head=dict(in_channels=16, fc_out_channels=16),
        mask_head=dict(in_channels=16, conv_out_channels=16),
    ),
    test_cfg=dict(rpn=dict(max_per_img=50), rcnn=dict(score_thr=0.0, max_per_img=4)),
)
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(type='PackDetInputs'),
]))
"""


def save_checkpoint(cfg, path, meta=None):
    torch.manual_seed(1)
    model = build_detector(cfg, 'test')
    for module in model.modules():  # no network of zeros and ones
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    torch.save({'state_dict': model.state_dict(), 'meta': meta or {}}, path)
    return path
