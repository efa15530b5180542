"""Graphs that users make by PyTorch's older tracer: of one image, for batches of others."""

import pytest
import torch
from networks import as_trained, deviation
from students import NETWORKS

import effvit_mm


def telling_apart(name):
    """A network whose weights are so large that images differ in what it gives."""
    model = as_trained(effvit_mm.create_model(name, num_classes=7, **NETWORKS[name])).eval()
    for p in model.parameters():
        p.mul_(3 if p.ndim > 1 else 1)
    return model


def assert_same(got, want):
    assert (want[:1] - want[1:]).abs().amax(1).min() > 0.01 * want.abs().max()
    assert deviation([got], [want]) < 1e-4


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('deploy', [False, True])
@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_a_trace_of_one_image_holds_for_others(name, deploy):
    torch.manual_seed(0)
    model = telling_apart(name)
    if deploy:
        model.switch_to_deploy()
    images = torch.randn(4, 3, 128, 160) * 2
    traced = torch.jit.trace(model, images[:1])
    want = model(images[1:])
    assert_same(traced(images[1:]), want)
    assert deviation([model(images[1:])], [want]) == 0  # nothing of the trace stays behind


@pytest.mark.filterwarnings('ignore')  # the exporter says that it is old, and that sizes are fixed
@pytest.mark.parametrize('name', NETWORKS)
@torch.no_grad()
def test_an_onnx_file_of_a_trace_takes_other_batches(name, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    model = telling_apart(name)
    model.switch_to_deploy()
    images, file = torch.randn(4, 3, 128, 160) * 2, tmp_path / 'a.onnx'
    torch.onnx.export(
        model, images[:1], file, dynamo=False, input_names=['images'],
        dynamic_axes={'images': {0: 'batch'}}, opset_version=17,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    got = torch.from_numpy(session.run(None, {'images': images[1:].numpy()})[0])
    assert_same(got, model(images[1:]))
