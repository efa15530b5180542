# The small DeiT of deit_tiny_28.py for images of 32 pixels.
_base_ = './deit_tiny_28.py'

model = dict(backbone=dict(img_size=32))
