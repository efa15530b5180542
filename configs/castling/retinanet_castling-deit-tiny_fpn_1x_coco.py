_base_ = [
    '../_base_/models/retinanet_simple-pyramid.py',
    '../_base_/backbones/castling-deit-tiny.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime_det.py',
]

model = dict(backbone=dict(_delete_=True, **_base_.backbone))

# For weights from classification: each block learns at 0.7 times the rate of the block above it, as
# ViTDet has it for 12 blocks. From scratch: --cfg-options
# optim_wrapper.paramwise_cfg.layer_decay_rate=1.
optim_wrapper = dict(
    constructor='effvit_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
