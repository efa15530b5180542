"""What only a validation or the last batch uses is tried before the first iteration."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from coco_sets import make_config, write
from people import make_people, write_people_config
from remedies import tries
from trainer import forget_runs, make_folder, write_config

pytest.importorskip('mmdet')
from effvit_mm.errors import DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.data_checks.image_sizes import smallest_scales, vanishes
from effvit_mm.openmm.data_checks.matches import find_match
from effvit_mm.openmm.engine.training_step import smallest_batch

SHORT = ('train_cfg.max_epochs=1', 'param_scheduler=None')


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Train with overrides: gives the exit code and the last line; nothing was trained at 2."""
    monkeypatch.chdir(tmp_path)

    def train(config: Path, *options: str) -> tuple[int, str]:
        forget_runs()
        capsys.readouterr()
        code = cli.train([str(config), '--work-dir', 'work', '--cfg-options', *SHORT, *options])
        out, err = capsys.readouterr()
        if code:
            assert err.count('\n') == 1 and 'Epoch(train)' not in out
            assert not list(Path('work').glob('*.pth'))
        return code, err or out

    return train


@pytest.fixture(scope='module')
def classes(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp('classes') / 'data')


# Option that cannot work -> what the line says, and what then works.
EVALUATORS = {
    'val_evaluator.topk=(1,5)': (
        r'val_evaluator\.topk=\(1, 5\) \(Accuracy\): .*number of categories is 3; leave it '
        r'out, or set its default, \(1,\)',
        'val_evaluator.topk=(1,)',
    ),
    'model.head.cal_acc=True model.head.topk=(1,5)': (
        r'topk=\(1, 5\): .*numbers from 1 to 3 are possible, or set model\.head\.cal_acc=False',
        'model.head.cal_acc=False',
    ),
    'val_evaluator.thrs=high': (
        r"val_evaluator\.thrs='high' \(Accuracy\): ",
        'val_evaluator.thrs=0.0',
    ),
    'model.head.cal_acc=True model.head.topk=(1,4)': (
        r'model\.head\.topk=\(1, 4\): the model tells 3 classes apart',
        'model.head.topk=(1,3)',
    ),
    'default_hooks.checkpoint.out_dir=data/train/bars/0.png': (
        r'out_dir of CheckpointHook: the folder .*0\.png.* cannot be written',
        'default_hooks.checkpoint.out_dir=elsewhere',
    ),
    'visualizer.vis_backends.0.type=WandbVisBackend': (
        r'visualizer: Please run "pip install wandb"',
        'visualizer.vis_backends.0.type=LocalVisBackend',
    ),
}  # fmt: skip


@tries(', or give model.backbone another width')
def test_a_head_of_another_width_than_what_comes_before_it(run, classes):
    config = write_config(Path('config.py'), classes)
    code, line = run(config, 'model.head.in_channels=17')
    assert code == 2 and 'error: model.head.in_channels=17: it is given 16 channels; write' in line
    wider = ('model.head.in_channels=17', 'model.backbone.base_channels=17')
    code, line = run(config, *wider)
    assert code == 2 and 'model.head.in_channels=17: it is given 34 channels' in line
    neck = "model['neck'] = dict(type='mmdet.FPN', in_channels=[8], out_channels=16, num_outs=1)\n"
    code, line = run(write_config(Path('maps.py'), classes, neck))
    assert code == 2 and 'model.neck.in_channels=[8]: for 8 it is given 16 channels; write' in line
    assert run(config, 'model.head.in_channels=16')[0] == 0


