"""The sample scenes: the same everywhere, their boxes and masks those of the drawn pixels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from programs import load_tool

from effvit_mm.errors import DataError
from effvit_mm.openmm.datasets import OnTexture
from effvit_mm.sample_data import scenes
from effvit_mm.sample_data.digit_images import load_digit_images, split_indices
from effvit_mm.sample_data.folders import make_once
from effvit_mm.utils.images import load_image

ROOT = Path(__file__).resolve().parents[1]
# Of the pixels and annotations below: the same on every machine.
DIGEST = '39106bda85793768'


@pytest.fixture(scope='module', autouse=True)
def few_scenes():
    """The first scenes of each split are the same, however many follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, 'NUM_SCENES', {'train': 6, 'test': 3})
        yield


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_once(tmp_path_factory.mktemp('data') / 'scenes', scenes.build_digit_scenes)


@pytest.fixture(scope='module')
def train(root):
    return json.loads((root / 'annotations' / 'train.json').read_text())


def decode(rle: dict) -> np.ndarray:
    """A mask from run lengths, independently of the code that made them."""
    from pycocotools import mask

    return mask.decode(mask.frPyObjects(rle, *rle['size'])).astype(bool)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_made_twice_they_are_the_same_files(root, tmp_path):
    again = make_once(tmp_path / 'again', scenes.build_digit_scenes)
    assert files_of(again) == files_of(root)


def test_they_are_the_same_on_every_machine(root):
    digest = hashlib.sha256()
    for path in sorted((root / 'images').rglob('*.png')):
        digest.update(load_image(path).tobytes())
    for path in sorted((root / 'annotations').glob('*.json')):
        digest.update(path.read_bytes())
    assert digest.hexdigest()[:16] == DIGEST


def test_no_digit_of_the_test_scenes_is_in_a_training_scene():
    labels = load_digit_images()[1]
    for digit in range(10):
        train, test = (set(split_indices(labels, digit, split)) for split in ('train', 'test'))
        assert test and not train & test
        assert len(train | test) == (labels == digit).sum()


def test_boxes_and_areas_are_those_of_the_masks(train):
    sizes = {image['id']: (image['height'], image['width']) for image in train['images']}
    for annotation in train['annotations']:
        mask = decode(annotation['segmentation'])
        assert mask.shape == sizes[annotation['image_id']]
        rows, columns = np.nonzero(mask)
        x, y, width, height = annotation['bbox']
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert annotation['area'] == mask.sum() > 0
        assert annotation['iscrowd'] == 0


def test_digits_hide_each_other_in_the_masks_and_never_much(train):
    for image in train['images']:
        found = [a for a in train['annotations'] if a['image_id'] == image['id']]
        assert 1 <= len(found) <= scenes.DIGITS_A_SCENE[1]
        masks = [decode(annotation['segmentation']) for annotation in found]
        assert np.sum(masks, axis=0).max() == 1


def test_a_mask_is_what_was_drawn():
    images, _ = load_digit_images()
    generator = np.random.RandomState(1)
    for number, size in enumerate((70, 40, 20)):
        canvas, drawn = np.full((100, 120, 3), 128, np.uint8), []
        opacity = scenes.draw_digit(images[number], size, 10)
        assert scenes.place_digit(generator, canvas, opacity, drawn, number)
        mask = drawn[0].mask
        ink = np.abs(canvas.astype(int) - 128).max(2)
        assert ink[mask].min() >= ink.max() / 2 - 1
        assert ink[~mask].max() <= ink.max() / 2 + 1


def test_what_is_hidden_is_in_no_mask():
    images, _ = load_digit_images()
    generator, drawn = np.random.RandomState(1), []
    canvas = np.full((60, 60, 3), 128, np.uint8)
    for number, size in enumerate((48, 16, 16, 16)):
        opacity = scenes.draw_digit(images[number], size, 0)
        scenes.place_digit(generator, canvas, opacity, drawn, number)
    hidden = drawn[0].area_at_first - drawn[0].mask.sum()
    assert 0 < hidden <= drawn[0].area_at_first * scenes.MAX_COVERED / 100
    assert np.sum([item.mask for item in drawn], axis=0).max() == 1


@pytest.mark.parametrize('size', [14, 40, 64])
@pytest.mark.parametrize('degrees', [-15, 0, 15])
def test_a_digit_has_the_size_that_was_asked_for(size, degrees):
    images, _ = load_digit_images()
    opacity = scenes.draw_digit(images[0], size, degrees)
    height, width = opacity.shape
    assert 0.8 * size <= height <= 1.25 * size and width <= height
    assert opacity.max() == 256 and opacity.min() == 0
    if degrees == 0 and size == 48:  # 8 rows enlarged sixfold: every cell's centre is its value
        full = images[0] >= scenes.GREY_LEVELS // 2
        assert abs((opacity >= 128).sum() / 36 - full.sum()) < 0.25 * full.sum()


