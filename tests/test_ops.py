"""mmcv's operators without compiled code: numbers, import hook, table, and mmdet on top.

Operators are called through mmcv's own functions. ``data/mmcv_ops.npz`` holds figures of the
compiled ones, and what they were made with.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import every_device

import effvit_mm.ops

# isort: split
import mmcv.ops  # after the import hook

with np.load(Path(__file__).parent / 'data' / 'mmcv_ops.npz') as file:
    GOLDEN = {key: file[key] for key in file.files}
SEEDS = json.loads(str(GOLDEN['spec']))['inputs']['deform']


def seeded(seed, *shape):
    """The standard normal values that the golden figures were made with."""
    values = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(values)


def golden(name):
    return torch.from_numpy(GOLDEN[f'out/{name}'])


def assert_golden(value, name, tolerance):
    value = value.detach().cpu()
    if f'out/{name}' in GOLDEN:
        want = golden(name)
    else:
        assert value.shape == tuple(GOLDEN[f'shape/{name}'])
        want = torch.from_numpy(GOLDEN[f'val/{name}'])
        value = value.flatten()[torch.from_numpy(GOLDEN[f'at/{name}'])]
    torch.testing.assert_close(value, want, rtol=tolerance, atol=tolerance)


# ---- The compiled operators' numbers ----------------------------------------------------------


@pytest.fixture
def golden_boxes():
    return golden('inputs/boxes'), seeded(32, 300).sigmoid()


@every_device
@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('nms_0.3', {'iou_threshold': 0.3}),
        ('nms_0.5', {'iou_threshold': 0.5}),
        ('nms_0.7', {'iou_threshold': 0.7}),
        ('nms_offset1', {'iou_threshold': 0.5, 'offset': 1}),
        ('nms_score_max', {'iou_threshold': 0.5, 'score_threshold': 0.3, 'max_num': 20}),
    ],
)
def test_nms_gives_the_compiled_boxes(golden_boxes, name, options, device):
    dets, index = mmcv.ops.nms(*(x.to(device) for x in golden_boxes), **options)
    assert dets.device.type == index.device.type == device
    assert index.tolist() == golden(f'{name}/index').tolist()
    boxes, scores = golden_boxes
    assert torch.equal(dets.cpu(), torch.cat((boxes, scores[:, None]), 1)[index.cpu()])


@every_device
def test_batched_nms_gives_the_compiled_boxes(golden_boxes, device):
    boxes, scores = (x.to(device) for x in golden_boxes)
    labels = torch.arange(300, device=device) % 5
    dets, index = mmcv.ops.batched_nms(boxes, scores, labels, {'type': 'nms', 'iou_threshold': 0.5})
    assert index.tolist() == golden('batched_nms/index').tolist()
    assert_golden(dets, 'batched_nms/dets', 1e-5)


@every_device
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_gives_the_compiled_boxes_and_scores(golden_boxes, method, device):
    dets, index = mmcv.ops.soft_nms(*(x.to(device) for x in golden_boxes), method=method)
    assert dets.device.type == index.device.type == device
    assert index.tolist() == golden(f'soft_nms_{method}/index').tolist()
    assert_golden(dets, f'soft_nms_{method}/dets', 1e-5)


@every_device
@pytest.mark.parametrize('sampling', [0, 2])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_gives_the_compiled_values_and_gradient(aligned, sampling, device):
    feature = seeded(33, 2, 8, 25, 30).to(device).requires_grad_()
    rois = golden('inputs/rois').to(device)
    y = mmcv.ops.roi_align(feature, rois, (7, 7), 1 / 8, sampling, 'avg', aligned)
    y.backward(seeded(SEEDS['roi_align grad of y'], 20, 8, 7, 7).to(device))
    name = f'roi_align_aligned{int(aligned)}_sampling{sampling}'
    assert_golden(y, f'{name}/y', 1e-5)
    assert_golden(feature.grad, f'{name}/grad', 1e-4)


@every_device
@pytest.mark.parametrize('name', ['deform_conv', 'modulated_deform_conv'])
def test_deform_conv_gives_the_compiled_values_and_gradients(name, device):
    tensors = {
        'x': seeded(36, 2, 4, 12, 10),
        'offset': seeded(37, 2, 18, 12, 10),
        'mask': seeded(38, 2, 9, 12, 10).sigmoid(),
        'weight': seeded(39, 6, 4, 3, 3),
    }
    x, offset, mask, weight = (t.to(device).requires_grad_() for t in tensors.values())
    if name == 'deform_conv':
        y = mmcv.ops.deform_conv2d(x, offset, weight, 1, 1)
    else:
        y = mmcv.ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1)
    y.backward(seeded(40, 2, 6, 12, 10).to(device))
    assert_golden(y, f'{name}/y', 1e-5)
    for key, tensor in zip(tensors, (x, offset, mask, weight), strict=True):
        if key != 'mask' or name == 'modulated_deform_conv':
            assert_golden(tensor.grad, f'{name}/grad_{key}', 1e-4)


# ---- The import hook -------------------------------------------------------------------------

ROOT = Path(effvit_mm.ops.__file__).parents[2]


@pytest.fixture
def run_python(pythons):
    """Standard output of a new interpreter that finds this effvit_mm."""

    def run(*arguments):
        done = pythons.run(*arguments, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_importing_the_package_loads_no_host_and_then_mmcv_ops_works(run_python):
    printed = run_python(
        '-c',
        """
