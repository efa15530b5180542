# The small CrossViT of crossvit_tiny_28.py for images of 32 pixels.
_base_ = './crossvit_tiny_28.py'

model = dict(backbone=dict(arch=dict(img_size=32)))
