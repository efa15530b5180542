# DeiT-tiny cut to what two CPU cores train in minutes, for images of 28 pixels: a third of the
# width and of the depth, patches of 4 pixels. All comparisons on Fashion-MNIST start from it.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='effvit_mm.VisionTransformer',
        arch=dict(embed_dims=64, depths=(1, 1, 1, 1), num_heads=4, mlp_ratio=4),
        patch_size=4,
        img_size=28,
        out_type='cls_token',
        drop_path_rate=0.0,
    ),
    head=dict(type='effvit_mm.LinearClsHead', in_channels=64, num_classes=10),
)
