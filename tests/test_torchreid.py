"""torchreid's engines with our models and data, and its data sets with ours."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from reid_folders import make_market, market_name, put
from remedies import tries

import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError, DataError
from effvit_mm.openmm.reid import datasets
from effvit_mm.reid.names import SUBSETS, read_folders
from effvit_mm.sample_data import walkers
from effvit_mm.weights.checkpoint import safe_unpickling

pytest.importorskip('torchreid')

from effvit_mm import torchreid as adapter

SIZE = {'height': 64, 'width': 32}


def read(**kwargs) -> datasets.ReIDDataset:
    """Ours without mmengine's packing, which collects garbage for a second each time."""
    return datasets.ReIDDataset(serialize_data=False, **kwargs)


@pytest.fixture(scope='module', autouse=True)
def registered():
    return effvit_mm.register_torchreid()


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Where a few walkers are."""
    folder = tmp_path_factory.mktemp('reid-data')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walkers, 'NUM_PEOPLE', {'train': 2, 'test': 2})
        patch.setattr(walkers, 'NUM_DISTRACTORS', 2)
        patch.setattr(walkers, 'NUM_JUNK', 2)
        walkers.make_walkers(folder / 'walkers')
    return folder


def build_model(*args, **kwargs):
    return adapter.import_torchreid('models').build_model(*args, use_gpu=False, **kwargs)


def build_engine(root: Path, name: str, kind: str, save_dir: Path | None = None):
    """A fresh engine of torchreid's, with what its `resume_from_checkpoint` asks for."""
    reid = adapter.import_torchreid
    manager = reid('data').ImageDataManager(
        root=str(root), sources='walkers', **SIZE, batch_size_train=8, batch_size_test=32,
        workers=0, use_gpu=False,
        train_sampler='RandomIdentitySampler' if kind == 'triplet' else 'RandomSampler',
    )  # fmt: skip
    model = build_model(name, num_classes=manager.num_train_pids, loss=kind, pretrained=False)
    optimizer = reid('optim').build_optimizer(model, optim='adam', lr=1e-4)
    scheduler = reid('optim').build_lr_scheduler(optimizer, lr_scheduler='single_step', stepsize=9)
    cls = {'softmax': 'ImageSoftmaxEngine', 'triplet': 'ImageTripletEngine'}[kind]
    engine = getattr(reid('engine'), cls)(
        manager, model, optimizer=optimizer, scheduler=scheduler, use_gpu=False
    )
    return engine, model, optimizer, scheduler


def test_importing_loads_no_framework(pythons):
    code = 'import sys, effvit_mm.torchreid; print([n for n in {} if n in sys.modules])'
    heavy = ('mmengine.runner', 'mmdet', 'mmpretrain', 'torchreid', 'effvit_mm.openmm.reid')
    done = pythons.run('-c', code.format(heavy))
    assert done.stdout == '[]\n', done.stderr


# Its engines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'kind'), [('pslt_tiny', 'triplet'), ('castling_deit_tiny', 'softmax')]
)
def test_its_engines_train_evaluate_and_resume(name, kind, root, tmp_path, capsys):
    torch.manual_seed(0)
    engine, model, _, _ = build_engine(root, name, kind)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    engine.run(save_dir=str(tmp_path), max_epoch=1, print_freq=1, ranks=[1, 5, 10])
    printed = capsys.readouterr().out
    assert 'epoch: [1/1]' in printed and 'mAP:' in printed and 'Rank-1' in printed
    after = model.state_dict()
    for part in ('backbone', 'neck.weight', 'neck.running_mean', 'classifier'):
        assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith(part))
    assert not after['neck.bias'].any()

    file = tmp_path / 'model' / 'model.pth.tar-1'
    engine, model, optimizer, scheduler = build_engine(root, name, kind)
    resume = adapter.import_torchreid('utils').resume_from_checkpoint
    if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6):
        with pytest.raises(pickle.UnpicklingError):
            resume(str(file), model, optimizer, scheduler)
    with safe_unpickling():
        start = resume(str(file), model, optimizer, scheduler)
    assert start == 1 and scheduler.last_epoch == 1
    assert all(torch.equal(after[k], v) for k, v in model.state_dict().items())
    assert len(optimizer.state_dict()['state']) > 10
    engine.run(save_dir=str(tmp_path), max_epoch=2, start_epoch=start, print_freq=1, ranks=[1])
    assert 'epoch: [2/2]' in capsys.readouterr().out
    assert (tmp_path / 'model' / 'model.pth.tar-2').is_file()


