"""Accuracy on ImageNet-1k that papers and libraries print, for networks that are benchmarked.

Nothing was trained on ImageNet here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from effvit_mm.models import MODEL_TABLE

from .workload import OURS, kind_of

# Top-1 as printed, in percent, by source.
PUBLISHED: dict[str, dict[str, float]] = {
    'PSLT, arXiv 2304.03481': {'pslt_base': 79.9},
    'CrossViT, arXiv 2103.14899': {
        'crossvit_tiny': 73.4,
        'crossvit_small': 81.0,
        'crossvit_base': 82.2,
        'crossvit_9': 73.9,
        'crossvit_15': 81.5,
        'crossvit_18': 82.5,
        'crossvit_9_dagger': 77.1,
        'crossvit_15_dagger': 82.3,
        'crossvit_18_dagger': 82.8,
        'crossvit_15_dagger_408': 83.5,
        'crossvit_18_dagger_408': 83.9,
    },
    'LeViT, arXiv 2104.01136': {
        'levit_128s': 76.6,
        'levit_128': 78.6,
        'levit_192': 80.0,
        'levit_256': 81.6,
        'levit_384': 82.6,
    },
    'DeiT, arXiv 2012.12877': {
        'deit_tiny': 72.2,
        'deit_small': 79.8,
        'deit_base': 81.8,
        'deit_tiny_distilled': 74.5,
        'deit_small_distilled': 81.2,
        'deit_base_distilled': 83.4,
    },
    'MViTv2, arXiv 2112.01526': {
        'mvitv2_tiny': 82.3,
        'mvitv2_small': 83.6,
        'mvitv2_base': 84.4,
    },
    'Castling-ViT, quoted by QT-ViT': {
        'castling_deit_tiny': 76.0,
        'castling_deit_base': 84.2,
        'castling_mvitv2_base': 85.0,
    },
}
# Networks of timm alone, with the name of the weights where timm's own choice is not meant: top-1,
# and the side of the images in pixels that it holds for. CPUBone's are timm's names of the networks
# that have the parameters and multiply-adds of the paper's B1 and B2.
TIMM: dict[str, dict[str, tuple[float, int]]] = {
    'CPUBone, arXiv 2603.26425': {
        'cpubone_b1_bfrobust': (78.7, 224),
        'cpubone_b2_bfrobust': (80.3, 224),
    },
    'LowFormer, arXiv 2409.03460': {'lowformer_b1': (79.9, 224)},
    'RepViT, arXiv 2307.09283, 300 epochs': {'repvit_m1_1': (80.7, 224)},
    "timm's results-imagenet.csv": {
        'mobilenetv4_conv_medium': (79.9, 256),
        'mobilenetv4_conv_medium.e500_r224_in1k': (79.1, 224),
    },
}
# What timm's names have behind those that our networks have too.
TIMM_ENDINGS = re.compile(r'(_patch16)?_(224|240)$')
TORCHVISION_WEIGHTS = 'IMAGENET1K_V1'  # by the recipes of the papers; V2 are torchvision's own


class Accuracy(NamedTuple):
    """Top-1 in percent, who says so, and the side of the images in pixels that it holds for."""

    top1: float
    source: str
    size: int


def published_size(name: str) -> int:
    """Side of the images, in pixels, that a model's published figures are for."""
    family, preset = MODEL_TABLE[name]
    return family.backbone.arch_settings[preset['arch']].get('img_size', 224)


def published_accuracy(model: str) -> Accuracy | None:
    """What is printed for a model, named as in a benchmark; None where nothing is known here."""
    kind, name = kind_of(model), model.partition(':')[2] or model
    if kind == 'torchvision':
        return _torchvision_accuracy(name)
    if kind == 'timm':
        return _timm_accuracy(name)
    return _paper_accuracy(name) if kind == OURS else None


def _paper_accuracy(name: str) -> Accuracy | None:
    for source, table in PUBLISHED.items():
        if name in table:
            return Accuracy(table[name], source, published_size(name))
    return None


def _timm_accuracy(name: str) -> Accuracy | None:
    architecture = name.partition('.')[0]
    for key in (name, architecture):
        for source, table in TIMM.items():
            if key in table:
                return Accuracy(table[key][0], source, table[key][1])
    return _paper_accuracy(TIMM_ENDINGS.sub('', architecture))


def _torchvision_accuracy(name: str) -> Accuracy | None:
    from torchvision.models import get_model_weights

    weights = getattr(get_model_weights(name), TORCHVISION_WEIGHTS, None)
    if weights is None:
        return None
    top1 = weights.meta['_metrics']['ImageNet-1K']['acc@1']
    size = weights.transforms.keywords['crop_size']
    return Accuracy(top1, f'torchvision, {TORCHVISION_WEIGHTS}', size)
