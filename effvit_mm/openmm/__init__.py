"""All that touches mmengine, mmcv, mmpretrain and mmdet."""