@tries('; write {} there{}', ', or add model.neck, of which there is none')
def test_maps_that_no_neck_made_as_wide_as_the_head(run, tmp_path):
    for channels, given in ((4, 8), (8, 16)):  # of the first map, and of the second
        extra = (
            "model = dict(type='SingleStageDetector', neck=None, "
            f'bbox_head=dict(in_channels={channels}))\n'
        )
        code, line = run(make_config(tmp_path / str(channels), extra))
        wrong = (
            f'model.bbox_head.in_channels={channels}: it is given {given} channels; write {given} '
        )
        assert code == 2 and f'{wrong}there, or add model.neck, of which there is none' in line
    neck = extra.replace(
        'neck=None', "neck=dict(type='FPN', in_channels=[8, 16, 32], out_channels=8, num_outs=3)"
    )
    assert run(make_config(tmp_path / 'neck', neck))[0] == 0
    one = extra.replace('neck=None', 'neck=None, backbone=dict(out_indices=(2,))')
    one = one.replace('in_channels=8', 'in_channels=16, anchor_generator=dict(strides=[16])')
    code, line = run(make_config(tmp_path / 'one', one))
    assert code == 0, line


@pytest.mark.parametrize('split', ['train', 'val'])
def test_images_too_small_are_those_of_a_pipeline(run, classes, split):
    config = write_config(
        Path('config.py'), classes,
        "model['backbone'] = dict(type='effvit_mm.PSLT', arch='tiny')\n"
        "model['head'].update(in_channels=384)\n"
        "step = dict(type='RandomCrop', crop_size=32)\n"
        "train_dataloader['dataset']['pipeline'] = [pipeline[0], step, pipeline[-1]]\n"
        "val_dataloader['dataset']['pipeline'] = [pipeline[0], step, pipeline[-1]]\n",
    )  # fmt: skip
    code, line = run(config, f'{split}_dataloader.dataset.pipeline.1.crop_size=8')
    small = 'PSLT takes images of 32 pixels or more on each side, not 8x8'
    assert code == 2 and f'error: {split}_dataloader.dataset.pipeline: {small}' in line


@tries(
    '; leave it out{}',
    ', or set its default, {}',
    'numbers from 1 to {} are possible, or set model.head.cal_acc=False',
)
@pytest.mark.parametrize('options', EVALUATORS)
def test_an_argument_of_the_evaluation_is_named_with_what_works(run, classes, options):
    Path('data').symlink_to(classes)
    config = write_config(Path('config.py'), classes)
    message, remedy = EVALUATORS[options]
    code, line = run(config, *options.split())
    assert code == 2 and re.search(message, line), line
    code, line = run(config, *options.split(), remedy)
    assert code == 0, line
    assert 'leave it out' not in line or run(config)[0] == 0


@pytest.mark.parametrize(
    ('key', 'kind'),
    [('custom_hooks', 'EarlyStoppingHook'), ('param_scheduler', 'ReduceOnPlateauLR')],
)
def test_what_is_watched_must_be_among_the_figures(classes, tmp_path, key, kind, capsys):
    for name, code in (('top9', 2), ('top1', 0)):
        forget_runs()
        config = write_config(
            tmp_path / f'{name}.py', classes,
            f"{key} = [dict(type='{kind}', monitor='accuracy/{name}')]\n"
            'train_cfg.update(max_epochs=1)\n',
        )  # fmt: skip
        assert cli.train([str(config), '--work-dir', str(tmp_path / name)]) == code
        if code:
            line = capsys.readouterr().err
            assert f"monitor='accuracy/top9' of {kind}" in line
            assert "it gives 'accuracy/top1'" in line


@tries(
    'for earlier ones set default_hooks.checkpoint.by_epoch=False and '
    'default_hooks.checkpoint.interval=ITERATIONS'
)
def test_checkpoints_by_epoch_of_a_training_by_iteration_are_told(classes, tmp_path, capsys):
    for by_epoch in (True, False):
        forget_runs()
        config = write_config(
            tmp_path / f'{by_epoch}.py', classes,
            'train_cfg = dict(by_epoch=False, max_iters=4)\nparam_scheduler = None\n'
            f'default_hooks.update(checkpoint=dict(by_epoch={by_epoch}, interval=2))\n',
        )  # fmt: skip
        folder = tmp_path / f'work{by_epoch}'
        assert cli.train([str(config), '--work-dir', str(folder)]) == 0
        captured = capsys.readouterr()
        assert (
            'the first checkpoint is written after all 4 iterations' in captured.out
        ) == by_epoch
        assert (folder / 'iter_2.pth').exists() != by_epoch


