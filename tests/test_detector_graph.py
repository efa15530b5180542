"""Whole detectors as graphs: mmdet's own boxes, in PyTorch, OpenVINO and onnxruntime."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import coco_sets
import detectors
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from networks import randomise_norms
from programs import load_tool
from torch import nn

from effvit_mm.deploy import switch_modules
from effvit_mm.errors import ConfigError
from effvit_mm.inference.export import load_network
from effvit_mm.openmm.detector_graph import DetectorGraph
from effvit_mm.runtime import onnx, suppression
from effvit_mm.runtime.detections import detection_difference, paste_masks
from effvit_mm.runtime.openvino_core import core

MODELS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'models'
SIZE = (124, 158)  # padded to 128 x 160
WIDTHS = [4, 8, 16, 32]
RUNTIMES = 1e-5 * max(SIZE)  # pixels: steps of runtimes are rounded otherwise, by processor
KEPT = 20
# Layers that say what is found: their weights are spread wide, so that scores and boxes differ.
SPREAD = {
    'retina_cls': 0.3, 'retina_reg': 0.1, 'rtm_cls': 0.3, 'rtm_reg': 0.05, 'rpn_cls': 0.3,
    'rpn_reg': 0.05, 'fc_cls': 4.0, 'fc_reg': 0.1, 'conv_logits': 0.2,
}  # fmt: skip
SOFTMAX = {'_delete_': True, 'type': 'CrossEntropyLoss', 'use_sigmoid': False}


class Maps(nn.Module):
    """A backbone that is quickly traced: maps of strides 4 to 32."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 5, 2 if index else 4, 2)
            for index, (before, after) in enumerate(pairwise((3, *WIDTHS)))
        )

    def forward(self, x):
        maps = [x]
        for conv in self.convs:
            maps.append(conv(maps[-1]).relu())
        return tuple(maps[-self.levels :])


def small_model(name, changes=None):
    """A shipped model for three classes, a few channels wide, with these changes of its config."""
    cfg = Config.fromfile(MODELS / f'{name}.py')
    model = cfg.model
    levels = 3 if name.startswith('rtmdet') else 4
    model.neck.update(in_channels=WIDTHS[-levels:], out_channels=16)
    if name.startswith('mask-rcnn'):
        model.rpn_head.update(in_channels=16, feat_channels=16)
        heads = model.roi_head
        heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 16
        heads.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=3)
        heads.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=3)
        heads.mask_head.norm_cfg = {'type': 'BN'}
        model.test_cfg.rpn.update(nms_pre=60, max_per_img=100)
    else:
        model.bbox_head.update(in_channels=16, feat_channels=16, num_classes=3, stacked_convs=1)
        model.test_cfg.nms_pre = 60
    cfg.merge_from_dict({f'model.{key}': value for key, value in (changes or {}).items()})
    return cfg.model


def build(model):
    """A detector with weights that find something."""
    torch.manual_seed(2)
    detector = detectors.build(model)
    detector.backbone = Maps(len(model.neck.in_channels))
    for name, parameter in detector.named_parameters():
        for layer, spread in SPREAD.items():
            if name.endswith(f'{layer}.weight'):
                nn.init.normal_(parameter, std=spread)
    for module in randomise_norms(detector).modules():
        module.momentum = None  # norms of the very images, else values fade from one to the next
    if hasattr(detector, 'bbox_head'):
        detector.train()(images())
    return detector.eval()


def images():
    """One with objects, and one without any."""
    noise = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    return torch.cat((noise, noise / 10))


def shown():
    """Of the first image a part of its height and width, the second whole."""
    return torch.tensor([[57.0, 83.0], SIZE])


@torch.no_grad()
def predicted(detector, x, shown=((*SIZE,),) * 2):
    """What mmdet finds, in pixels of these images, of which they show so much."""
    padded = nn.functional.pad(x, (0, -SIZE[1] % 32, 0, -SIZE[0] % 32))
    samples = [
        DetDataSample(metainfo={'img_shape': size, 'ori_shape': SIZE, 'scale_factor': (1.0, 1.0)})
        for size in (tuple(map(int, size)) for size in shown)
    ]
    samples = detector.predict(padded, samples[: len(x)], rescale=False)
    return [sample.pred_instances for sample in samples]


