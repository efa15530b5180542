# Mask R-CNN for small images on a CPU: a pyramid of 128 channels, fewer and narrower layers in the
# heads, fewer proposals. Objects are expected from 12 pixels on.
_base_ = './mask-rcnn_fpn.py'

model = dict(
    neck=dict(out_channels=128),
    rpn_head=dict(in_channels=128, feat_channels=128, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128, finest_scale=28),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128, finest_scale=28),
        mask_head=dict(num_convs=2, in_channels=128, conv_out_channels=128),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=500), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