@tries('take an evaluator of this task')
def test_an_evaluator_of_another_task_is_told(run, classes):
    config = write_config(
        Path('config.py'), classes,
        "val_evaluator = dict(type='mmdet.CocoMetric', metric='bbox')\n"
        "default_hooks.update(checkpoint=dict(save_best=None))\n",
    )  # fmt: skip
    code, line = run(config)
    assert code == 2 and 'val_evaluator (CocoMetric) cannot take what the model predicts' in line
    assert 'take an evaluator of this task' in line
    assert run(write_config(Path('config.py'), classes))[0] == 0


@tries('add it to the meta_keys of {}_dataloader.dataset.pipeline')
def test_what_an_evaluator_looks_for_of_an_image(run, tmp_path):
    keys = ('img_path', 'img_shape', 'ori_shape', 'scale_factor', 'img_id')
    for missing in ('img_id', 'ori_shape', None):
        given = tuple(key for key in keys if key != missing)
        step = f"val_pipeline[-1] = dict(type='PackDetInputs', meta_keys={given})\n"
        code, line = run(make_config(tmp_path / str(missing), step))
        assert code == (2 if missing else 0)
        told = f'val_evaluator (CocoMetric) looks for {missing!r} of an image; add it to the '
        assert (f'{told}meta_keys of val_dataloader.dataset.pipeline' in line) == bool(code)


def test_a_test_tries_its_evaluator_as_well(run, classes, capsys):
    config = write_config(Path('config.py'), classes)
    assert run(config)[0] == 0
    for topk, code in (('(1,5)', 2), ('(1,3)', 0)):
        forget_runs()
        assert cli.test([str(config), 'work/epoch_1.pth', '--work-dir', 'test',
                         '--cfg-options', f'test_evaluator.topk={topk}']) == code  # fmt: skip
        out, err = capsys.readouterr()
        assert ('test_evaluator.topk' in err) == bool(code)
        assert ('Epoch(test)' in out) != bool(code)


TOP1 = "dict(type='Accuracy', topk=(1,){})"
MATRIX = "dict(type='ConfusionMatrix')"


def judged_by(classes: Path, *evaluators: str) -> Path:
    text = f'val_evaluator = [{", ".join(evaluators)}]\n'
    return write_config(Path('config.py'), classes, text)


@tries('set {}.prefix to a word of its own')
def test_figures_of_two_evaluators_need_names_of_their_own(run, classes):
    """mmengine stops after the epoch."""
    code, line = run(judged_by(classes, TOP1.format(''), TOP1.format('')))
    assert code == 2
    assert "val_evaluator[1] (Accuracy): the figure 'accuracy/top1' is that of an" in line
    assert 'set val_evaluator[1].prefix to' in line
    assert run(judged_by(classes, TOP1.format(''), TOP1.format(", prefix='again'")))[0] == 0


@tries('set save_best to {}or to None')
def test_the_first_figure_that_auto_takes_can_be_compared(run, classes):
    config = judged_by(classes, MATRIX, TOP1.format(''))
    code, line = run(config, 'default_hooks.checkpoint.save_best=auto')
    assert code == 2
    assert "save_best='auto' takes the first figure, 'confusion_matrix/result'" in line
    assert "set save_best to one of 'accuracy/top1', or to None" in line
    for best in ('accuracy/top1', 'None'):
        assert run(config, f'default_hooks.checkpoint.save_best={best}')[0] == 0
    config = judged_by(classes, TOP1.format(''), MATRIX)
    assert run(config, 'default_hooks.checkpoint.save_best=auto')[0] == 0


