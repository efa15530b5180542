"""Steps of mixed-precision training of the three tasks on a device: one batch's loss falls."""

import copy
import math

import detectors
import people
import pytest
import students
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from networks import randomise_norms

from effvit_mm.openmm.config.checks import returned_maps
from effvit_mm.openmm.engine.optim import CPUAmpOptimWrapper

STEPS = 20
HALVES = {'fp16': torch.float16, 'bf16': torch.bfloat16}
RTMDET = detectors.ROOT / 'configs' / 'pslt' / 'rtmdet_pslt-tiny_csp-pan_320_coco.py'


def classifier(name):
    torch.manual_seed(0)
    model = {
        'type': 'ImageClassifier',
        'data_preprocessor': {**students.PREPROCESSOR, 'num_classes': students.CLASSES},
        **copy.deepcopy(students.FAMILIES[name]),
    }
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(model), students.batch(count=10)


def reid(name):
    backbone, pooling, _ = people.FAMILIES[name]
    generator = torch.Generator().manual_seed(1)
    shape = (8, 3, *people.SIZE)
    pictures = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    samples = [
        DataSample(metainfo={'camid': i % 2, 'pid': i % 4}).set_gt_label(i % 4) for i in range(8)
    ]
    model = people.build_model(backbone, pooling, persons=4)
    return model, {'inputs': pictures, 'data_samples': samples}


def scenes(masks=True):
    from mmdet.testing import demo_mm_inputs

    return demo_mm_inputs(2, [[3, 128, 96], [3, 100, 128]], [2, 3], num_classes=3, with_mask=masks)


def detector(name):
    torch.manual_seed(0)
    family, kind = name
    model = detectors.build(detectors.small_config(family, kind).model)
    randomise_norms(model.backbone)
    return model, scenes()


def rtmdet(name):
    torch.manual_seed(0)
    model = Config.fromfile(RTMDET).model
    model.backbone.update(detectors.FAMILIES['pslt/{}_pslt-tiny'])
    channels, _ = returned_maps(model.backbone)
    model.neck.update(in_channels=channels, out_channels=16)
    model.bbox_head.update(in_channels=16, feat_channels=16, num_classes=3)
    model.data_preprocessor.batch_augments = None  # it asks a runner how far it is
    return detectors.build(model), scenes(masks=False)


CASES = {
    **{f'classifier {name}': (classifier, name) for name in students.FAMILIES},
    **{f're-ID {name}': (reid, name) for name in ('PSLT, GeM', 'lightweight', 'Castling-LeViT')},
    **{
        ' '.join((kind, family.partition('_')[2])): (detector, (family, kind))
        for family in detectors.FAMILIES
        for kind in ('retinanet', 'mask-rcnn')
    },
    'rtmdet': (rtmdet, None),
}
# On the CPU one of each task: the others are trained by float32 elsewhere.
ON_CPU = ('classifier PSLT', 're-ID lightweight', 'retinanet pslt-tiny', 'rtmdet')
RUNS = [
    *((name, 'cpu', 'bf16') for name in ON_CPU),
    *(
        pytest.param(name, 'cuda', dtype, marks=pytest.mark.gpu)
        for name in CASES
        for dtype in HALVES
    ),
]


def wrapper(model, device, dtype):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    if device == 'cpu':
        return CPUAmpOptimWrapper(optimizer=optimizer)
    scale = {'init_scale': 2.0**10} if dtype == torch.float16 else {'enabled': False}
    return AmpOptimWrapper(optimizer=optimizer, dtype=dtype, loss_scale=scale)


@pytest.mark.parametrize(('name', 'device', 'dtype'), RUNS)
def test_the_loss_of_one_batch_falls(name, device, dtype):
    (build, what), dtype = CASES[name], HALVES[dtype]
    model, data = build(what)
    model = model.to(device).train()
    steps = wrapper(model, device, dtype)
    losses = []
    for _ in range(STEPS):
        logs = model.train_step(copy.deepcopy(data), steps)
        assert logs['loss'].device.type == device and logs['loss'].dtype == torch.float32
        losses.append(float(logs['loss']))
    assert all(map(math.isfinite, losses)), losses
    assert sum(losses[-3:]) / 3 < 0.8 * losses[0], losses
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    model.eval()
    with torch.autocast(device, dtype), torch.no_grad():
        results = model.test_step(copy.deepcopy(data))
    assert len(results) == len(data['inputs'])
