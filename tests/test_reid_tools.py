"""Re-ID for people: training and testing by the tools, search, pictures."""

import importlib.util
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from people import REPOSITORY, build_model, make_people, write_people_config
from programs import load_tool
from remedies import tries
from trainer import forget_runs

import effvit_mm
from benchmarks import compare_trained
from effvit_mm.errors import ConfigError, DataError
from effvit_mm.reid import reranking
from effvit_mm.reid.features import load_features
from effvit_mm.reid.ranking import evaluate
from effvit_mm.utils.drawn_files import note_drawn
from effvit_mm.visualization.pictures import read_rgb
from effvit_mm.visualization.rank_lists import (
    WIDTH,
)
from effvit_mm.weights.checkpoint import read_checkpoint

DATABASE = pytest.param(
    'people.db',
    [],
    marks=pytest.mark.skipif(
        None in map(importlib.util.find_spec, ('pymilvus', 'milvus_lite')),
        reason="pymilvus and milvus-lite are not installed: pip install 'effvit-mm[gallery]'",
    ),
)

# --- Training and testing ---------------------------------------------------------------------


def run_tool(path, *arguments):
    """A tool's main, in this process."""
    module = load_tool(path.removesuffix('.py'))
    forget_runs()
    return module.main([str(argument) for argument in arguments])


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Config, checkpoint, data and work folder of a training."""
    place = tmp_path_factory.mktemp('people')
    root = make_people(place / 'data')
    config = write_people_config(place / 'people.py', root)
    assert run_tool('train.py', config, '--work-dir', place / 'work') == 0
    return config, place / 'work' / 'epoch_2.pth', root, place / 'work'


def test_a_training_takes_the_persons_of_its_set_and_writes_them_down(trained):
    config, checkpoint, _, work = trained
    assert 'num_classes' not in config.read_text()
    state = read_checkpoint(checkpoint)
    assert state['state_dict']['classifier.weight'].shape == (5, 24)
    assert Config.fromfile(work / 'people.py').model.num_classes == 5
    history = state['message_hub']['runtime_info']['effvit_mm/history']
    assert 0 < history[-1]['metrics']['reid/mAP'] <= 100
    assert len(list(work.glob('best_reid_mAP_*.pth'))) == 1


def test_another_number_of_persons_is_an_error(trained, tmp_path, capsys):
    options = ['--work-dir', tmp_path, '--cfg-options', 'model.num_classes=7']
    assert run_tool('train.py', trained[0], *options) == 2
    error = capsys.readouterr().err
    assert 'has 5 persons (' in error and 'model.num_classes=5' in error


def test_a_misspelt_option_of_a_loss_is_named(trained, tmp_path, capsys):
    options = ['--work-dir', tmp_path, '--cfg-options', 'model.metric_loss.margn=0.2']
    assert run_tool('train.py', trained[0], *options) == 2
    assert 'model.metric_loss.margn' in capsys.readouterr().err


def test_a_test_prints_figures_and_writes_features_and_rank_lists(trained, tmp_path, capsys):
    config, checkpoint, _, _ = trained
    out, lists = tmp_path / 'f.npz', tmp_path / 'lists'
    lists.mkdir()
    note_drawn(lists / 'earlier.png').touch()
    options = ['--out', out, '--show-dir', lists, '--show-number', 3]
    assert run_tool('test.py', config, checkpoint, '--work-dir', tmp_path / 'w', *options) == 0
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ('mAP', 'rank-1', 'mINP', 'cosine distance', '4 queries')
    )
    query, gallery = (load_features(tmp_path / f'f_{part}.npz') for part in ('query', 'gallery'))
    assert (len(query), len(gallery)) == (4, 12)
    figures = evaluate(query, gallery)
    assert f'{100 * figures.mAP:.2f}' in printed and f'{100 * figures.mINP:.2f}' in printed
    assert list(figures.roc) == [1e-4, 1e-3, 1e-2]
    verified = printed[printed.index('(ROC)') :]
    assert all(f'{100 * share:.2f}' in verified for share in figures.roc.values())
    assert len(list(lists.glob('*.png'))) == 3


def test_trained_models_are_compared(trained, tmp_path, capsys):
    """Ours and one of torchreid, whose norms are folded: the ranking's figures, counts, speed."""
    config, checkpoint, _, _ = trained
    out = tmp_path / 'f.npz'
    assert run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, '--out', out) == 0
    found = evaluate(*(load_features(tmp_path / f'f_{part}.npz') for part in ('query', 'gallery')))
    other = tmp_path / 'osnet.py'
    backbone = "dict(_delete_=True, type='effvit_mm.TorchreidBackbone', name='osnet_x0_25')"
    pooling = "dict(_delete_=True, type='effvit_mm.TokenPooling')"
    other.write_text(
        f'_base_ = {str(config)!r}\nmodel = dict(backbone={backbone}, pooling={pooling})\n'
    )
    options = {name: Config.fromfile(other).model[name] for name in ('backbone', 'pooling')}
    model = build_model(**options)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'osnet.pth')
    models = ['--model', config, checkpoint, '--model', other, tmp_path / 'osnet.pth']
    arguments = ['--work-dir', tmp_path, '--repeats', 1, '--batch-size', 2, *models]
    capsys.readouterr()
    forget_runs()
    assert compare_trained.main([str(argument) for argument in arguments]) == 0
    rows = re.findall(r'^\| (?:people|osnet) \| .*\|$', capsys.readouterr().out, re.MULTILINE)
    ours, osnet = ([cell.strip() for cell in row.strip('|').split('|')] for row in rows)
    assert ours[1:4] == [f'{100 * x:.1f}' for x in (found.mAP, found.rank(1), found.mINP)]
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    to_train = (model.classifier, *([] if model.metric_loss is None else [model.metric_loss]))
    left = sum(p.numel() for p in model.parameters()) - sum(
        p.numel() for part in to_train for p in part.parameters()
    )
    folded = left - sum(norm.num_features for norm in norms)
    assert osnet[4] == f'{folded / 1e6:.2f} M' and float(osnet[6]) > 0

    arguments.append(tmp_path / 'osnet.pth')
    forget_runs()
    assert compare_trained.main([str(argument) for argument in arguments]) == 2
    assert 'of a re-ID model one checkpoint is needed' in capsys.readouterr().err


