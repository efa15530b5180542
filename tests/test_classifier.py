"""``effvit_mm.Classifier`` and ``tools/classify.py``."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from inferencers import CLASSES, make_classifier
from mmengine.dataset import pseudo_collate
from programs import load_tool
from remedies import tries

import effvit_mm
from effvit_mm import runtime
from effvit_mm.errors import CheckpointError, ConfigError, DataError
from effvit_mm.inference.export import load_network
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.trained import build_classifier, build_pipeline


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config, a checkpoint and three images of different sizes."""
    root = tmp_path_factory.mktemp('classifier')
    make_classifier(root)
    (root / 'images').mkdir()
    generator = np.random.default_rng(0)
    for number, size in enumerate(((60, 90), (101, 47), (46, 46))):
        image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'images' / f'{number}.png'), image)
    return root


@pytest.fixture(scope='module')
def classifier(trained):
    return effvit_mm.Classifier(trained / 'config.py', trained / 'c.pth', device='cpu')


def files(trained):
    return sorted((trained / 'images').iterdir())


def test_scores_are_those_of_the_test_loop(trained, classifier):
    cfg = load_config(str(trained / 'config.py'), [])
    model = build_classifier(cfg, 'a').eval()
    model.load_state_dict(torch.load(trained / 'c.pth')['state_dict'])
    read, prepare = build_pipeline(cfg)
    samples = [prepare(read({'img_path': str(file)})) for file in files(trained)]
    with torch.no_grad():
        wanted = model.test_step(pseudo_collate(samples))
    for batch_size in (1, 2, 32):
        results = classifier(trained / 'images', batch_size)
        for result, want, file in zip(results, wanted, files(trained), strict=True):
            np.testing.assert_allclose(result.scores, want.pred_score.numpy(), atol=1e-5)
            assert result.image == str(file) and result.frame is None
            assert result.name == CLASSES[int(want.pred_label)] == result.top(2)[0][0]
    assert len({result.scores.round(4).tobytes() for result in results}) == 3


def test_arrays_and_files_give_the_same(trained, classifier):
    arrays = [cv2.imread(str(file)) for file in files(trained)]
    for by_array, by_file in zip(classifier(arrays), classifier(files(trained)), strict=True):
        np.testing.assert_array_equal(by_array.scores, by_file.scores)
        assert by_array.image is None


def test_results_are_plain_values(trained, classifier):
    result = classifier(files(trained)[0])[0]
    told = json.loads(result.to_json(3))
    assert told == result.to_dict(3) and told['name'] == result.name
    scores = [one['score'] for one in told['top']]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert abs(sum(score for _, score in result.top(7)) - 1) < 1e-5
    with pytest.raises(AttributeError):
        result.scores = None


@tries('export.py CONFIG CHECKPOINT --preprocess writes them')
@pytest.mark.parametrize('suffix', ['.onnx', '.xml'])
def test_an_exported_file_alone_gives_the_same(suffix, trained, classifier, tmp_path):
    network = load_network(str(trained / 'config.py'), trained / 'c.pth', preprocess=True).network
    path = tmp_path / f'classifier{suffix}'
    {'.onnx': runtime.export_onnx, '.xml': runtime.export_openvino}[suffix](network, path, (40, 40))
    by_file = effvit_mm.Classifier(path)
    assert by_file.classes == CLASSES
    for found, want in zip(by_file(files(trained)), classifier(files(trained)), strict=True):
        np.testing.assert_allclose(found.scores, want.scores, atol=1e-5)
        assert (found.image, found.name) == (want.image, want.name)
    with pytest.raises(ConfigError, match=r'checkpoint=.*is a file and takes none'):
        effvit_mm.Classifier(path, trained / 'c.pth')
    runtime.export_onnx(
        load_network(str(trained / 'config.py')).network, tmp_path / 'plain.onnx', (40, 40)
    )
    with pytest.raises(ConfigError, match=r'plain\.onnx: no classifier that takes photographs'):
        effvit_mm.Classifier(tmp_path / 'plain.onnx')
    given = [str(trained / 'config.py'), str(trained / 'c.pth'), '--preprocess']
    form = ['--format', {'.onnx': 'onnx', '.xml': 'openvino'}[suffix], '--shape', '40', '40']
    again = tmp_path / f'again{suffix}'
    assert load_tool('deployment/export').main([*given, *form, '--out', str(again)]) == 0
    assert [one.name for one in effvit_mm.Classifier(again)(files(trained))] == [
        one.name for one in classifier(files(trained))
    ]


