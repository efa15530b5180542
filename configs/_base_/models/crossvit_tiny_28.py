# CrossViT-tiny cut to what two CPU cores train in minutes, for images of 28 pixels: a third of the
# widths, half the depth, patches of 3 and 4 pixels.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='effvit_mm.CrossViT',
        arch=dict(
            embed_dims=(32, 64),
            depth=2,
            num_heads=4,
            mlp_ratio=4,
            patch_embed='linear',
            img_size=28,
        ),
        patch_sizes=(3, 4),
        out_type='cls_token',
        drop_path_rate=0.0,
    ),
    head=dict(type='effvit_mm.TokenClsHead', widths=(32, 64), num_classes=10),
)