def make(model):
    """A deployed detector, asked for all that it sees."""
    detector = switch_modules(build(model))
    head = detector.roi_head if hasattr(detector, 'roi_head') else detector.bbox_head
    head.test_cfg.update(score_thr=0.0, max_per_img=KEPT)
    return detector, head.test_cfg


@pytest.fixture(scope='module', params=['retinanet_fpn', 'rtmdet_csp-pan', 'mask-rcnn_fpn'])
def made(request):
    """A detector's graph, and what mmdet finds with it: nothing on the second image."""
    detector, test_cfg = make(small_model(request.param))
    _, nothing = predicted(detector, images())
    test_cfg.score_thr = float(nothing.scores.max()) + 0.01
    wanted, cut = predicted(detector, images()), predicted(detector, images(), shown())
    graph = DetectorGraph(detector, SIZE)
    return SimpleNamespace(graph=graph, wanted=wanted, cut=cut)


def trace(module, *inputs):
    """A program for any batch: for one converter, which changes it."""
    open_batch = tuple({0: torch.export.Dim('batch')} for _ in inputs)
    return torch.export.export(module, inputs, dynamic_shapes=open_batch, strict=False)


def assert_equal(outputs, wanted, pixels):
    """Outputs of a graph against what mmdet found, image by image; boxes to within ``pixels``."""
    boxes, scores, labels, *masks = (np.asarray(output) for output in outputs)
    assert labels.dtype == np.int64
    assert boxes.shape == (len(wanted), KEPT, 4)
    assert bool(masks) == ('masks' in wanted[0])
    for image, found in enumerate(wanted):
        count = len(found)
        np.testing.assert_allclose(scores[image, :count], found.scores, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(labels[image, :count], found.labels)
        np.testing.assert_allclose(boxes[image, :count], found.bboxes, rtol=0, atol=pixels)
        assert (scores[image, count:] == 0).all()
        assert (boxes[image, count:] == 0).all()
        assert (labels[image, count:] == -1).all()
        if masks:
            pasted = paste_masks(masks[0][image, :count], boxes[image, :count], SIZE)
            assert pasted.shape == found.masks.shape
            assert (pasted != np.asarray(found.masks)).sum() <= 1e-5 * pasted.size
            assert (masks[0][image, count:] == 0).all()


@torch.no_grad()
def test_in_pytorch_it_gives_what_mmdet_predicts(made):
    some, none = made.wanted
    assert 5 < len(some) <= KEPT
    assert len(none) == 0
    assert len(some.labels.unique()) > 1
    assert_equal(made.graph(images()), made.wanted, pixels=1e-4)
    assert_equal(made.graph(images()[:1]), made.wanted[:1], pixels=1e-4)


@torch.no_grad()
def test_boxes_end_where_an_image_does(made):
    """Before they suppress each other: other boxes are left than of the whole image."""
    boxes = made.cut[0].bboxes
    assert boxes[:, 2].max() == 83 and boxes[:, 3].max() == 57
    assert made.cut[0].scores.tolist() != made.wanted[0].scores.tolist()
    assert_equal(made.graph(images(), shown()), made.cut, pixels=1e-4)


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('retinanet_fpn', {'bbox_head.loss_cls': SOFTMAX}),
        ('retinanet_fpn', {'test_cfg.nms.class_agnostic': True, 'test_cfg.min_bbox_size': 40}),
        ('retinanet_fpn', {'test_cfg.nms_pre': 9999, 'bbox_head.bbox_coder.clip_border': False}),
        ('retinanet_fpn', {'bbox_head.bbox_coder.target_means': [0.1, -0.1, 0.2, 0.0]}),
        ('rtmdet_csp-pan', {'bbox_head.bbox_coder.clip_border': False}),
        ('mask-rcnn_fpn', {'test_cfg.rpn.max_per_img': 3, 'test_cfg.rcnn.nms.iou_threshold': 0.9}),
        ('mask-rcnn_fpn', {'test_cfg.rpn.min_bbox_size': 40}),
        ('mask-rcnn_fpn', {'roi_head.bbox_head.reg_class_agnostic': True}),
        ('mask-rcnn_fpn', {'roi_head.mask_head.class_agnostic': True}),
    ],
)
@torch.no_grad()
def test_what_a_config_says_is_followed(name, changes):
    detector, _ = make(small_model(name, changes))
    wanted = predicted(detector, images())
    assert all(len(found) > 1 for found in wanted)
    assert_equal(DetectorGraph(detector, SIZE)(images()), wanted, pixels=1e-4)


