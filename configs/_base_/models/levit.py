# LeViT-128S for ImageNet-1k with its teacher, RegNetY-160 of 224 pixels, whose published weights timm
# downloads (in a file already: teacher=dict(pretrained=False, checkpoint='file')). One head follows
# the label and one the teacher. A variant has another arch, and its last width in the head.
model = dict(
    type='effvit_mm.DistilledClassifier',
    backbone=dict(type='effvit_mm.LeViT', arch='128s'),
    head=dict(
        type='effvit_mm.LeViTClsHead',
        in_channels=384,
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    teacher=dict(timm='regnety_160.deit_in1k', pretrained=True),
    distillation=dict(mode='hard', weight=0.5),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