import sys
import effvit_mm.ops
print([name for name in ('mmcv', 'mmdet', 'mmpretrain', 'torchreid') if name in sys.modules])
import torch, mmcv.ops
print(mmcv.ops.nms(torch.tensor([[0., 0, 2, 2], [0, 0, 2, 1.9]]), torch.ones(2), 0.5)[1].tolist())
""",
    )
    assert printed.splitlines() == ['[]', '[0]']


def test_mmcv_ops_works_after_an_import_that_failed(run_python):
    printed = run_python(
        '-c',
        """
import importlib, mmcv
try:
    import mmcv.ops
except ModuleNotFoundError as error:
    print(error.name)
import effvit_mm.ops
importlib.import_module('mmcv.ops')
print(effvit_mm.ops.finder.__name__ == mmcv._ext.__spec__.origin)
""",
    )
    assert printed.splitlines() == ['mmcv._ext', 'True']


REAL_EXTENSION = """
import sys
import effvit_mm.ops, mmcv
mmcv.__path__.append(sys.argv[1])
try:
    from mmcv import _ext
    print(_ext.__file__, hasattr(_ext, 'nms'))
except ImportError as error:
    print(error)
"""


def test_a_real_extension_is_not_shadowed(run_python, tmp_path):
    file = tmp_path / '_ext.py'
    file.write_text('')
    assert run_python('-c', REAL_EXTENSION, str(tmp_path)).strip() == f'{file} False'


def test_a_broken_extension_is_not_replaced(run_python, tmp_path):
    (tmp_path / '_ext.py').write_text("raise ImportError('undefined symbol: _Z3foo')")
    assert run_python('-c', REAL_EXTENSION, str(tmp_path)).strip() == 'undefined symbol: _Z3foo'


def ours():
    return [x for x in sys.meta_path if type(x).__name__ == 'StandInFinder']


def test_install_adds_one_finder_at_the_end(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [x for x in sys.meta_path if x not in ours()])
    monkeypatch.delitem(sys.modules, 'mmdet.models', raising=False)
    before = list(sys.meta_path)
    effvit_mm.ops.install()
    assert sys.meta_path[:-1] == before
    assert ours() == sys.meta_path[-1:]
    effvit_mm.ops.install()
    importlib.reload(effvit_mm.ops.finder).install()
    assert len(ours()) == 1


@pytest.mark.parametrize('name', ['mmcv', 'mmcv.ops', 'mmcv._ext.nms', '_ext', 'mmdet._ext'])
def test_the_finder_answers_for_no_other_module(name):
    assert ours()[0].find_spec(name) is None


def test_install_warns_if_mmdet_came_first(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [x for x in sys.meta_path if x not in ours()])
    monkeypatch.setitem(sys.modules, 'mmdet.models', sys)
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    with pytest.warns(UserWarning, match="'import effvit_mm' before the first import of mmdet"):
        effvit_mm.ops.install()


def test_an_uncovered_operator_says_its_name_and_the_remedy():
    features, masks = torch.ones(1, 2, 4, 4), torch.ones(1, 9, 8, 8)
    with pytest.raises(NotImplementedError, match="'carafe_forward'") as raised:
        mmcv.ops.carafe(features, masks, 3, 1, 2)
    assert 'pip install --no-build-isolation --no-binary onedl-mmcv' in str(raised.value)
    with pytest.raises(NotImplementedError, match="'roi_align_rotated_forward'"):
        mmcv.ops.roi_align_rotated(torch.ones(1, 1, 4, 4), torch.ones(1, 6), 2, 1.0, 2)


@pytest.mark.parametrize('name', ['__path__', '__wrapped__', '_private'])
def test_private_names_are_not_operators(name):
    with pytest.raises(AttributeError, match=name):
        getattr(sys.modules['mmcv._ext'], name)


def test_mmcv_can_report_its_environment():
    from mmcv.utils import collect_env

    assert 'torchvision' in collect_env()['MMCV Compiler']


def test_the_table_names_a_backend_of_every_operator():
    module = importlib.import_module('effvit_mm.ops.__main__')
    wanted = {name for names in module.wanted_operators().values() for name in names}
    backends = {name: row.backend for row in module.rows() for name in row.operators}
    assert set(backends) == wanted
    assert backends['nms'] == 'torchvision'
    assert backends['softnms'] == 'torch'
    assert backends['carafe_forward'] == 'not available'
    covered = importlib.import_module('effvit_mm.ops.operators').OPERATORS
    assert set(covered) == {name for name in wanted if backends[name] != 'not available'}


def test_the_command_prints_the_table_versions_and_remedy(run_python):
    printed = run_python('-m', 'effvit_mm.ops')
    for text in (
        torch.__version__.split('+')[0],
        'roi_align',
        'torchvision',
        'MMCV',
        'pip install',
    ):
        assert text.lower() in printed.lower()


def test_the_command_says_that_mmcv_is_not_installed(monkeypatch, capsys):
    module = importlib.import_module('effvit_mm.ops.__main__')
    monkeypatch.setattr(sys, 'meta_path', [])
    for name in [name for name in sys.modules if name.split('.')[0] == 'mmcv']:
        monkeypatch.delitem(sys.modules, name)
    assert module.main() == 0
    assert 'mmcv is not installed' in capsys.readouterr().out


# ---- mmdet -----------------------------------------------------------------------------------


def small_detector(name):
    """A detector of mmdet's own base configs on ResNet-18, for 3 classes, without weights."""
    import mmdet
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    folder = Path(mmdet.__file__).parent / '.mim' / 'configs' / '_base_' / 'models'
    model = Config.fromfile(folder / f'{name}.py').model
    model.backbone.update(depth=18, init_cfg=None, frozen_stages=-1)
    model.neck.update(in_channels=[64, 128, 256, 512], out_channels=32)
    if 'roi_head' in model:
        model.rpn_head.update(in_channels=32, feat_channels=32)
        heads = model.roi_head
        heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 32
        heads.bbox_head.update(in_channels=32, fc_out_channels=64, num_classes=3)
        heads.mask_head.update(in_channels=32, conv_out_channels=32, num_classes=3)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    else:
        model.bbox_head.update(in_channels=32, feat_channels=32, num_classes=3)
        model.test_cfg.update(score_thr=0.0, max_per_img=5)
    return MODELS.build(model)


@every_device
@pytest.mark.parametrize('name', ['retinanet_r50_fpn', 'mask-rcnn_r50_fpn'])
def test_mmdet_trains_and_predicts(name, device):
    torch.manual_seed(0)
    model = small_detector(name).to(device)
    from mmdet.testing import demo_mm_inputs

    images = demo_mm_inputs(
        2, [[3, 128, 96], [3, 100, 128]], num_items=[2, 3], num_classes=3, with_mask=True
    )
    data = model.train().data_preprocessor(images, True)
    losses = model(**data, mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    grads = {key: value.grad for key, value in model.backbone.named_parameters()}
    assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
    assert grads['conv1.weight'].abs().sum() > 0

    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(images, False), mode='predict')
    for result in results:
        found = result.pred_instances
        assert 0 < len(found) <= 5
        assert found.bboxes.isfinite().all()
        assert len(found.bboxes) == len(found.scores) == len(found.labels)
        if name.startswith('mask'):
            assert tuple(found.masks.shape[1:]) == tuple(result.ori_shape)