def test_a_runtime_and_the_form_of_training_give_the_same(trained, classifier):
    names = trained / 'config.py', trained / 'c.pth'
    want = classifier(files(trained))
    for options in ({'deploy': False, 'device': 'cpu'}, {'runtime': 'openvino'}):
        found = effvit_mm.Classifier(*names, **options)(files(trained))
        for one, other in zip(found, want, strict=True):
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_the_tool(trained, classifier, tmp_path, capsys):
    tool = load_tool('classify')
    model = [str(trained / 'config.py'), str(trained / 'c.pth')]
    want = classifier(files(trained))
    assert tool.main([*model, str(trained / 'images'), '--device', 'cpu']) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(': ')[1].split()[0] for line in lines] == [one.name for one in want]
    for name in ('a.csv', 'a.jsonl'):
        arguments = [str(trained / 'images'), '--out', str(tmp_path / name)]
        arguments += ['--top', '2'] if name == 'a.jsonl' else []
        assert tool.main([*model, *arguments]) == 0
    with (tmp_path / 'a.csv').open() as table:
        assert [row['name'] for row in csv.DictReader(table)] == [one.name for one in want]
    rows = [json.loads(line) for line in (tmp_path / 'a.jsonl').read_text().splitlines()]
    assert [row['image'] for row in rows] == [one.image for one in want]
    assert all(len(row['top']) == 2 for row in rows)
    capsys.readouterr()
    for arguments, message in (
        ([*model], 'images, folders or videos are needed'),
        ([*model, str(trained / 'images'), '--out', 'a.txt'], '--out a.txt: a name ending in'),
        ([*model, str(trained / 'images'), '--top', '0'], '--top 0: 1 or more'),
        ([*model, str(trained / 'images'), '--top', '2'], '--top goes with --out NAME.jsonl'),
        ([*model, str(trained / 'none.png')], 'none.png: no such file'),
        ([model[0], model[0], str(trained / 'images')], 'config.py'),
    ):
        assert tool.main(arguments) == 2
        (error,) = capsys.readouterr().err.strip().splitlines()
        assert message in error


def test_the_tool_warns_of_what_it_left_out(trained, tmp_path, capsys):
    tool, broken = load_tool('classify'), tmp_path / 'broken.jpg'
    broken.write_bytes(b'no image')
    model = [str(trained / 'config.py'), str(trained / 'c.pth')]
    count, out = len(files(trained)), tmp_path / 'a.csv'
    several = [*model, str(broken), str(trained / 'images')]
    for more, where in (([], ''), (['--out', str(out)], f'; {count} are in {out}')):
        assert tool.main([*several, *more]) == 2
        named, end = capsys.readouterr().err.splitlines()
        assert named.startswith('warning: corrupt image ') and 'broken.jpg' in named
        whole = f'1 of {count + 1} left out, named above{where} (exit code 2)'
        assert end == f'warning: {whole}'
    # Without others nothing is left to be warned of.
    assert tool.main([*model, str(broken)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: corrupt image ')


def test_what_cannot_be_used_is_named(trained, classifier, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    with pytest.raises(DataError, match=r'broken\.jpg'):
        classifier(tmp_path / 'broken.jpg')
    with pytest.raises(ConfigError, match='batch_size=0'):
        classifier(files(trained), 0)
    with pytest.raises(ConfigError, match='checkpoint is missing'):
        effvit_mm.Classifier(trained / 'config.py')
    other = {'state_dict': {'a.weight': torch.zeros(2)}}
    torch.save(other, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=r'other\.pth'):
        effvit_mm.Classifier(trained / 'config.py', tmp_path / 'other.pth')


@pytest.mark.parametrize('kind', [effvit_mm.Classifier, effvit_mm.Detector])
@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ('epoch_3.pth', 'config is missing: epoch_3.pth is a checkpoint without a config'),
        ('a.safetensors', 'config is missing: a.safetensors is a checkpoint without a config'),
        ('config.py', 'checkpoint is missing: config.py is a config without weights'),
    ],
)
def test_one_of_config_and_checkpoint_is_named_as_what_it_is(kind, given, message):
    with pytest.raises(ConfigError) as error:
        kind(given)
    assert str(error.value) == message