def test_its_ranked_results_are_drawn(root, tmp_path, capsys):
    engine, *_ = build_engine(root, 'castling_deit_tiny', 'softmax')
    engine.run(save_dir=str(tmp_path), test_only=True, visrank=True, visrank_topk=3, ranks=[1])
    assert len(list((tmp_path / 'visrank_walkers').glob('*.jpg'))) == 8  # one for each query
    assert 'mAP:' in capsys.readouterr().out


def test_a_script_of_its_own_runs_unchanged(root, tmp_path, capsys, monkeypatch):
    torch.save({'epoch': 3, 'rank1': np.float32(0.5), 'state_dict': {}}, tmp_path / 'a.pth')
    script = tmp_path / 'script.py'
    script.write_text(
        'import sys\n'
        f'from {adapter.installed_package()} import models, utils\n'
        "models.build_model('deit_tiny', 5, pretrained=False)\n"
        "print(utils.load_checkpoint(sys.argv[1])['rank1'], __name__)\n"
    )
    monkeypatch.setattr('sys.argv', [])
    monkeypatch.setattr('sys.path', ['.'])
    adapter.run_script(str(script), [str(tmp_path / 'a.pth')])
    assert capsys.readouterr().out == '0.5 __main__\n'


# Models -------------------------------------------------------------------------------------------


def test_every_model_of_ours_is_in_its_factory(registered):
    factory = vars(adapter.import_torchreid('models'))['__model_factory']
    assert registered in adapter.PACKAGES
    assert set(effvit_mm.list_models()) <= set(factory) and 'osnet_x1_0' in factory
    assert effvit_mm.register_torchreid() == registered  # once more does no harm


@pytest.mark.parametrize('name', ['pslt_tiny', 'crossvit_tiny', 'castling_levit_128s'])
def test_what_a_model_returns(name):
    images = torch.rand(2, 3, 256, 128)
    model = build_model(name, num_classes=7, loss='triplet', pretrained=False)
    logits, features = model(images)
    assert logits.shape == (2, 7) and features.shape == (2, model.num_features)
    assert model.feature_dim == model.num_features  # what its own models call it
    with torch.no_grad():
        searched = model.eval()(images)
        assert torch.allclose(searched, model.neck(model.pooled(images)))
    softmax = build_model(name, num_classes=7, pretrained=False)
    assert softmax(images).shape == (2, 7)


@tries(
    "Give pretrained=False to start from noise (model.pretrained False for torchreid's scripts), "
    'or the path of a checkpoint'
)
def test_weights_come_from_a_checkpoint_or_nowhere(tmp_path):
    with pytest.raises(ConfigError, match='pretrained=True: there are no weights of deit_tiny'):
        build_model('deit_tiny', num_classes=3)
    model = build_model('deit_tiny', num_classes=3, pretrained=False)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'a.pth')
    other = build_model('deit_tiny', num_classes=5, pretrained=tmp_path / 'a.pth')
    for key, value in model.state_dict().items():
        if not key.startswith('classifier'):
            assert torch.equal(other.state_dict()[key], value)
    with pytest.raises(CheckpointError, match='none of its'):
        build_model('pslt_tiny', num_classes=5, pretrained=tmp_path / 'a.pth')