def test_a_pipeline_that_comes_later_is_tried(run, tmp_path):
    config = make_config(
        tmp_path,
        "custom_hooks = [dict(type='PipelineSwitchHook', switch_epoch=9, switch_pipeline=["
        "*_base_.pipeline[:2], dict(type='Resise', scale=(64, 48)), _base_.pipeline[2]])]\n",
    )
    text = config.read_text()
    code, line = run(config)
    assert code == 2 and 'switch_pipeline of PipelineSwitchHook: Resise is not' in line
    config.write_text(text.replace('*_base_.pipeline[:2], ', '').replace('Resise', 'Resize'))
    assert run(config)[0] == 2
    config.write_text(text.replace('Resise', 'Resize'))
    assert run(config)[0] == 0


@tries('; wrap it in one, or take the hook out')
def test_steps_are_switched_off_in_a_mixed_set_alone(run, tmp_path):
    config = make_config(tmp_path, "custom_hooks = [dict(type='YOLOXModeSwitchHook')]\n")
    code, line = run(config)
    assert code == 2 and 'train_dataloader.dataset is a CocoFolder; wrap it' in line
    assert run(config, 'custom_hooks=[]')[0] == 0
    steps = "pipeline=[dict(type='RandomFlip', prob=0.5), _base_.pipeline[-1]]"
    wrapped = "dict(_delete_=True, type='MultiImageMixDataset', dataset={}, " + steps + ')'
    config.write_text(
        config.read_text()
        + 'inner = dict(_base_.train_dataloader.dataset, pipeline=_base_.pipeline[:2])\n'
        + f'train_dataloader = dict(dataset={wrapped.format("inner")})\n'
    )
    code, line = run(config)
    assert code == 0, line


# The last batch -----------------------------------------------------------------------------------


@tries('; set train_dataloader.{}')
@pytest.mark.parametrize('batch', [1, 23])
def test_a_batch_of_one_image_at_a_batch_norm(run, classes, batch):
    config = write_config(
        Path('config.py'), classes, "model['head'].update(norm_cfg=dict(type='BN1d'))\n"
    )
    code, line = run(config, f'train_dataloader.batch_size={batch}')
    assert code == 2
    assert re.search(
        rf'one image \(24 images, batch_size={batch}\).*batch norm head\.layers\.0\.norm', line
    )
    remedy = line.strip().rsplit('; set ', 1)[1].split()
    assert run(config, f'train_dataloader.batch_size={batch}', *remedy)[0] == 0


def test_a_batch_of_one_image_at_batch_norms_over_maps_trains(run, classes):
    assert run(write_config(Path('config.py'), classes), 'train_dataloader.batch_size=23')[0] == 0


@pytest.mark.parametrize('batch', [23, 8])
def test_the_trial_leaves_no_trace_in_the_training(run, classes, batch):
    """Statistics of batch norms, random numbers: the same checkpoint to the last bit."""
    config = write_config(
        Path('config.py'), classes,
        # Averages of the maps: a batch of one is tried, and passes; or the first batch is.
        f"train_dataloader.update(batch_size={batch})\ncustom_hooks = []\n",
    )  # fmt: skip
    states = []
    for hook in ('DryPassHook', 'Nothing'):
        patched = pytest.MonkeyPatch()
        if hook == 'Nothing':
            from effvit_mm.openmm.engine.dry_pass import DryPassHook

            patched.setattr(DryPassHook, 'before_train', lambda self, runner: None)
        assert run(config)[0] == 0
        patched.undo()
        states.append(torch.load('work/epoch_1.pth', weights_only=False)['state_dict'])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ('count', 'size', 'drop_last', 'smallest'),
    [(24, 23, False, 1), (24, 23, True, 23), (24, 8, False, 8), (5, 8, False, 5)],
)
def test_the_smallest_batch_of_an_epoch(count, size, drop_last, smallest):
    loader = torch.utils.data.DataLoader(range(count), size, drop_last=drop_last)
    assert smallest_batch(loader) == smallest


# Detection ----------------------------------------------------------------------------------------


