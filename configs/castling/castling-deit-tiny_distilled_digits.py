# Learns from PSLT-tiny, which is trained first:
#     python tools/train.py configs/pslt/pslt-tiny_digits.py
# Paths are seen from the folder that train.py is run in. docs/distillation.md has other teachers.
_base_ = [
    '../_base_/models/deit_tiny_32.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adamw_20e.py',
    '../_base_/default_runtime.py',
]

# The threshold: see castling-deit-tiny_digits.py.
model = dict(
    type='effvit_mm.DistilledClassifier',
    backbone=dict(
        distilled=True,
        attention=dict(type='effvit_mm.LinearAngularAttention', threshold=0.015),
    ),
    head=dict(_delete_=True, type='effvit_mm.DistilledClsHead', widths=(64, 64), num_classes=10),
    teacher=dict(
        config='configs/pslt/pslt-tiny_digits.py',
        checkpoint='work_dirs/pslt-tiny_digits/epoch_20.pth',
    ),
    distillation=dict(mode='hard', weight=0.5),
)
# The last two epochs train what inference runs: the linear part alone.
custom_hooks = [dict(type='effvit_mm.MaskedSoftmaxHook', final_threshold=0.2, drop_epoch=18)]
