"""Every family as RetinaNet and Mask R-CNN of mmdet: by the shipped configs, at a small size."""

import golden
import pytest
import torch
from detectors import FAMILIES, ROOT, build, load, small_config
from mmengine.config import Config
from networks import STAGES, randomise_norms, read_fixture

import effvit_mm
from effvit_mm.weights import load_checkpoint

DETECTORS = ('retinanet', 'mask-rcnn')
CASES = [(family, detector) for family in FAMILIES for detector in DETECTORS]
every_detector = pytest.mark.parametrize(('family', 'detector'), CASES)


def small(family, detector):
    """The small detector."""
    torch.manual_seed(0)
    detector = build(small_config(family, detector).model)
    randomise_norms(detector.backbone)  # LeViT's residual branches begin at scale 0
    return detector


def batch(*sizes):
    from mmdet.testing import demo_mm_inputs

    shapes = [[3, *size] for size in sizes]
    return demo_mm_inputs(
        len(sizes), shapes, num_items=[2, 3][: len(sizes)], num_classes=3, with_mask=True
    )


@every_detector
def test_a_step_of_training_reaches_every_parameter(family, detector):
    """No parameter may be without a gradient: several processes refuse it."""
    model = small(family, detector).train()
    data = model.data_preprocessor(batch((128, 96), (100, 128)), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())
    reached = [p.grad.any() for p in model.backbone.parameters()]
    assert sum(reached) > 0.9 * len(reached)


@every_detector
@torch.no_grad()
def test_predicts_at_an_odd_size_with_the_strides_of_its_anchors(family, detector):
    model = small(family, detector).eval()
    data = model.data_preprocessor(batch((101, 131)), False)
    assert data['inputs'].shape[2:] == (128, 160)
    head = model.rpn_head if detector == 'mask-rcnn' else model.bbox_head
    strides = [stride for stride, _ in head.prior_generator.strides]
    sizes = [tuple(x.shape[2:]) for x in model.extract_feat(data['inputs'])]
    assert sizes == [(-(-128 // stride), -(-160 // stride)) for stride in strides]
    if detector == 'mask-rcnn':
        pooled = model.roi_head.bbox_roi_extractor.featmap_strides
        assert pooled == model.roi_head.mask_roi_extractor.featmap_strides == strides[:4]
    # Objects from 32 pixels on, whatever the finest map.
    smallest = head.prior_generator.base_anchors[0][:, 2:].mul(2).prod(1).sqrt().min()
    assert float(smallest) == pytest.approx(32)
    (result,) = model(**data, mode='predict')
    found = result.pred_instances
    assert 0 < len(found) <= 5 and found.bboxes.isfinite().all()
    assert found.bboxes[:, 2].max() <= 131 and found.bboxes[:, 3].max() <= 101
    if detector == 'mask-rcnn':
        assert tuple(found.masks.shape[1:]) == (101, 131)


@pytest.mark.parametrize(('detector', 'millions'), [('retinanet', 19.089), ('mask-rcnn', 28.861)])
@pytest.mark.parametrize('schedule', ['1x', 'ms-3x'])
def test_parameters_of_pslt_base_are_the_published(detector, millions, schedule):
    config = ROOT / 'configs' / 'pslt' / f'{detector}_pslt-base_fpn_{schedule}_coco.py'
    model = build(Config.fromfile(config).model, 'meta')
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize(('detector', 'lr'), [('retinanet', 1e-4), ('mask-rcnn', 6e-5)])
def test_pslt_is_trained_by_its_recipe(detector, lr):
    config = Config.fromfile(ROOT / 'configs' / 'pslt' / f'{detector}_pslt-base_fpn_ms-3x_coco.py')
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, 1e-4)
    warmup, steps = config.param_scheduler
    assert (warmup.by_epoch, warmup.end, warmup.start_factor) == (False, 500, 1e-3)
    assert (config.train_cfg.max_epochs, steps.milestones) == (36, [24, 33])
    assert config.auto_scale_lr.base_batch_size == 16 and config.sync_bn == 'torch'
    resize = config.train_dataloader.dataset.pipeline[2]
    assert resize.scale == [(1333, 640), (1333, 800)]
    assert config.model.data_preprocessor.pad_size_divisor == 32


@pytest.mark.parametrize('fixture', ['pslt_base_det320x384', 'pslt_base_det480x480'])
@torch.no_grad()
def test_the_published_maps_come_through_a_detector(fixture):
    """Through its data preprocessor, which pads the batch, and ``extract_feat``."""
    reference, x, state = read_fixture(fixture)
    config = load('pslt/{}_pslt-tiny', 'retinanet').model
    config.backbone.arch, config.neck.in_channels = 'base', [72, 144, 288, 576]
    config.data_preprocessor.update(mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=False)
    model = build(config).eval()
    ours = effvit_mm.convert_state_dict(state, 'pslt_base')
    report = load_checkpoint(model.backbone, ours, prefix='backbone.')
    assert not report.missing and not report.mismatched
    maps = []
    model.backbone.register_forward_hook(lambda module, args, out: maps.extend(out))
    # A smaller image beside it is padded to the size of the batch.
    data = model.data_preprocessor({'inputs': [*x, x[0, :, :301, :333]]}, False)
    assert data['inputs'].shape == (len(x) + 1, *x.shape[1:])
    assert not data['inputs'][-1, :, 301:].any()
    levels = model.extract_feat(data['inputs'])
    assert len(levels) == 5
    for stage, found in zip(STAGES, maps, strict=True):
        golden.check(reference, stage, found[:-1], atol=0)
