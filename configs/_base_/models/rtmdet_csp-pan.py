# A light one-stage detector for small images, for COCO's 80 classes: RTMDet's anchor-free head and
# losses (mmdet's; boxes and their quality are learned together), depthwise and with towers of its own
# for each level, on a narrow CSP-PAN. A family sets the backbone and the neck's in_channels.
_base_ = './det_preprocessor.py'

model = dict(
    type='RTMDet',
    use_syncbn=False,  # it would break on CPUs; sync_bn below does it
    backbone=dict(type='effvit_mm.PSLT', arch='tiny', out_indices=(1, 2, 3), final_norm=False),
    neck=dict(type='effvit_mm.CSPPAN', in_channels=[96, 192, 384], out_channels=96, num_outs=4),
    bbox_head=dict(
        type='RTMDetSepBNHead',
        num_classes=80,
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        use_depthwise=True,
        share_conv=False,  # mmdet cannot share depthwise towers
        with_objectness=False,
        exp_on_reg=True,
        pred_kernel_size=1,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32, 64]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='HSwish', inplace=True),
    ),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.025,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
)

# Batch norms see the images of all processes. Left out on CPUs.
sync_bn = 'torch'
