"""COCO's figures: equal to pycocotools to 1e-6, all of them in test.py's table."""

import contextlib
import io
import json
import math
from pathlib import Path

import detections
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import METRICS, DefaultScope
from mmengine.structures import InstanceData
from trainer import forget_runs

from benchmarks import compare_pycocotools
from benchmarks.measure.coco_comparison import (
    compare,
    largest_difference,
    read_twelve,
    run_metric,
    run_pycocotools,
)
from effvit_mm.errors import ConfigError
from effvit_mm.evaluation.coco import read_figures
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config, use_own
from effvit_mm.openmm.config.preparing import use_coco_limits
from effvit_mm.openmm.engine.report import coco_table
from effvit_mm.openmm.pictures import draw_detection, load_truth
from effvit_mm.utils.drawn_files import note_drawn
from effvit_mm.visualization.pictures import GAP, LINE_HEIGHT, MIN_SIDE, read_rgb

IDS = tuple(detections.CATEGORIES)


def build_metric(folder, kind='CocoMetric', **options):
    """The metric as test.py builds it from a config."""
    cfg = load_config(str(detections.write_config(folder)), [])
    use_coco_limits(cfg)
    MMLogger.get_instance(f'metric of {folder}', log_level='CRITICAL')
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = METRICS.build({**cfg.test_evaluator, **options, 'type': f'effvit_mm.{kind}'})
    metric.dataset_meta = {'classes': detections.NAMES}
    return metric


def both(folder, data, predictions, **options):
    """Rows of comparison by kind."""
    truth, _ = detections.write(folder, data, predictions)
    ours = run_metric(build_metric(folder, **options), predictions)
    return {
        kind: compare(evaluation, run_pycocotools(truth, predictions, IDS, kind))
        for kind, evaluation in ours.items()
    }


def without_predictions(data):
    predictions = detections.random_predictions(data)
    for image in predictions[1:]:
        image['pred_instances'] = {'bboxes': [], 'labels': [], 'scores': [], 'masks': []}
    return data, predictions


def only_crowds(data):
    for item in data['annotations']:
        item['iscrowd'] = 1
    return data, detections.random_predictions(data)


def without_objects(data):
    predictions = detections.random_predictions(data)
    return {**data, 'annotations': []}, predictions


def as_they_are(data):
    return data, detections.random_predictions(data)


def all_scores_equal(data):
    predictions = detections.random_predictions(data)
    for image in predictions:
        scores = image['pred_instances']['scores']
        image['pred_instances']['scores'] = [0.5] * len(scores)
    return data, predictions


CASES = [as_they_are, all_scores_equal, without_predictions, only_crowds, without_objects]


@pytest.mark.parametrize('case', CASES)
def test_the_metric_equals_pycocotools(case, tmp_path):
    rows = both(tmp_path, *case(detections.random_truth()))
    assert list(rows) == ['bbox', 'segm']
    for found in rows.values():
        assert len(found) == 12 + len(IDS)
        assert largest_difference(found) <= 1e-6
        figures = [value for _, value, _ in found if not math.isnan(value)]
        assert bool(figures) == (case not in (only_crowds, without_objects))
        assert case is not as_they_are or len({round(v, 4) for v in figures}) > 8  # not all 0 or 1


def test_faster_coco_eval_equals_pycocotools(tmp_path):
    pytest.importorskip('faster_coco_eval')
    rows = both(tmp_path, *as_they_are(detections.random_truth()), kind='FasterCocoMetric')
    assert list(rows) == ['bbox', 'segm']
    assert max(largest_difference(found) for found in rows.values()) <= 1e-6


def test_mmdets_own_limits_are_not_cocos(tmp_path):
    """Why test.py sets them: AP50 of mmdet's default counts up to 1,000 detections."""
    data = detections.random_truth()
    truth, _ = detections.write(tmp_path, data, predictions := detections.random_predictions(data))
    theirs = run_pycocotools(truth, predictions, IDS, 'bbox').stats
    plain = run_metric(build_metric(tmp_path, proposal_nums=(100, 300, 1000)), predictions)['bbox']
    assert abs(plain.stats[1] - theirs[1]) > 1e-6
    # What the table shows comes from 100 detections all the same.
    assert read_figures(plain).sizes[0].ap50 == pytest.approx(theirs[1], abs=1e-9)
    assert math.isnan(read_twelve(plain)['AR@1'])