def test_its_feature_extractor_gives_our_model_s_features(tmp_path, root, capsys):
    from effvit_mm.registry import MODELS

    ours = MODELS.build(
        {
            'type': 'effvit_mm.ReIDModel',
            'backbone': {'type': 'effvit_mm.PSLT', 'arch': 'tiny'},
            'num_classes': 9,
            'classifier': {'type': 'effvit_mm.SoftmaxLoss'},
        }
    )
    ours.neck.running_mean.normal_()
    state = {'state_dict': ours.state_dict(), 'meta': {'epoch': 1}, 'lr': np.float64(0.1)}
    torch.save(state, tmp_path / 'epoch_1.pth')
    with safe_unpickling():
        extractor = adapter.import_torchreid('utils').FeatureExtractor(
            'pslt_tiny', str(tmp_path / 'epoch_1.pth'), image_size=(64, 32), device='cpu'
        )
    assert 'Successfully loaded' in capsys.readouterr().out
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        expected = ours.eval()(images)
    assert torch.allclose(extractor(images), expected, atol=1e-5)
    file = next((root / 'walkers' / 'query').iterdir())
    assert extractor(str(file)).shape == (1, 384)


@pytest.mark.parametrize(
    ('there', 'expected'),
    [
        ({'torchreid.models', 'torchreid.data', 'pyppbox_torchreid.models'}, 'torchreid'),
        ({'torchreid.reid.models', 'torchreid.reid.data'}, 'torchreid.reid'),
        ({'pyppbox_torchreid.models', 'pyppbox_torchreid.data'}, 'pyppbox_torchreid'),
    ],
)
def test_the_first_package_that_is_there_is_taken(there, expected, monkeypatch):
    monkeypatch.setattr(adapter, 'find_spec', lambda name: name in there or None)
    assert adapter.installed_package() == expected


@pytest.mark.parametrize(('lacking', 'message'), [
    ('torchreid', r"torchreid is not installed: pip install 'effvit-mm\[reid\]'"),
    ('gdown', 'torchreid needs gdown'),
])  # fmt: skip
def test_what_to_install_is_said(lacking, message, monkeypatch):
    def find_spec(name):
        raise ModuleNotFoundError(name=lacking)

    monkeypatch.setattr(adapter, 'find_spec', find_spec)
    with pytest.raises(ConfigError, match=message):
        adapter.installed_package()


# Our data for it --------------------------------------------------------------------------------


def test_a_folder_of_ones_own_is_one_of_its_data_sets(tmp_path):
    make_market(tmp_path / 'mine', train=(3, 8), test=(5,), cameras=(1, 4))
    put(tmp_path / 'mine' / 'bounding_box_test', market_name(0, 1, 7), market_name(-1, 1, 8))
    adapter.register_folder('folder_of_mine', 'mine')
    adapter.register_folder('folder_of_mine', 'mine')
    manager = adapter.import_torchreid('data').ImageDataManager(
        root=str(tmp_path), sources='folder_of_mine', **SIZE, batch_size_train=2, workers=0,
        use_gpu=False, combineall=True,
    )  # fmt: skip
    assert manager.num_train_pids == 3  # 3 and 8 and, of the test, 5 alone
    gallery = manager.fetch_test_loaders('folder_of_mine')[1]
    assert [item[1:3] for item in gallery] == [(0, 0), (5, 0), (5, 1)]
    with pytest.raises(ConfigError, match="'market1501': torchreid has a data set"):
        adapter.register_folder('market1501', 'mine')


# Its data for us --------------------------------------------------------------------------------


@pytest.mark.parametrize('place', ['market1501', 'market1501/Market-1501-v15.09.15', 'anything'])
def test_market_1501_is_read_from_wherever_it_lies(place, tmp_path):
    folder = make_market(tmp_path / place, train=(2, 7, 11), test=(3, 5), cameras=(1, 6))
    put(folder / 'bounding_box_test', market_name(0, 2, 7), market_name(-1, 1, 8))
    roots = {folder, folder if place == 'anything' else tmp_path}
    for root in roots:
        train, test = (
            read(data_root=str(root), source='market1501', split=s) for s in ('train', 'test')
        )
        assert train.num_pids == 3 and train.get_pids().tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert test.num_query == 4
        assert test.get_pids().tolist() == [3, 3, 5, 5, 0, 3, 3, 5, 5]
        assert test.get_camids().tolist() == [0, 5, 0, 5, 1, 0, 5, 0, 5]
    mine = read_folders(folder)
    theirs = adapter.read_dataset('market1501', folder)
    for subset in SUBSETS:
        pictures = [(item.img_path, item.pid) for item in getattr(mine, subset)]
        assert pictures == [(item.img_path, item.pid) for item in getattr(theirs, subset)]