def test_the_extractor_gives_the_features_of_the_test(trained, tmp_path):
    config, checkpoint, root, _ = trained
    out = tmp_path / 'f.parquet'
    assert run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, '--out', out) == 0
    tested = load_features(tmp_path / 'f_query.parquet')
    extractor = effvit_mm.ReIDExtractor(config, checkpoint)
    features = extractor(root / 'query', batch_size=3)
    assert features.model == tested.model == extractor.identity
    assert [Path(p).name for p in features.paths] == [Path(p).name for p in tested.paths]
    np.testing.assert_allclose(features.features, tested.features, rtol=1e-3, atol=1e-4)
    arrays = [cv2.imread(path) for path in features.paths]
    np.testing.assert_allclose(extractor(arrays).features, features.features, atol=1e-5)


def test_a_runtime_gives_the_same_features(trained, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config, checkpoint, root, _ = trained
    options = [
        '--work-dir',
        tmp_path,
        '--tta',
        '--runtime',
        'openvino',
        '--out',
        tmp_path / 'f.npz',
    ]
    assert run_tool('test.py', config, checkpoint, *options) == 0
    tested = load_features(tmp_path / 'f_query.npz')
    extractor = effvit_mm.ReIDExtractor(config, checkpoint, flip=True)
    compiled = effvit_mm.ReIDExtractor(config, checkpoint, flip=True, runtime='openvino')
    features, want = compiled(root / 'query').features, extractor(root / 'query').features
    np.testing.assert_allclose(features, want, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(tested.features, want, rtol=1e-3, atol=1e-4)
    assert len(list((tmp_path / 'cache' / 'effvit_mm' / 'compiled').iterdir())) == 1


def test_the_mirror_image_is_averaged_in_test_and_extractor_alike(trained, tmp_path):
    config, checkpoint, root, _ = trained
    options = ['--work-dir', tmp_path, '--tta', '--deploy', '--out', tmp_path / 'f.npz']
    assert run_tool('test.py', config, checkpoint, *options) == 0
    tested = load_features(tmp_path / 'f_query.npz').features
    plain = effvit_mm.ReIDExtractor(config, checkpoint)(root / 'query').features
    extractor = effvit_mm.ReIDExtractor(config, checkpoint, flip=True)
    np.testing.assert_allclose(extractor(root / 'query').features, tested, rtol=1e-3, atol=1e-4)
    assert np.abs(plain - tested).max() > 1e-2


def test_reranking_changes_the_ranking_and_says_so(trained, tmp_path, monkeypatch, capsys):
    """Distances are computed once, for figures and pictures together."""
    config, checkpoint, _, _ = trained
    calls = []
    blocks = reranking.rerank_blocks
    monkeypatch.setattr(
        reranking, 'rerank_blocks', lambda *args: calls.append(args) or blocks(*args)
    )
    options = ['--rerank', '--cfg-options', 'test_evaluator.rerank.k1=3']
    options += ['test_evaluator.rerank.k2=2', '--show-dir', tmp_path / 'lists']
    assert run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, *options) == 0
    assert 're-ranked' in capsys.readouterr().out
    assert len(list((tmp_path / 'lists').glob('*.png'))) == 4
    # Once for a query and its match, before the test.
    assert [len(queries) for queries, *_ in calls] == [1, 4]


def test_a_model_is_tested_on_people_of_another_set(trained, tmp_path, capsys):
    other = make_people(tmp_path / 'other', train=3, test=2, first=50)
    options = ['--work-dir', tmp_path, '--cfg-options', f'data_root={other}']
    assert run_tool('test.py', trained[0], trained[1], *options) == 0
    assert '2 queries, 6 images in the gallery' in capsys.readouterr().out


@pytest.mark.parametrize(
    'options, message',
    [
        (['--out', 'features.pkl'], '--out features.pkl.*npz or .parquet'),
        (['--show-dir', 'lists', '--show-number', '0'], '--show-number 0'),
    ],
)
def test_wrong_options_of_a_test_are_refused(
    trained, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    assert run_tool('test.py', trained[0], trained[1], *options) == 2
    assert re.search(message, capsys.readouterr().err)


def test_reranking_is_for_reid_alone(tmp_path, capsys):
    config = REPOSITORY / 'configs' / 'pslt' / 'pslt-tiny_digits.py'
    checkpoint = tmp_path / 'none.pth'
    checkpoint.write_bytes(b'')
    assert run_tool('test.py', config, checkpoint, '--work-dir', tmp_path, '--rerank') == 2
    assert '--rerank: the config is not for re-identification' in capsys.readouterr().err


# --- Extracting and searching -----------------------------------------------------------------


def test_the_extractor_says_what_it_cannot_take(trained, tmp_path):
    config, checkpoint, _, _ = trained
    extractor = effvit_mm.ReIDExtractor(config, checkpoint)
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'nothing')
    with pytest.raises(DataError, match=r'broken\.png'):
        extractor(broken)
    with pytest.raises(DataError, match='missing'):
        extractor(tmp_path / 'missing')
    with pytest.raises(ConfigError, match='batch_size=0'):
        extractor(broken, batch_size=0)
    with pytest.raises(ConfigError, match='a re-ID model is needed'):
        effvit_mm.ReIDExtractor(REPOSITORY / 'configs/pslt/pslt-tiny_digits.py', checkpoint)


@pytest.fixture(scope='module')
def gallery(trained, tmp_path_factory):
    """A gallery of the folder of test people, made by the tool."""
    config, checkpoint, root, _ = trained
    path = tmp_path_factory.mktemp('gallery') / 'gallery'
    options = ['--config', config, '--checkpoint', checkpoint, '--out', path]
    assert run_tool('reid_search.py', 'index', root / 'bounding_box_test', *options) == 0
    return path


def test_a_picture_of_the_gallery_finds_itself(trained, gallery, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # paths in the gallery do not depend on where one is
    picture = sorted((trained[2] / 'bounding_box_test').iterdir())[3]
    options = ['--top', 5, '--show', 'found.png']
    assert run_tool('reid_search.py', 'search', gallery, picture, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].split()[-1] == str(picture)
    distances = [float(line.split()[1]) for line in lines[:5]]
    assert distances == sorted(distances) and distances[0] < 1e-4
    assert read_rgb('found.png').shape[1] > 6 * WIDTH


@tries(': there is a gallery already; to add to it, take --resume')
@pytest.mark.parametrize('name, options', [('large', ['--index', 'large']), DATABASE])
def test_a_gallery_on_disk_finds_what_one_in_memory_does(
    name, options, trained, gallery, tmp_path, capsys
):
    config, checkpoint, root, _ = trained
    folder, out = root / 'bounding_box_test', tmp_path / name
    some = tmp_path / 'some'  # the same, of which one is not there at first
    some.mkdir()
    for path in folder.iterdir():
        (some / path.name).symlink_to(path)
    last = sorted(some.iterdir())[7]
    kept = last.rename(tmp_path / last.name)
    index = ['index', some, '--config', config, '--checkpoint', checkpoint, '--out', out, *options]
    assert run_tool('reid_search.py', *index) == 0
    kept.rename(last)
    for flags in ([], ['--overwrite']):
        assert run_tool('reid_search.py', *index, *flags) == 2
        error = capsys.readouterr().err
        assert f'--out {out}: there is a gallery already; to add to it, ta' in error
    assert run_tool('reid_search.py', *index, '--resume', '--distance', 'euclidean') == 2
    assert f'--distance euclidean: gallery {out} has cosine' in capsys.readouterr().err
    for _ in range(2):
        assert run_tool('reid_search.py', *index, '--resume') == 0
        assert f'12 of 12 images in {out}' in capsys.readouterr().out
    found = []
    for place in (gallery, out):
        table = ['--out', tmp_path / 'found.csv', '--show', tmp_path / 'found.png']
        search = ['search', place, sorted((root / 'query').iterdir())[1], '--top', 5, *table]
        assert run_tool('reid_search.py', *search) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()[:5]]
        found.append([(Path(path).name, float(distance)) for _, distance, path in lines])
        rows = (tmp_path / 'found.csv').read_text().splitlines()[1:]
        assert all(name in row for (name, _), row in zip(found[-1], rows, strict=True))
    assert [name for name, _ in found[0]] == [name for name, _ in found[1]]
    np.testing.assert_allclose(*([d for _, d in one] for one in found), atol=2e-3)
    assert run_tool('reid_search.py', *search, '--other-cameras') == 2
    assert 'names tell the cameras of a gallery in memory' in capsys.readouterr().err


def test_a_database_is_no_folder(trained, tmp_path, capsys):
    index = ['index', trained[2] / 'query', '--config', trained[0], '--checkpoint', trained[1]]
    arguments = [*index, '--index', 'large', '--out', tmp_path / 'x.db']
    assert run_tool('reid_search.py', *arguments) == 2
    assert 'index large: it is a folder, not a database like' in capsys.readouterr().err


@tries(': give the model by --config and --checkpoint')
def test_a_gallery_of_another_model_is_refused(trained, gallery, tmp_path, capsys):
    _, _, root, work = trained
    picture = next((root / 'query').iterdir())
    other = ['--checkpoint', work / 'epoch_1.pth']
    assert run_tool('reid_search.py', 'search', gallery, picture, *other) == 2
    assert 'model' in capsys.readouterr().err
    alone = tmp_path / 'alone'
    alone.write_bytes(gallery.read_bytes())
    assert run_tool('reid_search.py', 'search', alone, picture) == 2
    assert 'give the model by --config and --checkpoint' in capsys.readouterr().err
    config, checkpoint = trained[:2]
    model = ['--config', config, '--checkpoint', checkpoint]
    assert run_tool('reid_search.py', 'search', alone, picture, *model) == 0


def test_a_folder_of_pictures_gives_a_ranking_for_each(trained, gallery, tmp_path, capsys):
    folder = tmp_path / 'query'
    shutil.copytree(trained[2] / 'query', folder)
    pictures = sorted(map(str, folder.iterdir()))
    search = ['reid_search.py', 'search', gallery]
    alone = []
    for picture in pictures:
        assert run_tool(*search, picture, '--top', 3) == 0
        alone += [picture, *capsys.readouterr().out.splitlines()]
    assert run_tool(*search, folder, '--top', 3, '--show', tmp_path / 'shown') == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(pictures) > 2
    assert [line for line in lines if not line.startswith('wrote ')] == alone
    assert {path.stem for path in (tmp_path / 'shown').iterdir()} == {
        Path(picture).stem for picture in pictures
    }
    assert run_tool(*search, folder, '--show', tmp_path / 'a.png') == 2
    assert 'a folder is needed; pictures: 4' in capsys.readouterr().err
    (folder / '0000_broken.png').write_bytes(b'x')
    assert run_tool(*search, folder, '--top', 3) == 2
    out, err = capsys.readouterr()
    assert out.splitlines() == alone and '0000_broken.png' in err and ' 1 of 5 left out' in err


def test_a_folder_of_one_picture_and_an_empty_one(trained, gallery, tmp_path, capsys):
    folder = tmp_path / 'one'
    folder.mkdir()
    assert run_tool('reid_search.py', 'search', gallery, folder) == 2
    assert 'has no image' in capsys.readouterr().err
    shutil.copy(next((trained[2] / 'query').iterdir()), folder)
    arguments = ('search', gallery, folder, '--top', 2, '--show', tmp_path / 'one.png')
    assert run_tool('reid_search.py', *arguments) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3 and (tmp_path / 'one.png').is_file()


@tries(': take the same config and options for both (--config, --cfg-options, --flip)')
def test_a_gallery_of_other_images_sizes_is_refused(trained, gallery, tmp_path, capsys):
    """The network is the same, what it was shown is not; the same options on both sides help."""
    config, checkpoint, root, _ = trained
    picture = next((root / 'query').iterdir())
    size = ['--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(48,96)']
    for options in (size, ['--flip']):
        assert run_tool('reid_search.py', 'search', gallery, picture, *options) == 2
        error = capsys.readouterr().err
        assert 'prepared by Resize(scale=[' in error and '--flip' in error
    model = ['--config', config, '--checkpoint', checkpoint]
    other = tmp_path / 'gallery'
    assert (
        run_tool('reid_search.py', 'index', root / 'query', *model, '--flip', '--out', other) == 0
    )
    assert run_tool('reid_search.py', 'search', other, picture) == 0
    other.with_name('gallery.model.json').unlink()
    assert run_tool('reid_search.py', 'search', other, picture, *model) == 2
    assert run_tool('reid_search.py', 'search', other, picture, *model, '--flip') == 0


@pytest.mark.parametrize('options', [[], ['--tta']])
def test_tested_features_say_how_images_were_prepared(trained, tmp_path, options):
    config, checkpoint, root, _ = trained
    out = ['--work-dir', tmp_path, '--out', tmp_path / 'f.npz']
    assert run_tool('test.py', config, checkpoint, *out, *options) == 0
    features = load_features(tmp_path / 'f_query.npz')
    extractor = effvit_mm.ReIDExtractor(config, checkpoint, flip=bool(options))
    assert features.preparation == extractor.preparation
    assert ('flip' in features.preparation) == bool(options)
    other = effvit_mm.ReIDExtractor(config, checkpoint, flip=not options)
    with pytest.raises(DataError, match='prepared by Resize'):
        features.check_same_space(other(next((root / 'query').iterdir())))


def test_a_search_leaves_out_the_pictures_own_camera(trained, gallery, capsys):
    """Images of the person by that camera, as the evaluation does; all of it without persons."""
    picture = sorted((trained[2] / 'bounding_box_test').iterdir())[3]

    def found(*options):
        arguments = ['search', gallery, picture, '--top', 12, *options]
        assert run_tool('reid_search.py', *arguments) == 0
        return [Path(line.split()[-1]).name for line in capsys.readouterr().out.splitlines()]

    person, camera = picture.name.split('_')[0], picture.name.split('_')[1][:2]
    names = found()
    assert names[0] == picture.name and len(names) == 12
    own = [n for n in names if n.startswith(f'{person}_{camera}')]
    assert found('--other-cameras') == [n for n in names if n not in own]
    without_persons = ['--pattern', r'_c(?P<cam>\d)']
    expected = [n for n in names if f'_{camera}' not in n]
    assert found('--other-cameras', *without_persons) == expected and len(expected) < 12 - len(own)


def test_a_search_by_cameras_that_names_do_not_tell_is_refused(trained, gallery, tmp_path, capsys):
    picture = tmp_path / 'somebody.png'
    shutil.copy(next((trained[2] / 'query').iterdir()), picture)
    assert run_tool('reid_search.py', 'search', gallery, picture, '--other-cameras') == 2
    assert re.search(r'1 of 13 .*somebody\.png.*\(\?P<cam>', capsys.readouterr().err)
    pattern = ['--pattern', r'(?P<cam>_c\d|somebody)']
    assert run_tool('reid_search.py', 'search', gallery, picture, *pattern) == 2
    assert 'it goes with --other-cameras' in capsys.readouterr().err
    assert run_tool('reid_search.py', 'search', gallery, picture, '--other-cameras', *pattern) == 0


def test_an_index_has_what_can_be_read(trained, tmp_path, capsys):
    config, checkpoint, root, _ = trained
    folder = tmp_path / 'crops'
    shutil.copytree(root / 'query', folder)
    names = sorted(path.name for path in folder.iterdir())
    (folder / '0000.png').write_bytes((folder / names[0]).read_bytes()[:60])
    options = ['--config', config, '--checkpoint', checkpoint, '--out', tmp_path / 'g']
    assert run_tool('reid_search.py', 'index', folder, *options) == 2
    named, end = capsys.readouterr().err.splitlines()
    assert re.match(r'warning: corrupt image .*0000\.png', named)
    assert end == f'warning: 1 of 5 left out, named above; 4 are in {tmp_path / "g"} (exit code 2)'
    assert [Path(path).name for path in effvit_mm.Gallery.load(tmp_path / 'g').paths] == names
    options.append('--overwrite')
    assert run_tool('reid_search.py', 'index', tmp_path / 'none', *options) == 2
    assert 'no such folder' in capsys.readouterr().err


def test_an_interrupted_index_keeps_what_was_extracted(trained, tmp_path, capsys, monkeypatch):
    config, checkpoint, root, _ = trained
    load, seen = effvit_mm.ReIDExtractor.load, []

    def interrupt(self, image):
        seen.append(image)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return load(self, image)

    monkeypatch.setattr(effvit_mm.ReIDExtractor, 'load', interrupt)
    options = ['--config', config, '--checkpoint', checkpoint, '--out', tmp_path / 'g']
    assert run_tool('reid_search.py', 'index', root / 'query', *options, '--batch-size', 2) == 130
    out, err = capsys.readouterr()
    assert out.startswith('2 of 4 images in ') and err == 'interrupted\n'
    assert len(effvit_mm.Gallery.load(tmp_path / 'g')) == 2
    monkeypatch.undo()
    assert run_tool('reid_search.py', 'index', root / 'query', *options, '--resume') == 0
    assert capsys.readouterr().out.startswith('4 of 4 images in ')
    options[-1] = tmp_path / 'whole'
    assert run_tool('reid_search.py', 'index', root / 'query', *options) == 0
    assert (tmp_path / 'g').read_bytes() == (tmp_path / 'whole').read_bytes()


def test_activation_maps_and_planes_are_drawn_by_tools(trained, tmp_path, capsys):
    config, checkpoint, root, _ = trained
    folder = root / 'query'
    options = ['--out', tmp_path / 'maps']
    assert run_tool('visualization/activation_maps.py', config, checkpoint, folder, *options) == 0
    assert len(list((tmp_path / 'maps').glob('*.png'))) == 4
    (tmp_path / '0.png').write_bytes(b'x')
    files = [tmp_path / '0.png', *folder.iterdir()]
    options = ['--out', tmp_path / 'more']
    assert run_tool('visualization/activation_maps.py', config, checkpoint, *files, *options) == 2
    assert '4 images; wrote' in capsys.readouterr().out
    assert len(list((tmp_path / 'more').glob('*.png'))) == 4
    out = tmp_path / 'f.npz'
    assert run_tool('test.py', config, checkpoint, '--work-dir', tmp_path / 'w', '--out', out) == 0
    files = [tmp_path / 'f_query.npz', tmp_path / 'f_gallery.npz']
    options = ['--method', 'pca', '--people', 3, '--out', tmp_path / 'plane.png']
    capsys.readouterr()
    assert run_tool('visualization/plot_features.py', *files, *options) == 0
    assert '12 images of 3 persons' in capsys.readouterr().out
    assert read_rgb(tmp_path / 'plane.png').std() > 0
