"""Test-time augmentation: the mean feature of an image and of its mirror image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import BaseDataElement

from ..registry import MODELS


@MODELS.register_module()
class AverageFeatureTTA(BaseTTAModel):
    """The mean of the features that an image's augmented versions have."""

    def merge_preds(
        self, data_samples_list: Sequence[Sequence[BaseDataElement]]
    ) -> list[BaseDataElement]:
        """One data sample for each image, out of those of its versions."""
        merged = []
        for versions in data_samples_list:
            sample = versions[0].new()
            sample.feature = torch.stack([version.feature for version in versions]).mean(0)
            merged.append(sample)
        return merged
