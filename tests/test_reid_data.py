"""Data sets for re-identification: read, numbered, joined, and refused where they are of no use."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from reid_folders import IMAGE, MARKET, make_market, market_name, put
from remedies import tries

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm.reid.datasets import ConcatReID, ReIDDataset
from effvit_mm.reid.names import compile_pattern, read_folders, read_names
from effvit_mm.sample_data import walkers

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / '_base_' / 'datasets'


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def market(tmp_path):
    return make_market(tmp_path / 'market')


# Reading ------------------------------------------------------------------------------------------


def test_training_persons_are_numbered_in_the_order_of_their_ids(market):
    dataset = ReIDDataset(data_root=str(market))
    assert dataset.num_pids == 3
    assert dataset.metainfo['classes'] == ('3', '7', '12')
    assert dataset.get_pids().tolist() == [0] * 4 + [1] * 4 + [2] * 4
    sample = dataset.get_data_info(4)
    assert sample['gt_label'] == sample['pid'] == 1
    assert (sample['subset'], sample['dsetid']) == ('train', 0)
    assert Path(sample['img_path']).name == '0007_c1s1_000000_00.jpg'


def test_the_test_set_is_the_queries_and_then_the_gallery_under_their_own_ids(market):
    put(market / 'bounding_box_test', market_name(-1, 1, 9), market_name(0, 2, 9))
    dataset = ReIDDataset(data_root=str(market), split='test')
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert dataset.test_mode and dataset.num_query == 4
    assert [s['subset'] for s in samples] == ['query'] * 4 + ['gallery'] * 5
    assert [s['pid'] for s in samples] == [2, 2, 5, 5, 0, 2, 2, 5, 5]  # junk is gone
    assert dataset.get_camids().tolist() == [0, 1, 0, 1, 1, 0, 1, 0, 1]
    assert [s['sample_idx'] for s in samples] == list(range(9))
    assert all('gt_label' not in s for s in samples)


def test_names_of_ones_own_may_be_any_text_in_any_folders(tmp_path):
    for place, people in (('a/train', ('zoe', 'ann')), ('a/q', ('bob',)), ('a/g', ('bob', '7'))):
        for person in people:
            put(tmp_path / place / person, 'hall-1.png', 'yard-1.png')
    options = {
        'data_root': str(tmp_path / 'a'),
        'pattern': r'^(?P<pid>[^/]+)/(?P<cam>[a-z]+)-\d',
        'folders': {'train': 'train', 'query': 'q', 'gallery': 'g'},
    }
    train, test = (ReIDDataset(split=split, **options) for split in ('train', 'test'))
    assert train.metainfo['classes'] == ('ann', 'zoe')
    assert train.metainfo['cameras'] == test.metainfo['cameras'] == ('hall', 'yard')
    pids = {Path(i['img_path']).parent.name: i['pid'] for i in map(test.get_data_info, range(6))}
    assert len(set(pids.values())) == 2 and min(pids.values()) >= 0


def test_person_0_of_a_pattern_of_ones_own_is_a_person(tmp_path):
    make_market(tmp_path, train=(0, 4), test=(6,))
    own = r'^(?P<pid>\d+)_c(?P<cam>\d)'
    assert read_folders(tmp_path, own).persons == ('0', '4')
    assert not read_folders(tmp_path, own).remarks


def test_person_0_of_a_set_of_ones_own_with_markets_names_is_a_person_and_told(tmp_path):
    root = make_market(tmp_path, train=(0, 4), test=(6,))
    splits = read_folders(root)
    assert splits.persons == ('0', '4') and len(splits.train) == 8
    (remark,) = splits.remarks
    assert 'bounding_box_train: 4 images of person 0 are those of a person' in remark


def test_person_0_can_be_searched_for_where_queries_have_it(tmp_path):
    splits = read_folders(make_market(tmp_path, train=(3, 7), test=(0, 5)))
    assert [item.pid for item in splits.query] == [0, 0, 5, 5]
    assert [item.pid for item in splits.gallery] == [0, 0, 5, 5]


@tries(
    "; remove them, or, if it is a person of yours, read the set by source='folder' with pattern={}"
)
@pytest.mark.parametrize('subset', ['train', 'query'])
def test_person_minus_1_where_market_has_none_is_refused_and_the_remedies_work(tmp_path, subset):
    root = make_market(tmp_path)
    put(root / MARKET[subset], market_name(-1, 1, 8), market_name(-1, 2, 8))
    with pytest.raises(DataError, match=r'2 images of person -1 \(-1_c1s1_000008_00') as caught:
        read_folders(root)
    pattern = ast.literal_eval(str(caught.value).rpartition('pattern=')[2])
    splits = read_folders(root, pattern)
    assert len(getattr(splits, subset)) == {'train': 14, 'query': 6}[subset]
    if subset == 'train':
        assert splits.persons == ('-1', '3', '7', '12')
    # -1 would be nobody to the evaluation.
    assert all(item.pid >= 0 for item in (*splits.train, *splits.query, *splits.gallery))
    for path in (root / MARKET[subset]).glob('-1*'):
        path.unlink()
    assert not read_folders(root).remarks


def test_junk_of_the_gallery_is_left_out_and_told(market):
    put(market / 'bounding_box_test', market_name(-1, 1, 9), market_name(0, 2, 9))
    splits = read_folders(market)
    (remark,) = splits.remarks
    assert '1 images of person -1 are left out' in remark and '-1_c1s1_000009_00.jpg' in remark


def test_what_a_walk_passes_over_is_told_once_however_often_the_set_is_read(market, monkeypatch):
    from mmengine.logging import MMLogger

    told = []
    monkeypatch.setattr(
        MMLogger.get_current_instance(), 'warning', lambda text, *_: told.append(text)
    )
    name = market_name(3, 1, 0)
    put(market / 'bounding_box_train', f'.ipynb_checkpoints/{name}', f'@eaDir/{name}', 'clip.mp4')
    for split in ('train', 'train', 'test'):
        dataset = ReIDDataset(data_root=str(market), split=split)
        assert len(dataset) == {'train': 12, 'test': 8}[split]
    assert [text.partition('passed over: ')[2] for text in told] == [
        '1 videos (clip.mp4); 2 hidden and system files and folders (.ipynb_checkpoints, @eaDir)'
    ]


def test_walkers_are_made_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(walkers, 'NUM_PEOPLE', {'train': 4, 'test': 2})
    monkeypatch.setattr(walkers, 'NUM_DISTRACTORS', 2)
    monkeypatch.setattr(walkers, 'NUM_JUNK', 2)
    root = str(tmp_path / 'walkers')
    train = ReIDDataset(data_root=root, source='walkers')
    test = ReIDDataset(data_root=root, source='walkers', split='test')
    assert (train.num_pids, len(train), test.num_query, len(test)) == (4, 48, 8, 8 + 16 + 2)
    assert train.metainfo['cameras'] == ('1', '2', '3', '4')


@pytest.mark.parametrize('name', ['reid_folder', 'ward', 'walkers'])
def test_the_configs_give_packed_samples(name, market, monkeypatch):
    pytest.importorskip('mmpretrain')
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    size = (128, 64) if name == 'walkers' else (256, 128)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(market), source='folder')
        sample = DATASETS.build(loader.dataset)[0]
        assert sample['inputs'].shape == (3, *size)
        meta = sample['data_samples']
        assert (meta.camid, meta.dsetid, meta.sample_idx) == (0, 0, 0)
        assert (meta.subset == 'train') == ('gt_label' in meta)
        assert meta.pid == (0 if meta.subset == 'train' else 2)


# Joint training, other sets to test on ----------------------------------------------------------


def test_persons_and_cameras_of_joined_sets_are_kept_apart(tmp_path):
    first = make_market(tmp_path / 'one', train=(3, 7), cameras=(1, 2))
    second = make_market(tmp_path / 'two', train=(3, 4, 6), cameras=(1, 2, 4))
    parts = [{'type': 'effvit_mm.ReIDDataset', 'data_root': str(root)} for root in (first, second)]
    joined = DATASETS.build({'type': 'effvit_mm.ConcatReID', 'datasets': parts})
    assert isinstance(joined, ConcatReID)
    assert joined.num_pids == 5 and len(joined) == 8 + 18
    assert joined.metainfo['classes'] == ('0/3', '0/7', '1/3', '1/4', '1/6')
    assert joined.metainfo['cameras'] == ('0/1', '0/2', '1/1', '1/2', '1/4')
    samples = [joined[i] for i in range(len(joined))]
    assert [s['gt_label'] for s in samples] == joined.get_pids().tolist()
    assert [s['pid'] for s in samples] == joined.get_pids().tolist()
    assert [s['camid'] for s in samples] == joined.get_camids().tolist()
    assert {(s['dsetid'], s['pid'] < 2, s['camid'] < 2) for s in samples} == {
        (0, True, True), (1, False, False),
    }  # fmt: skip


def test_only_training_sets_can_be_joined(market):
    part = {'type': 'effvit_mm.ReIDDataset', 'data_root': str(market), 'split': 'test'}
    with pytest.raises(ConfigError, match=r"datasets\[0\].*split 'test'.*one\s*at a time"):
        ConcatReID([part])
    with pytest.raises(ConfigError, match='datasets is empty'):
        ConcatReID([])


def test_a_set_to_train_on_needs_no_test_set_and_the_other_way_round(market):
    shutil.rmtree(market / 'query')
    shutil.rmtree(market / 'bounding_box_test')
    assert ReIDDataset(data_root=str(market)).num_pids == 3
    with pytest.raises(DataError, match='query does not exist'):
        ReIDDataset(data_root=str(market), split='test')


# What cannot be used ------------------------------------------------------------------------------


def test_names_that_tell_nothing_are_named_and_counted(market):
    put(market / 'bounding_box_train', *(f'holiday{i}.jpg' for i in range(7)))
    with pytest.raises(DataError) as caught:
        ReIDDataset(data_root=str(market))
    message = str(caught.value)
    assert '7 of 19 file names' in message and 'bounding_box_train' in message
    assert 'holiday0.jpg, holiday1.jpg' in message and 'holiday6' not in message


@tries('or that is what you want, set allow_shared_ids=True')
def test_persons_in_training_and_test_are_refused_or_allowed(tmp_path):
    make_market(tmp_path, train=(2, 3, 5), test=(2, 5))
    for split in ('train', 'test'):
        with pytest.raises(DataError, match=r'2 persons .* \(2, 5\).*allow_shared_ids=True'):
            ReIDDataset(data_root=str(tmp_path), split=split)
    assert ReIDDataset(data_root=str(tmp_path), allow_shared_ids=True).num_pids == 3


@tries('. Look at the pattern of the file names, or set min_cameras')
@pytest.mark.parametrize(('split', 'half'), [('train', 'training'), ('test', 'query and gallery')])
def test_fewer_than_two_cameras(tmp_path, split, half):
    make_market(tmp_path, cameras=(4,))
    with pytest.raises(DataError, match=rf'{half} have 1 camera \(4\).*min_cameras'):
        ReIDDataset(data_root=str(tmp_path), split=split)
    assert len(ReIDDataset(data_root=str(tmp_path), split=split, min_cameras=1))
    cameras = r'(?P<pid>\d+)_c4s1_0+(?P<cam>\d)'
    assert len(ReIDDataset(data_root=str(tmp_path), split=split, source='folder', pattern=cameras))


def test_empty_and_missing_folders(market, tmp_path):
    for path in (market / 'query').iterdir():
        path.unlink()
    with pytest.raises(DataError, match='query has no images'):
        ReIDDataset(data_root=str(market), split='test')
    with pytest.raises(DataError, match=r'nowhere.*does not exist.*bounding_box_train'):
        ReIDDataset(data_root=str(tmp_path / 'nowhere'))
    with pytest.raises(DataError, match='data_root is empty'):
        ReIDDataset(data_root='')


def test_a_gallery_of_junk_alone_is_empty(market):
    for path in (market / 'bounding_box_test').iterdir():
        path.unlink()
    put(market / 'bounding_box_test', market_name(-1, 1, 0))
    with pytest.raises(DataError, match='the gallery set is empty but for junk'):
        ReIDDataset(data_root=str(market), split='test')


@tries('; repair them, or leave them out by skip_corrupt=True in the data set')
@pytest.mark.parametrize('subset', ['query', 'gallery'])
def test_images_of_the_test_that_cannot_be_read_are_named_before_the_training(market, subset):
    path = sorted((market / MARKET[subset]).iterdir())[0]
    path.write_bytes(IMAGE[: len(IMAGE) // 2])
    with pytest.raises(DataError, match=rf'1 images of query and gallery.*{path.name}.*truncated'):
        ReIDDataset(data_root=str(market), split='test')
    left = ReIDDataset(data_root=str(market), split='test', skip_corrupt=True)
    assert len(left) == 7 and left.num_skipped == 1
    path.write_bytes(IMAGE)
    assert len(ReIDDataset(data_root=str(market), split='test')) == 8


def test_a_person_without_a_readable_image_has_no_label(market):
    for path in (market / 'bounding_box_train').glob('0007*'):
        path.write_bytes(b'')
    dataset = ReIDDataset(data_root=str(market), skip_corrupt=True)
    assert dataset.metainfo['classes'] == ('3', '12') and dataset.num_pids == 2
    assert sorted(set(dataset.get_pids().tolist())) == [0, 1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'split': 'val'}, "split='val'"),
        ({'pattern': '('}, 'no regular expression'),
        ({'pattern': r'(?P<pid>\d+)'}, "group 'cam' is missing"),
        ({'folders': {'val': 'x'}}, "folders: 'val' is none of"),
        ({'min_cameras': 0}, 'min_cameras=0'),
        ({'source_args': {'split_id': 1}}, 'source_args=.* is for data sets of torchreid'),
    ],
    ids=str,
)
def test_arguments_that_cannot_be(market, options, message):
    with pytest.raises(ConfigError, match=message):
        ReIDDataset(data_root=str(market), **options)


def test_a_pattern_sees_the_path_below_the_folder_alone(tmp_path):
    # torchreid's classes search the whole path and find this folder's name.
    folder = tmp_path / '0099_c7s1' / 'query'
    put(folder, '0002_c1s1_000451_03.jpg', '-1_c3s2_000001_00.jpg')
    found, _ = read_names(folder, compile_pattern(None))
    assert [(item.pid, item.cam) for item in found] == [('-1', '3'), ('2', '1')]
