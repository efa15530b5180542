"""Detectors of mmdet to be measured: built from a config's model, on synthetic images."""

from __future__ import annotations

from mmdet.testing import demo_mm_inputs
from mmengine.config import ConfigDict
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import effvit_mm  # noqa: F401  its types are known to mmengine's registries

OBJECTS = 20  # on each synthetic image: thrice COCO's mean


def build_detector(config: dict, checkpoint: str | None = None) -> nn.Module:
    """A detector in evaluation mode.

    Args:
        config: What :func:`.workload.read_detector_config` gave.
        checkpoint: Its weights; random ones where it is None.
    """
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = revert_sync_batchnorm(MODELS.build(ConfigDict(config)))
    if checkpoint is None:
        model.init_weights()
    else:
        from effvit_mm.openmm.trained import load_trained

        load_trained(model, checkpoint)
    return model.eval()


def deploy_parts(model: nn.Module) -> None:
    """Bring the parts of a model that have a deployed form into it, in place."""
    for part in model.children():
        if hasattr(part, 'switch_to_deploy'):
            part.switch_to_deploy()
        else:
            deploy_parts(part)


def tensor_pass(model: nn.Module) -> nn.Module:
    """The detector as effvit_mm counts it: images in, what the heads put out."""
    try:
        from effvit_mm.openmm.flops import TensorPass
    except ModuleNotFoundError:  # an older tree is measured
        from effvit_mm.analysis import TensorPass
    return TensorPass(model)


def synthetic_batch(
    size: tuple[int, int], batch_size: int, num_classes: int = 2, masks: bool = False
) -> dict:
    """Images of noise with random objects, as a data loader gives them: uint8, not padded.

    Args:
        size: Height and width in pixels.
        batch_size: Images.
        num_classes: Labels lie below it.
        masks: Give the objects masks.
    """
    data = demo_mm_inputs(
        batch_size,
        [(3, *size)] * batch_size,
        num_items=[OBJECTS] * batch_size,
        num_classes=num_classes,
        with_mask=masks,
    )
    for sample in data['data_samples']:
        sample.set_metainfo({'scale_factor': (1.0, 1.0)})
        del sample.ignored_instances
    return data