def test_limits_of_cocos_figures_are_set_where_the_config_leaves_them():
    evaluators = [
        {'type': 'CocoMetric', 'metric': ['bbox', 'segm']},
        {'type': 'mmdet.FasterCocoMetric'},
        {'type': 'CocoMetric', 'proposal_nums': (5, 7, 9)},
        {'type': 'CocoMetric', 'metric': ['bbox', 'proposal']},  # whose figures are AR@1000
        {'type': 'VOCMetric'},
    ]
    cfg = Config({'test_evaluator': evaluators})
    use_coco_limits(cfg)
    got = [evaluator.get('proposal_nums') for evaluator in cfg.test_evaluator]
    assert got == [(1, 10, 100), (1, 10, 100), (5, 7, 9), None, None]
    cfg = Config({'test_evaluator': evaluators[1]})
    use_coco_limits(cfg)
    assert cfg.test_evaluator.proposal_nums == (1, 10, 100)


def test_our_metrics_stand_for_mmdets():
    from mmdet.evaluation import CocoMetric, LVISMetric

    kinds = ['CocoMetric', 'mmdet.VOCMetric', CocoMetric, LVISMetric, 'mmpretrain.Accuracy']
    cfg = Config({'default_scope': 'mmdet', 'test_evaluator': [{'type': k} for k in kinds]})
    use_own(cfg)
    ours = ['effvit_mm.CocoMetric', 'effvit_mm.VOCMetric', 'effvit_mm.CocoMetric']
    assert [node['type'] for node in cfg.test_evaluator] == [*ours, LVISMetric, kinds[-1]]


def test_figures_by_class_and_size(tmp_path):
    data, predictions = as_they_are(detections.random_truth())
    truth, _ = detections.write(tmp_path, data, predictions)
    evaluation = run_metric(build_metric(tmp_path), predictions)['segm']
    stats = run_pycocotools(truth, predictions, IDS, 'segm').stats
    figures = read_figures(evaluation)
    assert figures.kind == 'segm'
    everything, *sizes = figures.sizes
    assert [row.name for row in figures.sizes] == ['all', 'small', 'medium', 'large']
    got = [everything.ap, everything.ap50, everything.ap75, *(row.ap for row in sizes)]
    np.testing.assert_allclose(got, stats[:6], atol=1e-9)
    np.testing.assert_allclose([row.recall for row in figures.sizes], stats[8:12], atol=1e-9)

    # pycocotools alone with one class gives that class's row.
    real = [item for item in data['annotations'] if not item['iscrowd']]
    assert [row.name for row in figures.classes] == ['bird', 'dog', 'unseen', 'cat', 'never']
    for row, number in zip(figures.classes, sorted(IDS), strict=True):
        assert row.count == sum(item['category_id'] == number for item in real)
        alone = run_pycocotools_of(truth, predictions, number)
        want = [v if v > -1 else math.nan for v in (*alone[:3], alone[8])]
        np.testing.assert_allclose([row.ap, row.ap50, row.ap75, row.recall], want, atol=1e-9)
    assert math.isnan(figures.classes[-1].ap) and figures.classes[2].ap == 0
    assert everything.count == len(real) == sum(row.count for row in sizes)


def test_precision_by_class_bears_the_name_of_its_class(tmp_path):
    """The file lists its categories in another order than that of their ids."""
    data, predictions = as_they_are(detections.random_truth())
    detections.write(tmp_path, data, predictions)
    metric = build_metric(tmp_path, metric='bbox', classwise=True)
    keys = ('bboxes', 'labels', 'scores')
    for image in predictions:
        values = {key: torch.tensor(image['pred_instances'][key]) for key in keys}
        values['bboxes'] = values['bboxes'].reshape(-1, 4)
        metric.process({}, [{**image, 'pred_instances': values}])
    figures = metric.evaluate(len(predictions))
    for row in read_figures(metric.evaluations['bbox']).classes:
        got = figures[f'coco/{row.name}_precision']
        assert got == pytest.approx(row.ap, abs=5e-4, nan_ok=True), row.name


def run_pycocotools_of(truth, predictions, number):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from effvit_mm.evaluation.coco_results import to_coco_results

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        found = coco.loadRes(to_coco_results(predictions, IDS, 'segm'))
        evaluation = COCOeval(coco, found, 'segm')
        evaluation.params.catIds = [number]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_the_table_shows_what_does_not_exist_as_a_dash(tmp_path):
    data, predictions = as_they_are(detections.random_truth())
    data['categories'][0]['name'] = predictions[0]['img_path'] = '[red]cat'
    detections.write(tmp_path, data, predictions)
    metric = build_metric(tmp_path)
    metric.dataset_meta = {'classes': ('[red]cat', *detections.NAMES[1:])}
    table = coco_table(read_figures(run_metric(metric, predictions)['bbox']))
    lines = {line.split('│')[1].strip(): line for line in table.split('\n') if '│' in line}
    assert lines['never'].replace(' ', '') == '│never│-│-│-│-│0│'
    assert '[red]cat' in lines and 'boxes' in table