@pytest.mark.parametrize('inside', [True, False])
def test_dukemtmc_is_read(inside, tmp_path):
    folder = make_market(tmp_path / 'dukemtmc-reid' / 'DukeMTMC-reID', cameras=(2, 8))
    root = folder if inside else tmp_path
    dataset = read(data_root=str(root), source='dukemtmcreid')
    assert dataset.num_pids == 3 and set(dataset.get_camids()) == {1, 7}


def make_cuhk03(root: Path) -> Path:
    """As torchreid leaves it when it has unpacked the images."""
    folder = root / 'cuhk03'
    put(folder, 'cuhk03_release/cuhk-03.mat', 'cuhk03_new_protocol_config_detected.mat')
    put(folder, 'cuhk03_new_protocol_config_labeled.mat')
    for boxes in ('detected', 'labeled'):
        names = [f'1_00{p}_{view}_0{view}.png' for p in range(1, 5) for view in (1, 2)]
        put(folder / f'images_{boxes}', *names)
        items = [(str(folder / f'images_{boxes}' / n), int(n[4]), int(n[6]) - 1) for n in names]
        for protocol in ('classic', 'new'):
            half = 4 if protocol == 'new' else 6
            train = [(path, pid - 1, cam) for path, pid, cam in items[:half]]
            query = items[half:] if protocol == 'classic' else items[half::2]
            splits = [{'train': train, 'query': query, 'gallery': items[half:]}]
            file = folder / f'splits_{protocol}_{boxes}.json'
            file.write_text(json.dumps(splits))
    return folder


@pytest.mark.parametrize(
    ('labeled', 'classic', 'persons', 'queries'), [(False, False, 2, 2), (True, True, 3, 2)]
)
def test_cuhk03_in_both_protocols_and_on_both_kinds_of_boxes(
    labeled, classic, persons, queries, tmp_path
):
    make_cuhk03(tmp_path)
    options = {'cuhk03_labeled': labeled, 'cuhk03_classic_split': classic}
    train, test = (
        read(data_root=str(tmp_path), source='cuhk03', split=s, source_args=options)
        for s in ('train', 'test')
    )  # fmt: skip
    assert (train.num_pids, test.num_query) == (persons, queries)
    folder = 'images_labeled' if labeled else 'images_detected'
    assert all(folder in train.get_data_info(i)['img_path'] for i in range(len(train)))


def make_msmt17(folder: Path, version: str) -> None:
    main, suffix = folder / f'MSMT17_{version}', '' if version == 'V1' else '_v2'
    names = ('train', 'test') if version == 'V1' else (f'mask_train{suffix}', f'mask_test{suffix}')
    lists = {'train': (names[0], (0, 1)), 'val': (names[0], (1,)), 'query': (names[1], (0, 4)),
             'gallery': (names[1], (0, 4, 5))}  # fmt: skip
    main.mkdir(parents=True)
    for name, (place, pids) in lists.items():
        pictures = [
            (f'{p:04d}/{p:04d}_00{cam}_{cam:02d}_{name}.jpg', p) for p in pids for cam in (1, 15)
        ]
        put(main / place, *(picture for picture, _ in pictures))
        (main / f'list_{name}.txt').write_text(''.join(f'{n} {p}\n' for n, p in pictures))


