# From softmax attention: name the checkpoint of deit-tiny_fashion-mnist.py by
# --cfg-options model.backbone.init_cfg.checkpoint=work_dirs/deit-tiny_fashion-mnist/epoch_5.pth
_base_ = './castling-deit-tiny_fashion-mnist.py'

model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/deit-tiny_fashion-mnist/epoch_5.pth')
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