# The tool ----------------------------------------------------------------------------------------


def test_tool_prints_both_columns(tmp_path, capfd):
    detections.write(tmp_path, *as_they_are(detections.random_truth()))
    arguments = [str(detections.write_config(tmp_path)), str(tmp_path / 'predictions.json')]
    assert compare_pycocotools.main(arguments) == 0
    out, err = capfd.readouterr()
    assert 'bbox: largest difference' in out and 'segm: largest difference' in out
    assert 'AP of bird' in out and 'Accumulating' not in out and not err
    assert compare_pycocotools.main([*arguments, '--tolerance', '-1']) == 1


def test_largest_difference_sees_a_figure_that_only_one_side_has():
    assert largest_difference([('AP', 0.5, 0.5), ('APl', math.nan, math.nan)]) == 0
    assert largest_difference([('AP', 0.5, 0.4)]) == pytest.approx(0.1)
    assert largest_difference([('AP', 0.5, math.nan)]) == math.inf


# test.py -----------------------------------------------------------------------------------------


@pytest.fixture
def tested(tmp_path, monkeypatch):
    """``run(predictions, *flags)``: the output of test.py, and where it worked."""
    data = detections.random_truth()
    weights = detections.write_files(tmp_path, data)
    monkeypatch.chdir(tmp_path)

    def run(predictions, *flags, config=None, expected=0):
        forget_runs()
        detections.write(tmp_path, data, predictions)
        config = config or detections.write_config(tmp_path)
        arguments = [str(config), str(weights), '--work-dir', 'work', *flags]
        assert cli.test(arguments) == expected
        return tmp_path

    return data, run


def test_test_prints_the_figures_and_writes_what_was_predicted(tested, capfd):
    data, run = tested
    predictions = detections.random_predictions(data)
    folder = run(predictions, '--out', 'out.json')
    out = capfd.readouterr().out
    truth = folder / 'truth.json'
    for kind, title in (('bbox', 'boxes'), ('segm', 'masks')):
        stats = run_pycocotools(truth, predictions, IDS, kind).stats
        table = out.split(f'COCO, {title}')[1].split('╰')[0]
        everything = next(line for line in table.split('\n') if '│ all' in line).split('│')[2:7]
        want = [*(f'{v:.3f}' for v in (*stats[:3], stats[8]))]
        assert [cell.strip() for cell in everything[:4]] == want
        assert 'never' in table
    assert 'images/s' in out and 'out.json' in out
    noise = ('Accumulating', 'Average Precision', 'creating index', 'copypaste', 'prefix is not')
    assert not [line for line in noise if line in out]
    scalars = next((folder / 'work').glob('*/*.json')).read_text()
    assert 'coco/bbox_mAP_50' in scalars and 'coco/segm_mAP_s' in scalars

    written = json.loads((folder / 'out.json').read_text())
    for image, want in zip(written, predictions, strict=True):
        assert image['img_id'] == want['img_id']
        assert image['pred_instances'] == want['pred_instances']
        assert 'gt_instances' not in image
    assert compare_pycocotools.main([str(folder / 'config.py'), 'out.json']) == 0


def test_an_annotation_with_id_0_is_found(tmp_path):
    """pycocotools would take such an object as never found: the reader numbers from 1."""
    data, predictions = as_they_are(detections.random_truth())
    detections.write(tmp_path, data, predictions)
    want = str(read_figures(run_metric(build_metric(tmp_path), predictions)['bbox']))
    for item in data['annotations']:
        item['id'] -= 1
    detections.write(tmp_path, data, predictions)
    got = str(read_figures(run_metric(build_metric(tmp_path), predictions)['bbox']))
    assert got == want and 'nan' in got


@pytest.mark.parametrize('kind', ['CocoMetric', 'FasterCocoMetric'])
def test_figures_do_not_depend_on_how_the_file_lists_its_categories(tmp_path, kind):
    """Names decide: a file in another order, with numbers as names, without the unused class."""
    if kind == 'FasterCocoMetric':
        pytest.importorskip('faster_coco_eval')
    data, predictions = as_they_are(detections.random_truth())
    detections.write(tmp_path, data, predictions)
    rows = read_figures(run_metric(build_metric(tmp_path, kind), predictions)['bbox'])
    want = {row.name: row for row in rows.classes}
    assert len({row.ap for row in rows.classes}) > 3
    data['categories'] = [c for c in reversed(data['categories']) if c['name'] != 'never']
    detections.write(tmp_path, data, predictions)
    again = read_figures(run_metric(build_metric(tmp_path, kind), predictions)['bbox'])
    got = {row.name: row for row in again.classes}
    assert got.keys() == want.keys() and str(got) == str({name: want[name] for name in got})
    assert str(again.sizes) == str(rows.sizes)


