"""Sets in YOLO's layout: by the one reader, checked row by row, trained like COCO-style ones."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path

import pytest
import yaml
from coco_sets import NAMES, SIZE
from programs import load_tool
from remedies import tries
from trainer import forget_runs
from yolo_sets import make_both, make_yolo, write_yaml

pytest.importorskip('mmdet')
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.datasets.coco_check import CocoSource, check_coco
from effvit_mm.openmm.datasets.coco_format import read_classes, read_coco
from effvit_mm.openmm.datasets.detection import CocoFolder, YoloFolder
from effvit_mm.openmm.datasets.fault_kinds import KINDS
from effvit_mm.openmm.datasets.yolo_format import label_path, yolo_split
from effvit_mm.weights.checkpoint import read_checkpoint

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'pslt'
QUICK = [f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')]
QUICK += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'param_scheduler=None']
QUICK += ['train_dataloader.batch_size=1', 'model.test_cfg.score_thr=0.0']
QUICK += ['model.neck.out_channels=16', 'model.bbox_head.stacked_convs=1']
QUICK += ['model.bbox_head.in_channels=16', 'model.bbox_head.feat_channels=16']
QUICK += ['default_hooks.checkpoint.save_optimizer=False']
QUICK += ['train_dataloader.dataset.pipeline.2.scale=(96,72)']
QUICK += [f'{split}_dataloader.dataset.pipeline.1.scale=(96,72)' for split in ('val', 'test')]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('YOLO_FOLDER_ROOT', raising=False)
    forget_runs()


def boxes(data: dict) -> list:
    """Images in their order, each with its objects: class, box and outline."""
    names = {c['id']: c['name'] for c in data['categories']}
    return [
        [
            (names[a['category_id']], a['bbox'], a.get('segmentation'), a['area'])
            for a in data['annotations']
            if a['image_id'] == image['id']
        ]
        for image in data['images']
    ]


def rows(root: Path, number: int = 0, split: str = 'train') -> Path:
    return root / split / 'labels' / f'{number}.txt'


def test_names_of_splits():
    assert yolo_split('a/data.yaml#train') == ('a/data.yaml', 'train')
    assert yolo_split(Path('a#b/data.YML#val')) == ('a#b/data.YML', 'val')
    assert yolo_split('a/train.json') is yolo_split('data.yaml') is yolo_split('a#b.json') is None
    assert label_path('/d/images/train/images/a.b.jpg') == '/d/images/train/labels/a.b.txt'
    assert label_path('/d/pictures/a.png') == '/d/pictures/a.txt'


@pytest.mark.parametrize('masks', [False, True])
def test_reads_what_the_coco_style_file_says(masks):
    want = make_yolo(Path('set'), masks=masks)
    data = read_coco('set/data.yaml#val')
    assert read_classes('set/data.yaml#train') == NAMES
    got, want = boxes(data), boxes(want)
    assert len(got) == 3 and [len(objects) for objects in got] == [2, 2, 2]
    for ours, theirs in zip(chain(*got), chain(*want), strict=True):
        assert ours[0] == theirs[0]
        assert ours[1] == pytest.approx(theirs[1], abs=1e-9)
        assert ours[3] == pytest.approx(theirs[3], abs=1e-9)
        assert ours[2] == ([pytest.approx(theirs[2][0], abs=1e-9)] if masks else None)
    assert all((i['width'], i['height']) == SIZE for i in data['images'])


@pytest.mark.parametrize(
    'content',
    [
        {'train': 'train/images'},
        {'train': '../train/images'},
        {'train': ['train/images']},
        {'path': 'inner', 'train': '../train/images'},
        {'path': '.', 'train': 'list.txt', 'nc': 3},
        {'train': 'train', 'names': dict(enumerate(NAMES))},
    ],
)
def test_where_images_may_be(content):
    want = make_yolo(Path('set'))
    Path('set/list.txt').write_text('./train/images/0.png\n\ntrain/images/1.png\n'
                                    'train/images/2.png\n')  # fmt: skip
    write_yaml(Path('set'), **{'names': list(NAMES), **content})
    got = boxes(read_coco('set/data.yaml#train'))
    assert [[b[0] for b in i] for i in got] == [[b[0] for b in i] for i in boxes(want)]


def test_images_without_labels_are_background_and_quirks_of_text_are_read():
    make_yolo(Path('set'))
    rows(Path('set'), 0).unlink()
    rows(Path('set'), 1).write_text('')
    rows(Path('set'), 2).write_bytes(b'\xef\xbb\xbf 1.0\t0.5 0.5  0.25 1.0005 \r\n\r\n')
    data = read_coco('set/data.yaml#train')
    assert len(data['images']) == 3
    (item,) = data['annotations']
    assert item['name'] == 'white'
    assert item['bbox'] == pytest.approx([18, -0.009, 12, 36.018])
    assert item['own_id'] == 'train/labels/2.txt:1'
    assert len(YoloFolder(data_root='set', ann_file='data.yaml#train',
                          filter_cfg={'filter_empty_gt': False})) == 3  # fmt: skip
    assert (
        len(YoloFolder('data.yaml#train', data_root='set', filter_cfg={'filter_empty_gt': True}))
        == 1
    )


@pytest.mark.parametrize(
    ('row', 'text'),
    [
        ('3 0.5 0.5 0.1 0.1', 'class 3: names has 0 to 2; correct it, or add its name'),
        ('-1 0.5 0.5 0.1 0.1', 'class -1: names has'),
        ('0.5 0.5 0.5 0.1 0.1', 'class 0.5: names has'),
        ('red 0.5 0.5 0.1 0.1', "'red' is no number"),
        ('0 0.5 0.5 0.1', '4 values; class and cx cy w h are needed, or class and x y of three'),
        ('0 0.5 0.5 0.1 0.1 0.9', 'a sixth value, a confidence, must go'),
        ('0 0.1 0.1 0.2 0.2 0.3 0.3 0.4', '8 values'),
        ('0 0.5 0.5 nan 0.1', 'nan is no finite number'),
        ('0 0.5 0.5 inf 0.1', 'inf is no finite number'),
        ('0 0.5 1.01 0.1 0.1', "1.01 is not within 0 to 1: values are parts of the image's width"),
        ('0 320 240 50 50', '320 is not within 0 to 1'),
        ('0 0.1 0.1 0.2 -0.2 0.3 0.3', '-0.2 is not within 0 to 1'),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_file_line_and_value(row, text):
    make_yolo(Path('set'))
    label = rows(Path('set'), 1)
    label.write_text(label.read_text() + row + '\n')
    with pytest.raises(DataError) as error:
        read_coco('set/data.yaml#train')
    assert re.search(r'train/labels/1\.txt, line 3: ', str(error.value)), error.value
    assert text in str(error.value) and '\n' not in str(error.value)
    report = check_coco(CocoSource(Path('set/data.yaml#train'), Path('set')))
    assert [f.kind for f in report.findings if f.detail.startswith('line 3')] == ['bad_record']
    assert report.fatal()


def test_shared_faults_are_found_by_label_file_and_line():
    make_yolo(Path('set'))
    label = rows(Path('set'), 0)
    first = label.read_text().splitlines()[0]
    label.write_text('\n'.join([first, first, '0 1.0 0.5 0.5 0.5', '1 0.5 0.5 0 0.5']))
    rows(Path('set'), 99).write_text(first)
    report = check_coco(CocoSource(Path('set/data.yaml#train'), Path('set')))
    found = {kind: [f.detail for f in fs] for kind, fs in report.by_kind().items()}
    assert found['duplicate_box'] == ['annotations train/labels/0.txt:1 and train/labels/0.txt:2']
    assert found['crossing_box'][0].startswith('annotation train/labels/0.txt:3: box 36')
    assert found['empty_box'][0].startswith('annotation train/labels/0.txt:4: box')
    assert found['unused_label'] == ['no image of this name']
    assert report.by_kind()['unused_label'][0].file.endswith('train/labels/99.txt')
    assert not report.fatal()


@tries('bring the images back, or delete the files')
@pytest.mark.parametrize('back', [True, False])
def test_a_label_file_without_an_image_gets_one_or_goes(back):
    make_yolo(Path('set'))
    source = CocoSource(Path('set/data.yaml#train'), Path('set'))
    picture = Path('set/train/images/1.png').rename('1.png')
    ((kind, found),) = check_coco(source).by_kind().items()
    assert kind == 'unused_label' and 'or delete the files' in KINDS[kind].remedy
    if back:
        picture.rename('set/train/images/1.png')
    else:
        Path(found[0].file).unlink()
    assert not check_coco(source).findings


@tries('correct it, or add its name')
def test_a_class_without_a_name_is_corrected_or_gets_one():
    make_yolo(Path('set'))
    label = rows(Path('set'))
    label.write_text('3 0.5 0.5 0.1 0.1')
    with pytest.raises(DataError, match='correct it, or add its name'):
        read_coco('set/data.yaml#train')
    write_yaml(Path('set'), train='train/images', names=[*NAMES, 'fourth'])
    assert read_coco('set/data.yaml#train')['annotations'][0]['name'] == 'fourth'
    write_yaml(Path('set'), train='train/images', names=list(NAMES))
    label.write_text('2 0.5 0.5 0.1 0.1')
    assert read_coco('set/data.yaml#train')['annotations'][0]['name'] == NAMES[2]


@tries('no text to YAML; put it in quotes', 'give the folder of images from that of {} on')
def test_names_in_quotes_and_the_folder_of_images():
    make_yolo(Path('set'))
    file, text = Path('set/data.yaml'), 'train: pictures\nnames: [yes, b, c]\n'
    file.write_text(text)
    with pytest.raises(DataError, match='names has True, no text to YAML; put it in quotes'):
        read_classes('set/data.yaml#train')
    file.write_text(text.replace('yes', "'yes'"))
    assert read_classes('set/data.yaml#train') == ('yes', 'b', 'c')
    with pytest.raises(DataError, match=r'give the folder of images from that of data\.yaml on'):
        read_coco('set/data.yaml#train')
    file.write_text(file.read_text().replace('pictures', 'train/images'))
    assert len(read_coco('set/data.yaml#train')['images']) == 3


def test_unreadable_images_are_named():
    make_yolo(Path('set'))
    Path('set/train/images/1.png').write_bytes(b'')
    report = check_coco(CocoSource(Path('set/data.yaml#train'), Path('set')))
    ((kind, found),) = report.fatal().items()
    assert kind == 'unreadable_image' and found[0].file.endswith('train/images/1.png')


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'names': None}, 'names=None; a list of names, or number: name, is needed'),
        ({'names': []}, 'names=[]; a list'),
        ({'names': {0: 'a', 2: 'b'}}, 'names has the numbers 0, 2; those from 0 to 1 are needed'),
        ({'names': ['a', 'a']}, "names has 'a' more than once"),
        ({'names': ['a', False]}, 'names has False, no text to YAML; put it in quotes'),
        ({'nc': 4}, 'nc=4, but names has 3; they must agree'),
        ({'train': None}, 'it has no train; a folder of images is needed'),
        ({'train': 'nowhere'}, "train='nowhere': there is no "),
        ({'train': 'empty'}, 'train: there is no image in '),
        ({'train': 'data.yaml'}, 'a folder of images is needed, or a .txt file that lists them'),
        ({'kpt_shape': [17, 3]}, 'kpt_shape=[17, 3]: sets of keypoints are not read'),
    ],
)
def test_what_is_wrong_with_data_yaml(change, text):
    make_yolo(Path('set'))
    Path('set/empty').mkdir()
    content = {'train': 'train/images', 'names': list(NAMES), **change}
    write_yaml(Path('set'), **content)
    with pytest.raises(DataError) as error:
        read_coco('set/data.yaml#train')
    assert text in str(error.value) and 'data.yaml' in str(error.value)
    assert '\n' not in str(error.value)


def test_other_faults_of_names():
    make_yolo(Path('set'))
    with pytest.raises(DataError, match=r'data\.yaml#tain: there are train, val, test'):
        read_coco('set/data.yaml#tain')
    Path('set/data.yaml').write_text('names: [a\n')
    with pytest.raises(DataError, match=r'data\.yaml is no YAML: .* line 2'):
        read_coco('set/data.yaml#train')
    Path('set/data.yaml').write_text('a')
    with pytest.raises(DataError, match="train, val and names are needed, it has 'a'"):
        read_coco('set/data.yaml#train')
    with pytest.raises(DataError, match=r'nothing\.yaml: No such file'):
        read_coco('set/nothing.yaml#train')
    with pytest.raises(ConfigError, match=r"ann_file='train.json': 'data\.yaml#train' is needed"):
        YoloFolder(ann_file='train.json')


@tries('give one of them another name')
def test_two_images_of_one_label_file_are_an_error():
    make_yolo(Path('set'))
    picture = Path('set/train/images/0.png')
    picture.with_suffix('.bmp').write_bytes(picture.read_bytes())
    with pytest.raises(DataError, match=r'labels/0\.txt, it is of .*0\.bmp and of .*0\.png; give'):
        read_coco('set/data.yaml#train')
    picture.with_suffix('.bmp').rename(picture.with_name('9.bmp'))
    assert len(read_coco('set/data.yaml#train')['images']) == 4


def test_valid_stands_for_val():
    make_yolo(Path('set'))
    content = yaml.safe_load(Path('set/data.yaml').read_text())
    content['valid'] = content.pop('val')
    write_yaml(Path('set'), **content)
    assert len(read_coco('set/data.yaml#val')['images']) == 3


@pytest.mark.parametrize('name', ['retinanet_pslt-tiny_yolo', 'mask-rcnn_pslt-tiny_folder'])
def test_data_root_alone_is_enough(name):
    make_yolo(Path('set'), masks=True)
    cfg = load_config(str(CONFIGS / f'{name}.py'), ['data_root=set'])
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.ann_file == f'data.yaml#{"train" if split == "train" else "val"}'
    assert cfg.test_evaluator.ann_file == cfg.val_evaluator.ann_file == 'set/data.yaml#val'
    check = load_tool('analysis_tools/check_dataset').main
    arguments = ['--cfg-options', 'data_root=set']
    assert check([str(CONFIGS / f'{name}.py'), *arguments]) == 0


def test_check_tool_takes_a_split(capsys):
    make_yolo(Path('set'))
    check = load_tool('analysis_tools/check_dataset').main
    assert check(['set/data.yaml#train', '--read-images']) == 0
    label = rows(Path('set'), 1)
    label.write_text('7 0.5 0.5 0.1 0.1\n')
    capsys.readouterr()
    assert check(['set/data.yaml#train']) == 1
    assert 'line 1: class 7: names has 0 to 2' in capsys.readouterr().out


def test_trains_and_validates_as_the_coco_style_set_does():
    """Two steps and a validation: losses, weights and figures are the same."""
    yolo, coco = make_both(Path('sets'), images=2)
    first = YoloFolder(data_root=str(yolo), ann_file='data.yaml#val', test_mode=True)
    second = CocoFolder(
        data_root=str(coco), ann_file='annotations/val.json', data_prefix={'img': 'images'},
        test_mode=True,
    )  # fmt: skip
    for ours, theirs in zip(first, second, strict=True):
        for mine, other in zip(ours['instances'], theirs['instances'], strict=True):
            assert mine['bbox'] == pytest.approx(other['bbox'], abs=1e-9)
            assert mine['bbox_label'] == other['bbox_label']
    runs = {}
    for root, config in ((yolo, 'yolo'), (coco, 'folder')):
        forget_runs()
        options = [f'data_root={root}', *QUICK]
        arguments = [str(CONFIGS / f'retinanet_pslt-tiny_{config}.py'), '--seed', '1']
        work = f'work-{config}'
        assert cli.train([*arguments, '--work-dir', work, '--cfg-options', *options]) == 0
        content = read_checkpoint(f'{work}/epoch_1.pth')
        assert content['meta']['iter'] == 2
        assert content['meta']['dataset_meta']['classes'] == NAMES
        history = content['message_hub']['runtime_info']['effvit_mm/history']
        runs[config] = (history[-1]['metrics'], content['state_dict'])
    metrics, state = runs['yolo']
    assert metrics == runs['folder'][0] and 'coco/bbox_mAP' in metrics
    for name, value in state.items():
        assert value.float().allclose(runs['folder'][1][name].float(), atol=1e-5), name
    out = ['--out', 'p.json', '--work-dir', 'test']
    forget_runs()
    arguments = [str(CONFIGS / 'retinanet_pslt-tiny_yolo.py'), 'work-yolo/epoch_1.pth', *out]
    assert cli.test([*arguments, '--cfg-options', f'data_root={yolo}', *QUICK]) == 0
    assert len(json.loads(Path('p.json').read_text())) == 2
