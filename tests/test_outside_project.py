"""Another project's configs, started with mmdet's and mmpretrain's own tools: a backbone of ours is
all that they take from here."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_sets import NAMES, make_coco, make_config
from projects import MASK_RCNN, RETINANET
from trainer import CLASSES, forget_runs, make_folder, write_config

from effvit_mm.errors import DataError
from effvit_mm.ops import finder
from effvit_mm.weights.checkpoint import read_checkpoint

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.datasets.transforms import LoadImage
from effvit_mm.openmm.trained import build_classifier, build_detector

STAND_IN = importlib.util.find_spec(finder.EXTENSION).origin == finder.__name__
IMPORT = "custom_imports = dict(imports=['effvit_mm'])\n"
# What mmdet's own tools/test.py needs before it starts, on an mmcv without compiled operators.
AFTER_IMPORT = (
    'import runpy, sys, effvit_mm; sys.argv = sys.argv[1:]; '
    "runpy.run_path(sys.argv[0], {}, '__main__')"
)
CLASSIFIER = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(num_classes=3, mean=[127.0] * 3, std=[60.0] * 3),
    backbone=dict(
        type='effvit_mm.PSLT', arch=dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8))
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=192, topk=(1,)),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='data', data_prefix='train', pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='data', data_prefix='val', pipeline=pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
"""


def tool(package: str, name: str) -> str:
    """A script that the installed package carries."""
    origin = importlib.util.find_spec(package).origin
    return str(Path(origin).parent / '.mim' / 'tools' / name)