def test_a_detector_that_finds_nothing_has_an_ap_of_0(tmp_path):
    data, predictions = as_they_are(detections.random_truth())
    for image in predictions:
        image['pred_instances'] = {'bboxes': [], 'labels': [], 'scores': [], 'masks': []}
    detections.write(tmp_path, data, predictions)
    metric = build_metric(tmp_path, metric=['bbox', 'segm', 'proposal'])
    evaluations = run_metric(metric, predictions)
    for kind in ('bbox', 'segm'):
        figures = read_figures(evaluations[kind])
        assert (figures.sizes[0].ap, figures.sizes[0].recall) == (0, 0)
        assert '0.000' in coco_table(figures)


@pytest.mark.parametrize('limits', [(1, 10, 300), (100,), (5, 7, 9)])
def test_limits_with_which_coco_has_no_ap_are_refused(tmp_path, limits):
    data = detections.random_truth()
    detections.write(tmp_path, data, [])
    with pytest.raises(ConfigError, match=r'proposal_nums=.* 100 among them.*\(1, 10, 100\)'):
        build_metric(tmp_path, proposal_nums=limits)
    build_metric(tmp_path, proposal_nums=(1, 10, 100))  # what the message advises
    build_metric(tmp_path, proposal_nums=limits, metric='proposal_fast')


def test_predictions_alone_need_a_place(tmp_path):
    detections.write(tmp_path, detections.random_truth(), [])
    with pytest.raises(ConfigError, match='format_only=True: outfile_prefix is needed'):
        build_metric(tmp_path, format_only=True)
    build_metric(tmp_path, format_only=True, outfile_prefix='work_dirs/found')


def test_test_without_any_prediction(tested, capfd):
    data, run = tested
    nothing = {'bboxes': [], 'labels': [], 'scores': [], 'masks': []}
    empty = [{'img_id': image['id'], 'pred_instances': nothing} for image in data['images']]
    folder = run(empty, '--out', 'out.json')
    out = capfd.readouterr().out
    assert 'COCO, boxes' in out and 'COCO, masks' in out and 'is empty' not in out
    assert 'coco/bbox_mAP: 0.0000' in out
    assert len(json.loads((folder / 'out.json').read_text())) == detections.IMAGES


def test_test_with_vocs_metric(tested, capfd):
    data, run = tested
    folder = detections.write_config(Path.cwd()).parent
    config = folder / 'voc.py'
    text = (folder / 'config.py').read_text()
    config.write_text(text + "test_evaluator = dict(type='VOCMetric', iou_thrs=[0.5, 0.6])\n")
    run(detections.random_predictions(data), config=config)
    out = capfd.readouterr().out
    assert 'VOC, IoU 0.50' in out and 'VOC, IoU 0.60' in out
    table = out.split('VOC, IoU 0.50')[1].split('╰')[0]
    rows = {cells[1].strip(): cells[2:] for cells in (r.split('│') for r in table.split('\n')[3:])
            if len(cells) > 3}  # fmt: skip
    assert list(rows) == ['all', *detections.NAMES]
    by_class = [float(cells[0]) for name, cells in rows.items() if name not in ('all', 'never')]
    assert rows['never'][0].strip() == '-'
    assert float(rows['all'][0]) == pytest.approx(np.mean(by_class), abs=1e-3)
    real = [item for item in data['annotations'] if not item['iscrowd']]
    assert int(rows['all'][2]) == len(real)


def test_every_image_gets_its_picture(tested):
    data, run = tested
    folder = run(detections.random_predictions(data, crowded=False), '--show-dir', 'shown')
    names = sorted(path.name for path in (folder / 'shown').glob('*.png'))
    want = [
        f'{place:06d}_{Path(image["file_name"]).stem}.png'
        for place, image in enumerate(data['images'])
    ]
    assert names == want
    assert len({name.split('_')[1] for name in names}) < len(names)  # the same file name twice
    for name, image in zip(names, data['images'], strict=True):
        picture = read_rgb(folder / 'shown' / name)
        assert picture.shape[1] > 2 * detections.SIZE
        grey = picture[:150].reshape(-1, 3)
        assert (grey == 10 * image['id']).all(1).sum() > 500  # this image, not another


