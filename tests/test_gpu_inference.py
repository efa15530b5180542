"""Trained models on a device against the CPU: classes, boxes, features, searches, exports."""

import cv2
import numpy as np
import pytest
import torch
from devices import every_device
from networks import as_trained, deviation, images, tensors
from people import make_people, write_people_config
from small_detectors import MASKS, ROOT, save_checkpoint
from students import DIGITS, NETWORKS, VIT

import effvit_mm
from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_classifier, build_reid
from effvit_mm.reid.search import Gallery
from effvit_mm.runtime import DeployedNetwork, export_onnx, export_program

WHOLE = {'fullgraph': True, 'dynamic': False}
# On the CPU the graphs of all networks are recorded by test_contract.py.
COMPILED = [
    ('deit_tiny_distilled', 'cpu'),
    *(pytest.param(name, 'cuda', marks=pytest.mark.gpu) for name in NETWORKS),
]
DEVICE = {'cpu': 'cpu', 'cuda': 'cuda:0'}
CLASSIFIER = f"""
_base_ = [{str(DIGITS)!r}]
model = dict(_delete_=True, type='ImageClassifier', backbone=dict(
    type='effvit_mm.VisionTransformer', arch={VIT}, patch_size=8, img_size=32,
    out_type='cls_token'), head=dict(type='effvit_mm.LinearClsHead', num_classes=10,
    in_channels=24, topk=(1,)))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs and checkpoints of the three tasks, and pictures."""
    root = tmp_path_factory.mktemp('trained')
    base = ROOT / 'configs' / 'pslt' / 'mask-rcnn_pslt-tiny_fpn_1x_coco.py'
    (root / 'classifier.py').write_text(CLASSIFIER)
    (root / 'detector.py').write_text(MASKS.format(base=str(base)))
    write_people_config(root / 'reid.py', make_people(root / 'people'))
    save_checkpoint(load_config(str(root / 'detector.py'), []), root / 'detector.pth')
    for name, build in (('classifier', build_classifier), ('reid', build_reid)):
        torch.manual_seed(0)
        model = as_trained(build(load_config(str(root / f'{name}.py'), []), name))
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, root / f'{name}.pth')
    generator = np.random.default_rng(0)
    (root / 'images').mkdir()
    for number in range(5):
        picture = cv2.resize(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8), (128, 96))
        cv2.imwrite(str(root / 'images' / f'{number}.png'), picture)
    return root


def both(folder, kind, name, device):
    """As it was trained on the CPU, and deployed on the device."""
    files = folder / f'{name}.py', folder / f'{name}.pth'
    return kind(*files, device='cpu', deploy=False), kind(*files, device=DEVICE[device])


@every_device
def test_classes(folder, device):
    want, got = (
        one(folder / 'images', batch_size=3)
        for one in both(folder, effvit_mm.Classifier, 'classifier', device)
    )
    for one, other in zip(got, want, strict=True):
        assert one.label == other.label
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-4)


@every_device
def test_objects_with_masks(folder, device):
    want, got = (
        one(folder / 'images', batch_size=2, score_thr=0.0, masks=True)
        for one in both(folder, effvit_mm.Detector, 'detector', device)
    )
    assert sum(len(one['boxes']) for one in want) > 5
    for one, other in zip(got, want, strict=True):
        assert one['labels'].tolist() == other['labels'].tolist()
        np.testing.assert_allclose(one['scores'], other['scores'], rtol=0, atol=1e-4)
        np.testing.assert_allclose(one['boxes'], other['boxes'], rtol=0, atol=0.05)
        assert (one['masks'] != other['masks']).mean() < 1e-3


@every_device
def test_features_and_what_a_gallery_finds_by_them(folder, device):
    want, got = (
        one(folder / 'people' / 'bounding_box_test')
        for one in both(folder, effvit_mm.ReIDExtractor, 'reid', device)
    )
    np.testing.assert_allclose(got.features, want.features, rtol=0, atol=1e-3)
    assert got.model == want.model
    gallery = Gallery(want.width, want.model)
    gallery.add(want)
    found, distances = gallery.search(got, 3)  # features of both may be mixed
    assert found[:, 0].tolist() == list(range(len(want)))
    np.testing.assert_allclose(distances[:, 0], 0, atol=1e-4)
    assert found.tolist() == gallery.search(want, 3)[0].tolist()


@pytest.mark.gpu
@pytest.mark.parametrize('name', ['pslt_tiny', 'castling_deit_tiny'])
@torch.no_grad()
def test_a_network_on_a_gpu_is_compiled_by_the_processors_runtimes(name, tmp_path):
    """They get a copy; to be written to a file, it has to be brought to the CPU."""
    torch.manual_seed(0)
    model = as_trained(effvit_mm.create_model(name, num_classes=7, **NETWORKS[name]))
    x = images(64, 96, batch=3)
    want = model(x)
    model = model.cuda()
    fast = effvit_mm.compile(model, 'onnxruntime', size=(64, 96), cache=tmp_path)
    assert next(model.parameters()).is_cuda
    got = fast(x.cuda())
    assert got.is_cuda and deviation(got.cpu(), want) < 1e-4
    assert deviation(effvit_mm.compile(model, 'torch')(x.cuda()).cpu(), want) < 1e-3
    network = DeployedNetwork(model)
    for write, file in ((export_onnx, 'a.onnx'), (export_program, 'a.pt2')):
        with pytest.raises(ConfigError, match=r'is on cuda:0.*model\.cpu'):
            write(network, tmp_path / file, (64, 96))
        write(network.cpu(), tmp_path / file, (64, 96))
        network.cuda()


@pytest.mark.parametrize(('name', 'device'), COMPILED)
def test_compiled_without_a_break(name, device):
    """Trained and deployed form; on CUDA by inductor, with gradients."""
    torch.manual_seed(0)
    model = as_trained(effvit_mm.create_model(name, num_classes=7, **NETWORKS[name])).to(device)
    x = images(64, 96).to(device)
    backend = 'inductor' if device == 'cuda' else 'eager'
    torch.compiler.reset()
    outputs = [network(x) for network in (model, torch.compile(model, backend=backend, **WHOLE))]
    assert deviation(outputs[1], outputs[0]) < 1e-3
    if device == 'cuda':
        want, got = (gradients(model, tensors(output)) for output in outputs)
        assert got.keys() == want.keys()
        for key, gradient in want.items():
            assert (got[key] - gradient).norm() <= 0.02 * gradient.norm() + 1e-6, key
    deployed = model.switch_to_deploy()
    with torch.no_grad():
        compiled = torch.compile(deployed, backend=backend, **WHOLE)
        assert deviation(compiled(x), deployed(x)) < 1e-3
    torch.compiler.reset()


def gradients(model, outputs):
    model.zero_grad()
    sum(output.square().mean() for output in outputs).backward()
    return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