def test_masks_asked_of_a_detector_without_any(run, tmp_path):
    config = make_config(tmp_path)
    options = 'val_evaluator.metric=[bbox,segm]'
    code, line = run(config, options)
    assert code == 2
    assert re.search(r'val_evaluator\.metric=.*segm.* \(CocoMetric\): .*segm is not in results.*'
                     r"default, 'bbox'", line), line  # fmt: skip
    assert run(config, 'val_evaluator.metric=bbox')[0] == 0


@tries('give what the model asks for, as score_thr, nms and max_per_img')
@pytest.mark.parametrize('given', ['None', 'dict(_delete_=True)', 'dict(_delete_=True, nms_pre=9)'])
def test_a_detector_that_lacks_what_tests_need(run, tmp_path, given):
    config = make_config(tmp_path, f'model = dict(test_cfg={given})\n')
    code, line = run(config)
    assert code == 2 and 'model.test_cfg=' in line and 'score_thr, nms and max_per_img' in line
    nms = "nms=dict(type='nms', iou_threshold=0.5)"
    sound = f'dict(_delete_=True, score_thr=0.0, {nms}, max_per_img=10)'
    make = config.read_text().replace(f'test_cfg={given}', f'test_cfg={sound}')
    config.write_text(make)
    assert run(config)[0] == 0


def test_a_detector_that_finds_nothing_is_judged_on_a_made_object(run, tmp_path):
    config = make_config(tmp_path)
    nothing = 'model.test_cfg.score_thr=1.0'
    code, line = run(config, nothing, 'default_hooks.checkpoint.save_best=coco/bbox_mAP_99')
    assert code == 2 and "it gives 'coco/bbox_mAP'" in line
    assert run(config, nothing, 'default_hooks.checkpoint.save_best=coco/bbox_mAP_50')[0] in (0, 2)


@tries('; take such images out of the annotations, or resize with keep_ratio=False')
def test_an_image_whose_side_would_round_to_nothing_is_named(run, tmp_path):
    config = make_config(tmp_path)
    data = json.loads((tmp_path / 'data' / 'val.json').read_text())
    data['images'].append({'id': 99, 'file_name': 'thin.png', 'width': 3000, 'height': 8})
    write(tmp_path / 'data', data, 'val')
    cv2.imwrite(str(tmp_path / 'data' / 'images' / 'thin.png'), np.zeros((8, 3000, 3), np.uint8))
    code, line = run(config)
    assert code == 2
    assert re.search(r'val_dataloader\.dataset: image .*thin\.png of 3000x8 pixels would be scaled '
                     r'to fit \(96, 72\), a side of it to nothing', line), line  # fmt: skip
    assert run(config, 'val_dataloader.dataset.pipeline.1.keep_ratio=False')[0] == 0
    del data['images'][-1]
    write(tmp_path / 'data', data, 'val')
    assert run(config)[0] == 0


@pytest.mark.parametrize('size', [(3000, 8), (8, 3000), (1333, 2), (40, 30), (3, 3)])
def test_sides_vanish_where_opencv_refuses(size):
    import mmcv

    image = np.zeros((size[1], size[0], 3), np.uint8)
    for scale in ((96, 72), (1333, 800), (10, 10)):
        try:
            mmcv.imrescale(image, scale)
            refused = False
        except cv2.error:
            refused = True
        assert vanishes(size, scale) == refused


def test_the_smallest_scale_of_random_ones():
    from mmcv.transforms import RandomChoiceResize, RandomResize, Resize
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmcv'):
        assert smallest_scales(Resize((96, 72), keep_ratio=True)) == [(96, 72)]
        assert smallest_scales(Resize((96, 72))) == []
        ranged = RandomResize((100, 50), ratio_range=(0.1, 2.0), keep_ratio=True)
        assert smallest_scales(ranged) == [(10, 5)]
        assert smallest_scales(RandomResize([(100, 50), (80, 40)], keep_ratio=True))[-1] == (80, 40)
        assert smallest_scales(RandomChoiceResize([(9, 8), (7, 6)], keep_ratio=True)) == [
            (9, 8),
            (7, 6),
        ]