@pytest.fixture
def succeeds(pythons) -> Callable[..., None]:
    """Runs Python in a folder that is not our repository's."""

    def call(folder: Path, *command: str) -> None:
        done = pythons.run(*command, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    return call


def last_metrics(work: Path) -> dict:
    """The last line that mmengine wrote for machines."""
    logs = sorted(work.glob('*/vis_data/scalars.json'))
    return json.loads(logs[-1].read_text().splitlines()[-1])


def assert_trained(checkpoint: Path, iterations: int) -> None:
    content = read_checkpoint(checkpoint, trust=True)
    assert content['meta']['iter'] == iterations
    ours = [name for name in content['state_dict'] if name.startswith('backbone.')]
    assert len(ours) > 20
    assert all(content['state_dict'][name].isfinite().all() for name in ours)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_coco(tmp_path / 'data', images=4, splits=('train', 'val'))
    return tmp_path


def test_retinanet_with_our_backbone_in_mmdets_tools(project, succeeds):
    """Trained by mmdet's train.py, tested by its test.py and by ours with the same figures."""
    (project / 'retina.py').write_text(RETINANET + IMPORT)
    succeeds(project, tool('mmdet', 'train.py'), 'retina.py')
    checkpoint = project / 'work_dirs' / 'retina' / 'epoch_1.pth'
    assert_trained(checkpoint, iterations=2)
    validated = last_metrics(project / 'work_dirs' / 'retina')
    assert 0 < validated['coco/bbox_mAP_50'] <= 1
    arguments = ('retina.py', str(checkpoint), '--work-dir', 'tested')
    succeeds(project, '-c', AFTER_IMPORT, tool('mmdet', 'test.py'), *arguments)
    tested = json.loads(next(project.glob('tested/*/*.json')).read_text())
    assert tested['coco/bbox_mAP_50'] == validated['coco/bbox_mAP_50']
    forget_runs()
    assert cli.test(['retina.py', str(checkpoint), '--work-dir', 'ours']) == 0
    ours = json.loads(next(project.glob('ours/*/*.json')).read_text())
    names = [name for name in tested if name.startswith('coco/')]
    assert len(names) == 6 and {name: ours[name] for name in names} == {
        name: tested[name] for name in names
    }


def test_mask_rcnn_by_the_prefix_alone_on_our_runner(project, succeeds):
    """The runner is what is built first: its prefix brings all of ours, the operators too."""
    (project / 'mask.py').write_text(MASK_RCNN + "runner_type = 'effvit_mm.Runner'\n")
    succeeds(project, tool('mmdet', 'train.py'), 'mask.py')
    assert_trained(project / 'work_dirs' / 'mask' / 'epoch_1.pth', iterations=2)
    metrics = last_metrics(project / 'work_dirs' / 'mask')
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= metrics.keys()


@pytest.mark.skipif(not STAND_IN, reason='with a compiled mmcv the prefix alone is enough')
def test_the_prefix_alone_comes_too_late_without_compiled_operators(project, pythons):
    """As the page says: mmdet builds its detector, and asks for them, before our backbone."""
    (project / 'prefix.py').write_text(RETINANET)
    done = pythons.run(tool('mmdet', 'train.py'), 'prefix.py', cwd=project)
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith("ModuleNotFoundError: No module named 'mmcv._ext'")


def test_a_classifier_by_the_prefix_alone_in_mmpretrains_train(tmp_path, succeeds):
    make_folder(tmp_path / 'data')
    (tmp_path / 'classify.py').write_text(CLASSIFIER)
    succeeds(tmp_path, tool('mmpretrain', 'train.py'), 'classify.py')
    assert_trained(tmp_path / 'work_dirs' / 'classify' / 'epoch_1.pth', iterations=3)
    assert 0 <= last_metrics(tmp_path / 'work_dirs' / 'classify')['accuracy/top1'] <= 100


# --- mmpretrain's and mmdet's inferencers ---------------------------------------------------------


LOADS = "test_pipeline = [dict(type='{}')"


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config whose pictures our transform reads, a checkpoint, a picture of 32 x 32 pixels."""
    forget_runs()
    folder = tmp_path_factory.mktemp('inferencers')
    make_folder(folder / 'data', train=1, val=1)
    config = write_config(
        folder / 'cfg.py',
        folder / 'data',
        **{LOADS.format('LoadImageFromFile'): LOADS.format('effvit_mm.LoadImage')},
    )
    torch.manual_seed(0)
    model = build_classifier(load_config(str(config), []), 'small')
    meta = {'dataset_meta': {'classes': CLASSES}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'c.pth')
    return config, str(folder / 'c.pth'), str(folder / 'data' / 'val' / 'rings' / '0.png')


def test_mmpretrains_inferencer_takes_files_arrays_and_folders(trained):
    from mmpretrain import ImageClassificationInferencer

    config, checkpoint, file = trained
    inferencer = ImageClassificationInferencer(str(config), pretrained=checkpoint, device='cpu')
    grey = cv2.imread(file, cv2.IMREAD_GRAYSCALE)
    inputs = [file, cv2.imread(file), grey, np.repeat(grey[..., None], 3, 2)]
    first, second, third, fourth = inferencer(inputs, batch_size=3)
    assert first['pred_class'] in CLASSES
    np.testing.assert_array_equal(first['pred_scores'], second['pred_scores'])
    np.testing.assert_array_equal(third['pred_scores'], fourth['pred_scores'])
    assert not np.allclose(first['pred_scores'], third['pred_scores'], rtol=1e-6)
    (alone,) = inferencer(str(Path(file).parent))
    np.testing.assert_allclose(alone['pred_scores'], first['pred_scores'], rtol=1e-5)


def test_mmpretrains_feature_extractor_takes_arrays_too(trained):
    from mmpretrain import FeatureExtractor

    config, checkpoint, file = trained
    extract = FeatureExtractor(str(config), pretrained=checkpoint, device='cpu')
    (one,), (two,) = (extract(x)[0] for x in (file, cv2.imread(file)))
    assert one.shape == (16,) and torch.equal(one, two)


def test_mmdets_inferencer_as_the_page_says(tmp_path):
    """It looks for a transform by mmcv's name, and takes a config where that was put."""
    from mmdet.apis import DetInferencer

    cfg = load_config(str(make_config(tmp_path)), [])
    model = build_detector(cfg, 'small')
    meta = {'dataset_meta': {'classes': NAMES, 'palette': None}}
    checkpoint = str(tmp_path / 'c.pth')
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, checkpoint)
    file = str(tmp_path / 'data' / 'images' / '0.png')
    with pytest.raises(ValueError, match='LoadImageFromFile is not found in the test pipeline'):
        DetInferencer(copy.deepcopy(cfg), checkpoint, device='cpu')
    cfg.test_dataloader.dataset.pipeline[0].type = 'LoadImageFromFile'
    detect = DetInferencer(cfg, checkpoint, device='cpu', show_progress=False)
    (one,), (two,) = (detect(x)['predictions'] for x in (file, cv2.imread(file)))
    assert one['bboxes'] == two['bboxes'] and len(one['bboxes']) > 0


def test_what_is_neither_a_file_nor_an_array_of_bytes_is_named():
    with pytest.raises(DataError, match=r"a file \(img_path\) or an array \(img\).*\['gt_label'\]"):
        LoadImage()({'gt_label': 1})
    with pytest.raises(DataError, match='array of float64: uint8'):
        LoadImage()({'img': np.zeros((4, 4, 3))})
    with pytest.raises(
        DataError, match='given as an array has 6x4 pixels, its annotations say 4x6'
    ):
        LoadImage()({'img': np.zeros((4, 6, 3), np.uint8), 'height': 6, 'width': 4})
