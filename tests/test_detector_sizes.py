"""The detectors of every family, whole: two steps of their own optimizer, predictions at two sizes.

``python -m benchmarks.check_detectors`` does the same at full size.
"""

import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from benchmarks.measure.detector_check import check_prediction, check_training, random_detector

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
EVEN, ODD = (64, 96), (67, 101)
PATTERNS = ('*/retinanet_*_1x_coco.py', '*/mask-rcnn_*_1x_coco.py', '*/rtmdet_*_320_coco.py')
DETECTORS = sorted(
    str(path.relative_to(CONFIGS)) for pattern in PATTERNS for path in CONFIGS.glob(pattern)
)
# The same networks, trained for longer.
LONG = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob('*/*_ms-3x_coco.py'))
# Of what costs time whatever the backbone is.
LESS = {
    'mask-rcnn': [
        'model.train_cfg.rcnn.sampler.num=16',
        'model.roi_head.bbox_head.fc_out_channels=64',
        'model.train_cfg.rpn_proposal.max_per_img=50',
        'model.test_cfg.rpn.max_per_img=50',
        'model.test_cfg.rcnn.score_thr=0.0',
        'model.test_cfg.rcnn.max_per_img=5',
    ],
    'retinanet': ['model.test_cfg.score_thr=0.0', 'model.test_cfg.max_per_img=5'],
}


@pytest.fixture(autouse=True)
def _quiet():
    """mmengine's logger has a line for each parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    yield
    logger.setLevel(level)


def test_every_family_has_both_detectors():
    families = ('castling', 'crossvit', 'lightweight_vit', 'pslt')
    for detector in ('retinanet', 'mask-rcnn'):
        found = {name.split('/')[0] for name in DETECTORS if f'/{detector}_' in name}
        assert found == set(families)


@pytest.mark.parametrize('name', DETECTORS)
def test_trains_two_steps_and_predicts_at_an_even_and_an_odd_size(name):
    less = LESS.get(Path(name).name.split('_')[0], [])
    cfg, model = random_detector(str(CONFIGS / name), less)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    with DefaultScope.overwrite_default_scope('mmdet'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    for size in (EVEN, ODD):
        assert len(check_training(model, optimizer, size, 1, iterations=1).losses) == 1
        assert check_prediction(model, size).levels == cfg.model.neck.num_outs
    still = [key for key, p in model.named_parameters() if torch.equal(p, before[key])]
    assert len(still) < 0.1 * len(before), still  # a dropped path leaves its norms as they are


@pytest.mark.parametrize('name', LONG)
def test_a_long_schedule_trains_the_same_network(name):
    short = name.replace('_ms-3x_', '_1x_')
    assert short in DETECTORS
    assert Config.fromfile(CONFIGS / name).model == Config.fromfile(CONFIGS / short).model


@pytest.mark.parametrize('name', [d for d in DETECTORS if '_pslt-tiny_' in d])
def test_trains_in_mixed_precision(name):
    """Losses are near those of full precision, the dense heads' and the second stage's too.

    The second stage takes all regions: of 16 that are drawn, rounding changes which.
    """
    less = [item for item in LESS.get(Path(name).name.split('_')[0], []) if 'sampler' not in item]
    losses = {}
    for kind in ('OptimWrapper', 'effvit_mm.CPUAmpOptimWrapper'):
        cfg, model = random_detector(str(CONFIGS / name), less)
        with DefaultScope.overwrite_default_scope('mmdet'):
            optimizer = build_optim_wrapper(model, {**cfg.optim_wrapper, 'type': kind})
        losses[kind] = check_training(model, optimizer, EVEN, 1, iterations=2).losses[0]
    full, mixed = losses.values()
    assert full != mixed
    assert mixed == pytest.approx(full, rel=0.05)