@tries("; say which: source_args=dict(version='V2')")
def test_msmt17_of_either_version_by_its_lists(tmp_path):
    folder = tmp_path / 'msmt17'
    make_msmt17(folder, 'V2')
    only = adapter.read_dataset('msmt17', tmp_path)
    assert len(only.train) == 4 and len(only.cameras) == 15
    assert {item.pid for item in only.gallery} == {0, 4, 5}
    assert all('mask_train_v2' in item.img_path for item in only.train)
    make_msmt17(folder, 'V1')
    with pytest.raises(DataError, match=r'has both of MSMT17_V1 and MSMT17_V2; say which'):
        adapter.read_dataset('msmt17', folder)
    for version, name in (('V1', '/train/'), ('V2', '/mask_train_v2/')):
        for root, options in (
            (tmp_path, {'version': version}),
            (folder / f'MSMT17_{version}', {}),
        ):
            train = adapter.read_dataset('msmt17', root, **options).train
            assert all(name in item.img_path for item in train)
    whole = adapter.read_dataset('msmt17', tmp_path, version='V2', train='train+val')
    assert {Path(item.img_path).stem.rpartition('_')[2] for item in whole.train} == {'train', 'val'}
    assert len(whole.train) == 6 and whole.persons == only.persons
    assert (whole.query, whole.gallery) == (only.query, only.gallery)
    with pytest.raises(ConfigError, match=r"train='all': MSMT17 has 'train' and 'train\+val'"):
        adapter.read_dataset('msmt17', tmp_path, version='V2', train='all')
    with pytest.raises(ConfigError, match="version='V3': MSMT17 has 'V1' and 'V2'"):
        adapter.read_dataset('msmt17', tmp_path, version='V3')


def test_joint_training_of_its_data_sets_and_ours(tmp_path, root):
    make_market(tmp_path / 'market1501', cameras=(1, 6))
    parts = [
        {'type': 'effvit_mm.ReIDDataset', 'data_root': str(tmp_path), 'source': 'market1501'},
        {'type': 'effvit_mm.ReIDDataset', 'data_root': str(root / 'walkers')},
    ]
    from effvit_mm.registry import DATASETS

    joined = DATASETS.build({'type': 'effvit_mm.ConcatReID', 'datasets': parts})
    assert joined.num_pids == 3 + 2 and len(joined) == 12 + 24
    assert sorted(set(joined.get_camids())) == [0, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    'name', ['market1501', 'dukemtmcreid', 'cuhk03', 'msmt17', 'viper', 'grid']
)
def test_nothing_is_ever_downloaded(name, tmp_path, monkeypatch):
    def download(*args, **kwargs):
        raise AssertionError('a download was started')

    monkeypatch.setattr(adapter.import_torchreid('data.datasets.dataset'), 'download_url', download)
    with pytest.raises(DataError, match=f'{name}: neither'):
        adapter.read_dataset(name, tmp_path / 'nowhere')
    put(tmp_path, 'something.jpg')
    with pytest.raises(DataError, match=rf'{name}|does not exist'):
        adapter.read_dataset(name, tmp_path)


def test_names_that_its_class_cannot_parse_are_named(tmp_path):
    make_market(tmp_path / 'market1501')
    put(tmp_path / 'market1501' / 'query', 'me.jpg')
    with pytest.raises(DataError, match=r'1 of 5 file names do not .*: me\.jpg'):
        adapter.read_dataset('market1501', tmp_path)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'source': 'marktet1501'}, r"source='marktet1501': there are 'folder'.*market1501"),
        ({'source': 'market1501', 'pattern': 'x'}, "pattern='x' goes with source='folder'"),
        (
            {'source': 'market1501', 'source_args': {'root': 'x'}},
            'source_args.root=.*has market1501_500k',
        ),
        (
            {'source': 'msmt17', 'source_args': {'Version': 'V1'}},
            r'source_args\.Version=.*has train, version',
        ),
    ],
    ids=str,
)
def test_options_that_cannot_be(tmp_path, options, message):
    make_market(tmp_path / 'market1501')
    with pytest.raises(ConfigError, match=message):
        read(data_root=str(tmp_path), **options)