def test_in_openvino(made):
    """By its reader of programs of torch.export, for any batch."""
    model = openvino.convert_model(
        trace(made.graph, images(), shown()),
        input=[(-1, 3, *SIZE), (-1, 2)],
        extension=[suppression.openvino_extension()],
    )
    options = {'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': 'f32'}
    compiled = core().compile_model(model, 'CPU', options)
    for part in (slice(None), slice(1), slice(1, 2)):
        outputs = compiled([images()[part].numpy(), shown()[part].numpy()]).to_tuple()
        assert_equal(outputs, made.cut[part], pixels=RUNTIMES)


def test_in_onnxruntime(made, tmp_path):
    program = torch.onnx.export(
        trace(made.graph, images(), shown()),
        input_names=['images', 'shown'],
        custom_translation_table=onnx.translations(),
        dynamo=True,
        verbose=False,
    )
    program.save(tmp_path / 'a.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'a.onnx')
    for part in (slice(None), slice(1), slice(1, 2)):
        inputs = {'images': images()[part].numpy(), 'shown': shown()[part].numpy()}
        assert_equal(session.run(None, inputs), made.cut[part], pixels=RUNTIMES)


# --- Suppression ------------------------------------------------------------------------------


class Suppressed(nn.Module):
    def forward(self, boxes, scores):
        return (suppression.suppress(boxes, scores, 0.5, 3),)


def test_suppression_is_the_same_everywhere(tmp_path):
    """An overlap equal to the threshold suppresses nothing; equal boxes, empty ones, no boxes."""
    half = [[0, 0, 8, 8], [0, 0, 8, 4], [0, 0, 8, 3], [0, 0, 8, 3], [9, 9, 9, 9], [20, 0, 28, 8]]
    boxes = torch.tensor([half, half, half], dtype=torch.float32)
    scores = torch.tensor([[6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 0, 0], [0] * 6]) / 8.0
    wanted = torch.tensor([[6, 5, 0, 0, 2, 0], [1, 0, 0, 4, 0, 0], [0] * 6]) / 8.0
    module = Suppressed()
    assert torch.equal(module(boxes, scores)[0], wanted)
    program = trace(module, boxes, scores)
    model = openvino.convert_model(
        program, input=[(-1, 6, 4), (-1, 6)], extension=[suppression.openvino_extension()]
    )
    found = core().compile_model(model, 'CPU')([boxes.numpy(), scores.numpy()])[0]
    np.testing.assert_array_equal(found, wanted)
    torch.onnx.export(
        program,
        custom_translation_table=suppression.onnx_translation(),
        input_names=['boxes', 'scores'],
        dynamo=True,
        verbose=False,
    ).save(tmp_path / 'a.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'a.onnx')
    found = session.run(None, {'boxes': boxes.numpy(), 'scores': scores.numpy()})[0]
    np.testing.assert_array_equal(found, wanted)


# --- Refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        ('retinanet_fpn', {'type': 'FCOS'}, r'^model.type=FCOS: .* RetinaNet, RTMDet, MaskRCNN$'),
        (
            'retinanet_fpn',
            {'bbox_head.type': 'FreeAnchorRetinaHead'},
            r'^model.bbox_head.type=F',
        ),
        (
            'retinanet_fpn',
            {'bbox_head.bbox_coder': {'_delete_': True, 'type': 'TBLRBBoxCoder'}},
            r'^bbox_coder.type=TBLRBBoxCoder of RetinaHead: ',
        ),
        ('retinanet_fpn', {'test_cfg.nms.type': 'soft_nms'}, r"^test_cfg.nms=.*'soft_nms'"),
        ('retinanet_fpn', {'test_cfg.max_per_img': -1}, r'^test_cfg.max_per_img=-1: '),
        ('mask-rcnn_fpn', {'test_cfg.rcnn.nms.type': 'soft_nms'}, r'^test_cfg.rcnn.nms='),
        (
            'mask-rcnn_fpn',
            {'roi_head.bbox_roi_extractor.roi_layer.pool_mode': 'max'},
            r'^model.roi_head.bbox_roi_extractor.roi_layer: ',
        ),
        (
            'mask-rcnn_fpn',
            {
                'roi_head.bbox_head.loss_cls': {
                    '_delete_': True,
                    'type': 'SeesawLoss',
                    'num_classes': 3,
                }
            },
            r'^model.roi_head.bbox_head.loss_cls.type=SeesawLoss: ',
        ),
        (
            'mask-rcnn_fpn',
            {'roi_head.mask_head': None},
            r'^model.roi_head.mask_roi_extractor.type=None',
        ),
        ('mask-rcnn_fpn', {'type': 'MaskScoringRCNN'}, r'^model.type=MaskScoringRCNN: '),
        (
            'mask-rcnn_fpn',
            {'rpn_head.bbox_coder.clip_border': False},
            r'^model.rpn_head.bbox_coder.clip_border=False: regions of a graph end at the image',
        ),
    ],
)
def test_what_is_not_known_is_refused(name, changes, message):
    detector = build(small_model(name, changes))
    with pytest.raises(ConfigError, match=message) as caught:
        DetectorGraph(detector, SIZE)
    assert '\n' not in str(caught.value)


