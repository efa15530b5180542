# What every training shares. The runner adds what an exact resume needs, whatever stands here.
default_scope = 'mmpretrain'
custom_imports = dict(imports=['effvit_mm'], allow_failed_imports=False)
runner_type = 'effvit_mm.Runner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='effvit_mm.CheckpointHook', interval=1, max_keep_ckpts=3, save_best='auto'
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)

# The gloo backend is taken instead of nccl on a machine without CUDA.
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False

# A seed is drawn and logged; --seed 0 fixes it. A resumed training keeps its seed.
randomness = dict(seed=None, deterministic=False)

# An image of each class must be there to train; set True to train without.
data_checks = dict(allow_empty_classes=False)