def test_what_is_no_scale_is_left_to_the_step():
    """Which then fails at the first image, and is named."""
    for wrong in ({'ratio_range': 0.5}, {'ratio_range': (0.8, None)}, {'scale': (96, None)}):
        step = SimpleNamespace(**{'keep_ratio': True, 'scale': (96, 72), **wrong})
        assert smallest_scales(step) == []
    for scales in ([], [()], [(96,)], [('96', '72')], [None]):
        assert smallest_scales(SimpleNamespace(keep_ratio=True, scales=scales)) == []


# Re-identification --------------------------------------------------------------------------------


@tries(
    'Add pictures by another camera, or have pattern tell the cameras apart; '
    'train.py --no-validate trains without'
)
def test_a_set_of_one_camera_can_have_no_match(run, tmp_path):
    people = make_people(tmp_path / 'data')
    for path in people.glob('*/*_c2s1_*'):
        path.rename(path.with_name(path.name.replace('_c2s1_', '_c1s1_1')))
    config = write_people_config(Path('people.py'), people)
    one = [f'{part}_dataloader.dataset.min_cameras=1' for part in ('train', 'val')]
    code, line = run(config, *one)
    assert code == 2
    assert re.search(r'val_dataloader\.dataset: none of the 4 queries can have a match: 4 of their '
                     r'4 persons .*\(1 camera in all', line), line  # fmt: skip
    forget_runs()
    options = ['--cfg-options', *SHORT, *one]
    assert cli.train([str(config), '--work-dir', 'without', '--no-validate', *options]) == 0
    # What was camera 2 is told from a figure that the names still have.
    cameras = r'(?P<pid>\d+)_c1s1_(?P<cam>\d)'
    told = "train_dataloader['dataset'].update(pattern={0!r})\nval_dataloader['dataset'].update("
    text = config.read_text()
    config.write_text(text + told.format(cameras) + f'pattern={cameras!r})\n')
    code, line = run(config, *one)
    assert code == 0, line
    config.write_text(text)
    query = next(people.glob('query/*.png'))
    shown = query.name.replace('_c1s1_', '_c3s1_')
    shutil.copy(query, people / 'bounding_box_test' / shown)
    assert run(config, *one)[0] == 0


@tries('; add such pictures, or take these queries out')
def test_queries_without_a_match_are_told(run, tmp_path):
    people = make_people(tmp_path / 'data')
    config = write_people_config(Path('people.py'), people)
    assert 'queries have no match' not in run(config, 'train_cfg.val_interval=1')[1]
    shutil.copytree(people, 'whole')
    for path in people.glob('bounding_box_test/0006_*'):
        path.unlink()
    code, said = run(config, 'train_cfg.val_interval=1')
    assert code == 0 and 'warning: ' in said and '1 of 4 queries have no match' in said
    shutil.copytree('whole', people, dirs_exist_ok=True)
    assert 'queries have no match' not in run(config, 'train_cfg.val_interval=1')[1]
    for path in people.glob('*/0006_*'):
        path.unlink()
    assert 'queries have no match' not in run(config, 'train_cfg.val_interval=1')[1]


class TestSet:
    __test__ = False

    def __init__(self, pids, cameras, queries):
        self.pids, self.cameras, self.num_query = pids, cameras, queries

    def get_data_info(self, index):
        return {'img_path': f'{index}.png'}

    def get_pids(self):
        return np.array(self.pids)

    def get_camids(self):
        return np.array(self.cameras)


def test_the_first_query_with_a_match_is_tried():
    people = TestSet([4, 5, 4, 5, 5], [0, 0, 0, 0, 1], queries=2)
    assert find_match(people, 'val_dataloader') == [1, 4]
    with pytest.raises(DataError, match='0 of their 2 persons are in the gallery'):
        find_match(TestSet([4, 5, 6], [0, 0, 1], queries=2), 'val_dataloader')
    assert find_match([1, 2, 3], 'val_dataloader') == [0]