@torch.no_grad()
def test_images_of_another_size_are_refused():
    graph = DetectorGraph(build(small_model('retinanet_fpn')), SIZE)
    with pytest.raises(ValueError, match=r'images of 64 x 64 pixels: .* 124 x 158'):
        graph(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--shape', '0', '64'], '^size 0 64: '),
        ([], "--shape H W is needed: .* does not say its images' size"),
        (
            ['--shape', '64', '64', '--any-size'],
            'a graph of DetectorGraph holds for one image size',
        ),
        (['--shape', '64', '64', '--format', 'int8'], '^--part detector: in eight bits'),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message, tmp_path, capsys):
    config = coco_sets.write_config(tmp_path / 'small.py', tmp_path / 'nowhere')
    out = tmp_path / 'a.onnx'
    tool = load_tool('deployment/export')
    assert tool.main([str(config), '--part', 'detector', '--out', str(out), *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error.removeprefix('error: '))
    assert not out.exists()


# --- Files ------------------------------------------------------------------------------------


def test_a_file_of_a_whole_detector(tmp_path, capsys):
    """Written when it finds what PyTorch does; its outputs have names."""
    config = coco_sets.write_config(tmp_path / 'small.py', tmp_path / 'nowhere')
    with config.open('a') as file:
        file.write("model['test_cfg'].update(score_thr=0.0)\n")
    out = tmp_path / 'a.onnx'
    arguments = [str(config), '--part', 'detector', '--shape', '60', '64', '--out', str(out)]
    assert load_tool('deployment/export').main(arguments) == 0
    assert 'images (batch, 3, 60, 64), shown to boxes, scores, labels' in capsys.readouterr().out
    session = onnxruntime.InferenceSession(out)
    assert [output.name for output in session.get_outputs()] == ['boxes', 'scores', 'labels']
    graph = load_network(str(config), part='detector', size=(60, 64)).network
    assert [entry.shape[1] for entry in graph(torch.zeros(1, 3, 60, 64))] == [10, 10, 10]


def test_two_lists_of_objects_are_compared_one_by_one():
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 6, 6], [0, 0, 0, 0]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.3, 0.0]], np.float32)
    labels = np.array([[0, 1, 1, -1]])
    wanted = [boxes, scores, labels]
    swapped = [array[:, [1, 0, 2, 3]] for array in wanted]
    assert detection_difference(swapped, wanted, 0.2) == 0

    def moved(output, place, by):
        outputs = [array.copy() for array in wanted]
        outputs[output][0, place] += by
        return detection_difference(outputs, wanted, 0.2), detection_difference(
            wanted, outputs, 0.2
        )

    assert moved(0, 1, 4) == pytest.approx((0.1, 4 / 44))
    assert moved(1, 0, -0.05) == pytest.approx((0.05, 0.05))
    assert moved(2, 0, 2) == (np.inf, np.inf)
    lost = [array.copy() for array in wanted]
    for array, nothing in zip(lost, (0, 0, -1), strict=True):
        array[0, 2] = nothing
    assert detection_difference(lost, wanted, 0.2) > 0.3
    assert detection_difference(lost, wanted, 0.29995) == 0  # next to the threshold
    assert detection_difference(wanted, [array[:, :3] for array in wanted], 0.2) == np.inf
