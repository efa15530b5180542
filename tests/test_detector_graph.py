"""Whole detectors as graphs: mmdet's own boxes, in PyTorch, OpenVINO and onnxruntime."""

from __future__ import annotations

from types import SimpleNamespace

import detectors
import numpy as np
import openvino
import pytest
import torch
from mmdet.structures import DetDataSample
from networks import randomise_norms
from torch import nn

from effvit_mm.deploy import switch_modules
from effvit_mm.openmm.detector_graph import DetectorGraph
from effvit_mm.runtime import onnx, onnx_session, suppression

SIZE = (124, 158)  # padded to 128 x 160
BACKBONE = {
    'type': 'ResNet', 'depth': 18, 'base_channels': 4, 'num_stages': 4,
    'out_indices': (0, 1, 2, 3), 'frozen_stages': -1,
}  # fmt: skip
# Layers that say what is found: spread wide, so that scores and boxes differ.
SPREAD = {'retina_cls': 0.05, 'retina_reg': 0.05}
KEPT = 20


def small_model(kind):
    """A detector's config with a small backbone that is quickly traced."""
    cfg = detectors.small_config('castling/{}_castling-levit-128s', kind)
    cfg.model.backbone = BACKBONE
    cfg.model.neck.in_channels = [4, 8, 16, 32]
    return cfg.model


def build(model):
    """A detector with weights that find something."""
    torch.manual_seed(0)
    detector = randomise_norms(detectors.build(model)).eval()
    for name, parameter in detector.named_parameters():
        for layer, spread in SPREAD.items():
            if layer in name:
                nn.init.normal_(parameter, std=spread)
    return detector


def images():
    """One with objects, one without any."""
    noise = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    return torch.cat((noise, torch.zeros_like(noise)))


@torch.no_grad()
def predicted(detector, x):
    """What mmdet finds, in pixels of these images."""
    meta = {'img_shape': SIZE, 'ori_shape': SIZE, 'scale_factor': (1.0, 1.0)}
    padded = nn.functional.pad(x, (0, -SIZE[1] % 32, 0, -SIZE[0] % 32))
    samples = detector.predict(padded, [DetDataSample(metainfo=meta) for _ in x], rescale=False)
    return [sample.pred_instances for sample in samples]


@pytest.fixture(scope='module', params=['retinanet'])
def made(request):
    model = small_model(request.param)
    detector = build(model)
    # A threshold between the scores of the two images.
    detector.bbox_head.test_cfg.update(score_thr=0.0, max_per_img=KEPT)
    _, nothing = predicted(detector, images())
    detector.bbox_head.test_cfg.score_thr = float(nothing.scores.max()) + 0.01
    wanted = predicted(detector, images())
    graph = DetectorGraph(switch_modules(detector), SIZE)
    program = torch.export.export(
        graph, (images(),), dynamic_shapes=({0: torch.export.Dim('batch')},), strict=False
    )
    return SimpleNamespace(graph=graph, program=program, wanted=wanted)


def assert_equal(outputs, wanted, box_tolerance=1e-4):
    """Outputs of a graph against what mmdet found, image by image; boxes in pixels of 160."""
    boxes, scores, labels = (np.asarray(output) for output in outputs)
    assert labels.dtype == np.int64
    assert boxes.shape == (len(wanted), KEPT, 4)
    for image, found in enumerate(wanted):
        count = len(found)
        np.testing.assert_allclose(scores[image, :count], found.scores, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(labels[image, :count], found.labels)
        np.testing.assert_allclose(boxes[image, :count], found.bboxes, rtol=0, atol=box_tolerance)
        assert (scores[image, count:] == 0).all()
        assert (boxes[image, count:] == 0).all()
        assert (labels[image, count:] == -1).all()


@torch.no_grad()
def test_in_pytorch_it_gives_what_mmdet_predicts(made):
    assert [len(found) > 5 for found in made.wanted] == [True, False]
    assert len(made.wanted[1]) == 0
    assert_equal(made.graph(images()), made.wanted)
    assert_equal(made.graph(images()[:1]), made.wanted[:1])


@pytest.mark.parametrize('batch', [-1, 1])
def test_in_openvino(made, batch):
    """By its reader of programs of torch.export; for any batch, and for one image."""
    model = openvino.convert_model(
        made.program, input=[(batch, 3, *SIZE)], extension=[suppression.openvino_extension()]
    )
    options = {'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = openvino.Core().compile_model(model, 'CPU', options)
    for first in range(0, 2, 2 if batch < 0 else batch):
        part = slice(first, None if batch < 0 else first + batch)
        outputs = compiled([images()[part].numpy()]).to_tuple()
        assert_equal(outputs, made.wanted[part], box_tolerance=1e-3)


def test_in_onnxruntime(made, tmp_path):
    program = torch.onnx.export(
        made.program,
        input_names=['images'],
        custom_translation_table=onnx.translations() | suppression.onnx_translation(),
        dynamo=True,
        verbose=False,
    )
    program.save(tmp_path / 'a.onnx')
    run = onnx_session(tmp_path / 'a.onnx', threads=1)
    for part in (slice(None), slice(1), slice(1, 2)):
        assert_equal(run(images()[part]), made.wanted[part], box_tolerance=1e-3)