def test_interpolation_meets_the_grid_and_the_middle_between():
    grid = np.array([[0, 8], [16, 8]])
    one = scenes.ONE
    assert scenes.interpolate(grid, np.array([one]), np.array([0]))[0] == 16 * one
    assert scenes.interpolate(grid, np.array([one // 2]), np.array([one // 2]))[0] == 8 * one
    assert scenes.interpolate(grid, np.array([-9 * one]), np.array([0]))[0] == 0


# With mmdet ---------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def det():
    pytest.importorskip('mmdet')
    import mmdet.datasets
    from mmengine.registry import DefaultScope, init_default_scope

    init_default_scope('mmdet')
    yield mmdet
    DefaultScope._instance_dict.clear()


def loaded_config(name: str, root: Path, *options: str):
    from effvit_mm.openmm.config.loading import load_config

    path = ROOT / 'configs' / '_base_' / 'datasets' / name
    return load_config(str(path), [f'data_root={root}', *options])


def test_mmdet_loads_boxes_and_masks(det, root, train):
    from mmdet.registry import DATASETS

    cfg = loaded_config('digit_scenes_masks.py', root)
    config = cfg.test_dataloader.dataset
    config.update(split='train', test_mode=False)
    config.pipeline.pop(1)  # the resizing
    dataset = DATASETS.build(config)
    assert len(dataset) == len(train['images'])
    assert dataset.metainfo['classes'] == tuple('0123456789')
    total = 0
    for item in dataset:
        objects = item['data_samples'].gt_instances
        boxes, masks = objects.bboxes, objects.masks.to_ndarray()
        for box, mask in zip(getattr(boxes, 'tensor', boxes), masks, strict=True):
            rows, columns = np.nonzero(mask)
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == extent
        total += len(masks)
    assert total == len(train['annotations'])


def test_data_root_reaches_data_sets_and_evaluator(det, root):
    cfg = loaded_config('digit_scenes.py', root)
    assert cfg.val_dataloader.dataset.data_root == cfg.train_dataloader.dataset.data_root
    assert Path(cfg.val_evaluator.ann_file) == root / 'annotations' / 'test.json'
    assert Path(cfg.test_evaluator.ann_file) == root / 'annotations' / 'test.json'


def test_an_evaluator_with_a_file_of_its_own_keeps_it(det, root):
    cfg = loaded_config('digit_scenes.py', root, 'val_evaluator.ann_file=mine.json')
    assert cfg.val_evaluator.ann_file == 'mine.json'


def test_names_of_a_coco_folder_reach_every_place(det, tmp_path):
    options = ('train_annotations=a.json', 'val_annotations=b.json', 'val_images=test')
    cfg = loaded_config('coco_folder.py', tmp_path, *options)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert (train.ann_file, train.classes_from, val.classes_from) == ('a.json',) * 3
    assert (val.ann_file, val.data_prefix.img, train.data_prefix.img) == (
        'b.json', 'test', 'images',
    )  # fmt: skip
    assert Path(cfg.test_evaluator.ann_file) == tmp_path / 'b.json'


def test_a_coco_folder_reads_its_classes(det, tmp_path):
    from coco_sets import NAMES, make_coco, write
    from mmdet.registry import DATASETS

    data = make_coco(tmp_path, splits=('train', 'val'))
    names = ('train_annotations=train.json', 'val_annotations=val.json')
    cfg = loaded_config('coco_folder.py', tmp_path, *names)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert dataset.metainfo['classes'] == NAMES
    assert dataset[0]['data_samples'].gt_instances.labels.tolist() == [0, 1]
    assert DATASETS.build(cfg.val_dataloader.dataset).metainfo['classes'] == NAMES
    data['categories'].reverse()
    write(tmp_path, data, 'val')
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert dataset.metainfo['classes'] == NAMES
    assert dataset.get_cat_ids(0) == [0, 1]
    data['categories'] = [c for c in data['categories'] if c['name'] != 'red']
    data['annotations'] = [a for a in data['annotations'] if a['category_id'] != 10]
    write(tmp_path, data, 'val')
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert dataset.metainfo['classes'] == NAMES
    assert [dataset.get_cat_ids(index) for index in range(3)] == [[1], [2], [1, 2]]
    data['categories'] = [{'id': 1, 'name': 'person'}]
    write(tmp_path, data, 'val')
    with pytest.raises(
        DataError, match=r'val\.json: .* \(person\) have none of the 3 classes \(red, '
    ):
        DATASETS.build(cfg.val_dataloader.dataset)


def test_voc_folders_build(det, tmp_path):
    import cv2
    from mmdet.registry import DATASETS

    xml = (
        '<annotation><size><width>64</width><height>48</height></size><object><name>{}</name>'
        '<difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>50</xmax>'
        '<ymax>45</ymax></bndbox></object></annotation>'
    )
    for year, name in (('2007', 'cat'), ('2012', 'dog')):
        base = tmp_path / f'VOC{year}'
        for folder in ('ImageSets/Main', 'Annotations', 'JPEGImages'):
            (base / folder).mkdir(parents=True)
        for split in ('trainval', 'test'):
            (base / 'ImageSets' / 'Main' / f'{split}.txt').write_text('000001\n')
        (base / 'Annotations' / '000001.xml').write_text(xml.format(name))
        cv2.imwrite(str(base / 'JPEGImages' / '000001.jpg'), np.zeros((48, 64, 3), np.uint8))
    cfg = loaded_config('voc.py', tmp_path)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    labels = [int(dataset[i]['data_samples'].gt_instances.labels) for i in range(2)]
    assert [dataset.metainfo['classes'][label] for label in labels] == ['cat', 'dog']
    assert len(DATASETS.build(cfg.val_dataloader.dataset)) == 1


def test_an_unknown_split_is_refused(det, root):
    from mmdet.registry import DATASETS

    with pytest.raises(DataError, match="'train' and 'test', not 'val'"):
        DATASETS.build({'type': 'effvit_mm.DigitScenes', 'data_root': str(root), 'split': 'val'})


def test_objects_are_drawn_where_they_are(det, root, tmp_path):
    from mmdet.registry import DATASETS

    from effvit_mm.openmm.pictures import draw_samples
    from effvit_mm.visualization.pictures import contact_sheet

    cfg = loaded_config('digit_scenes_masks.py', root)
    config = cfg.train_dataloader.dataset
    config.pipeline.pop(2)  # the resizing
    dataset = DATASETS.build(config)
    (name, picture), (_, other) = draw_samples(dataset, [0, 1])
    assert name == '000000_0001'
    plain = load_image(root / 'images' / 'train' / '0001.png')[..., ::-1]
    changed = np.abs(picture.astype(int) - plain).sum(2) > 30
    boxes = dataset.get_data_info(0)['instances']
    for box in boxes:
        x1, y1, x2, y2 = (int(v) for v in box['bbox'])
        assert changed[y1:y2, x1:x2].any()
    assert (~changed).mean() > 0.3, 'the rest of the picture is as it was'
    sheet = contact_sheet([picture, other])
    assert sheet.shape[1] > picture.shape[1] + other.shape[1]


def test_the_browser_draws_any_configs_samples(tmp_path, capsys, monkeypatch):

    import cv2

    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    tool = load_tool('analysis_tools/browse_dataset')
    config = [str(ROOT / 'configs' / '_base_' / 'datasets' / 'digits.py')]
    options = ['--cfg-options', 'default_scope=mmpretrain']
    assert tool.main([*config, '--number', '4', '--out', 'sheet.png', *options]) == 0
    sheet = cv2.imread('sheet.png')
    assert sheet.shape == (2 * 166 + 6, 2 * 166 + 6, 3)
    assert sheet[6:166, 6:166].std() > 20
    assert tool.main([*config, '--number', '2', '--out', 'folder', *options]) == 0
    assert len(list(Path('folder').glob('*.png'))) == 2
    assert tool.main([*config, '--number', '0', *options]) == 2
    assert 'error: --number 0' in capsys.readouterr().err


def test_normalised_inputs_are_shown_as_they_were():
    import torch

    from effvit_mm.visualization.pictures import as_bytes

    image = np.random.RandomState(0).randint(0, 256, (4, 5, 3)).astype(np.uint8)
    mean, std = np.array([120.0, 110, 100]), np.array([60.0, 61, 62])
    inputs = torch.from_numpy((image - mean) / std).permute(2, 0, 1).float()
    assert np.array_equal(as_bytes(inputs.numpy(), mean, std, is_rgb=True), image)
    raw = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
    assert np.array_equal(as_bytes(raw.numpy()), image)


def test_classification_does_without_mmdet(pythons):
    code = (
        'import sys, effvit_mm, effvit_mm.openmm.engine; from effvit_mm.registry import DATASETS; '
        "assert DATASETS.get('Digits'); assert 'mmdet' not in sys.modules"
    )
    done = pythons.run('-c', code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_digit_on_a_texture_can_be_told_from_it():
    """Full ink is of one colour, paper is texture, and the two differ in brightness."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[8:24, 12:20] = 255
    np.random.seed(0)
    pictures = [OnTexture()({'img': image.copy()})['img'] for _ in range(20)]
    weights = np.array((0.114, 0.587, 0.299))
    for picture in pictures:
        ink, ground = picture[8:24, 12:20].reshape(-1, 3), picture[:, :12].reshape(-1, 3)
        assert picture.shape == image.shape and picture.dtype == np.uint8
        assert (ink == ink[0]).all() and len(np.unique(ground, axis=0)) > 50
        # The colour is chosen against the mean of the whole picture; its left third is near it.
        assert abs(ink[0] @ weights - ground.mean(0) @ weights) > scenes.MIN_CONTRAST / 2
    np.random.seed(0)
    assert (OnTexture()({'img': image})['img'] == pictures[0]).all()
    assert (pictures[0] != pictures[1]).any()