def test_some_pictures_and_their_sheet(tested, capfd):
    data, run = tested
    predictions = detections.random_predictions(data, crowded=False)
    Path('shown').mkdir()
    note_drawn('shown/00_earlier.png').touch()
    Path('shown/mine.png').touch()
    folder = run(predictions, '--show-dir', 'shown', '--show-number', '4')
    names = sorted(path.name for path in (folder / 'shown').glob('*.png'))
    assert [name.split('_')[0] for name in names] == [
        '000000',
        '000003',
        '000006',
        '000009',
        'mine.png',
        'sheet.png',
    ]
    sheet, first = (read_rgb(folder / 'shown' / name) for name in (names[-1], names[0]))
    assert sheet.shape[0] > 2 * first.shape[0] and sheet.shape[1] > 2 * first.shape[1]
    for flags, message in (
        (['--show-number', '4'], '--show-number goes with --show-dir'),
        (['--show-dir', 'x', '--show-number', '0'], '--show-number 0: 1 or more'),
    ):
        run(predictions, *flags, expected=2)
        assert message in capfd.readouterr().err


# Pictures ----------------------------------------------------------------------------------------


def objects(boxes, scores=None, masks=None):
    found = InstanceData(bboxes=torch.tensor(boxes).reshape(-1, 4).float())
    found.labels = torch.arange(len(boxes))
    if scores is not None:
        found.scores = torch.tensor(scores)
    if masks is not None:
        found.masks = torch.from_numpy(masks)
    return found


@pytest.mark.parametrize('size', [(1, 1), (7, 30), (12, 9), (200, 300)])
def test_truth_stands_left_and_predictions_from_the_threshold_on_right(size):
    height, width = size
    image = np.full((height, width, 3), 90, np.uint8)
    box = [0, 0, width, height]
    masks = np.ones((1, height, width), bool)
    meta = {'classes': ('a', 'b')}

    def drawn(score, truth):
        predicted = objects([box], [score], masks)
        sample = DetDataSample(pred_instances=predicted, metainfo={'ori_shape': size})
        picture = draw_detection(image, sample, meta, truth)
        return (picture[: -LINE_HEIGHT - GAP] != 90).any(-1)  # without the titles

    alone = drawn(0.1, None)
    assert not alone.any() and min(alone.shape) >= min(MIN_SIDE, 160)
    assert drawn(0.9, None).mean() > 0.9  # the mask
    middle = alone.shape[1]
    both = drawn(0.1, objects([box], masks=masks))
    assert both[:, :middle].mean() > 0.9 and not both[:, middle + GAP :].any()
    nothing = drawn(0.9, objects([]))
    assert not nothing[:, :middle].any() and nothing[:, middle + GAP :].mean() > 0.9


def test_a_box_beyond_the_image_does_not_shrink_the_picture():
    image = np.random.default_rng(0).integers(0, 255, (200, 240, 3), dtype=np.uint8)
    sample = DetDataSample(pred_instances=objects([[100.0, 90, 900, 700]], [0.9]))
    picture = draw_detection(image, sample, {'classes': ('a',)})
    np.testing.assert_array_equal(picture[:80, :90], image[:80, :90])


def test_ranks_draw_their_own_images(monkeypatch):
    """mmengine's visualizer does nothing on all ranks but the first."""
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    image = np.full((200, 240, 3), 90, np.uint8)
    sample = DetDataSample(pred_instances=objects([[10.0, 10, 190, 190]], [0.9]))
    assert (draw_detection(image, sample, {'classes': ('a',)})[:200] != 90).any()


def test_truth_is_read_from_the_data_set_whatever_its_pipeline(tmp_path):
    from mmdet.datasets import CocoDataset

    data = detections.random_truth()
    detections.write(tmp_path, data, [])
    dataset = CocoDataset(
        data_root=str(tmp_path), ann_file='truth.json', data_prefix={'img': ''}, test_mode=True,
        metainfo={'classes': detections.NAMES}, pipeline=[],
    )  # fmt: skip
    for place, image in enumerate(data['images']):
        own = [a for a in data['annotations'] if a['image_id'] == image['id'] and not a['iscrowd']]
        truth = load_truth(dataset, place, with_masks=True)
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in own)]
        torch.testing.assert_close(truth.bboxes, torch.tensor(boxes).reshape(-1, 4))
        assert truth.labels.tolist() == [IDS.index(a['category_id']) for a in own]
        masks = [detections.ellipse(a['bbox']) for a in own]
        assert np.array_equal(truth.masks, np.array(masks).reshape(-1, 160, 160))
