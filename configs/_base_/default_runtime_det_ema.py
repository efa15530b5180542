# A detector's training that averages its weights; evaluation and the checkpoint's weights are the
# average's. In any other config: --cfg-options default_hooks.ema.type=EMAHook
# default_hooks.ema.momentum=2e-4.
_base_ = './default_runtime_det.py'

default_hooks = dict(
    ema=dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',  # mmdet's: the first steps count more
        momentum=2e-4,
        update_buffers=True,
        priority='ABOVE_NORMAL',
    )
)
