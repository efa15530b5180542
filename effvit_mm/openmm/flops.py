"""A model of mmpretrain or mmdet in the form in which its multiply-adds are counted."""

from __future__ import annotations

from mmengine.structures import InstanceData
from torch import Tensor, nn


class TensorPass(nn.Module):
    """An OpenMMLab model as a function of a batch of images, up to what its heads put out.

    Nothing is decoded or suppressed: there is little to multiply there, and how much depends on the
    image. The second stage of a detector is given as many boxes as it takes at most in inference
    (``test_cfg.rpn.max_per_img``, 1000), of which mmdet lets 100 go to the mask head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor):
        if not getattr(self.model, 'with_roi_head', False):
            return self.model(x, mode='tensor')
        maps = self.model.extract_feat(x)
        height, width = x.shape[2:]
        count = self.model.test_cfg.rpn.max_per_img
        boxes = x.new_tensor([0, 0, width / 2, height / 2]).expand(count, 4)
        proposals = [InstanceData(bboxes=boxes)] * len(x)
        return self.model.rpn_head(maps), self.model.roi_head(maps, proposals)
