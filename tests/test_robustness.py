"""test_robustness.py: corruptions that come out alike, what they cost, what a killed run has."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from coco_sets import make_config
from programs import load_tool
from remedies import tries
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import ConfigError, DataError
from effvit_mm.openmm.config.loading import load_config
from effvit_mm.openmm.datasets import corruption
from effvit_mm.openmm.datasets.corruption import COMMON, CommonCorruption
from effvit_mm.openmm.engine import robustness
from effvit_mm.openmm.trained import build_classifier, build_detector

pytest.importorskip('imagecorruptions')
FAST = [name for name in COMMON if name != 'glass_blur']  # numba compiles it for seconds


def picture(size: tuple[int, int] = (40, 48)) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([rows * 4, columns * 4, 255 - rows - columns], 2)
    return image.astype(np.uint8)


def corrupt(name: str, severity: int, path: str = 'a/b.png', **more) -> np.ndarray:
    results = {'img': picture(), 'img_path': path, **more}
    return CommonCorruption(name, severity).transform(results)['img']


def test_the_fifteen_are_the_packages_common_ones():
    from imagecorruptions import get_corruption_names

    assert list(COMMON) == get_corruption_names('common')


@pytest.mark.parametrize('name', FAST)
def test_an_image_is_corrupted_alike_in_each_run_and_folder(name):
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = corrupt(name, 3, '/here/a/b.png')
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    assert (corrupt(name, 3, '/there/a/b.png') == first).all()
    assert first.shape == (40, 48, 3) and first.dtype == np.uint8 and (first != picture()).any()


def test_images_differ_in_their_noise_and_severities_in_strength():
    assert (corrupt('impulse_noise', 1) != corrupt('impulse_noise', 1, 'a/c.png')).any()
    for name in ('gaussian_noise', 'defocus_blur', 'contrast'):
        costs = [np.square(corrupt(name, s) - picture().astype(float)).mean() for s in (1, 3, 5)]
        assert costs == sorted(costs) and costs[0] < costs[-1]


def test_colours_are_corrupted_as_red_green_and_blue():
    from imagecorruptions import corrupt as package

    red_first = np.ascontiguousarray(picture()[..., ::-1])
    expected = package(red_first, 5, corruption_name='jpeg_compression')[..., ::-1]
    assert (corrupt('jpeg_compression', 5) == expected).all()


def test_no_name_leaves_images_as_they_are():
    results = {'img': picture((8, 8)).astype(np.float32)}
    assert CommonCorruption().transform(results) is results


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: CommonCorruption('rain'), "name='rain': allowed are gaussian_noise"),
        (lambda: CommonCorruption('fog', 6), 'severity=6: allowed are 1 to 5'),
        (lambda: robustness.checked_choice(['rain'], None), '--corruptions rain: allowed'),
        (lambda: robustness.checked_choice(None, [0]), '--severities 0: allowed are 1, 2'),
    ],
)
def test_what_there_is_not(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize('image', [picture((31, 40)), picture().astype(np.float32)])
def test_images_that_cannot_be_corrupted_are_named(image):
    with pytest.raises(DataError, match=r'image a/b\.png: .* 32 x 32 are needed'):
        CommonCorruption('fog').transform({'img': image, 'img_path': 'a/b.png'})


# The tool -------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def tool():
    return load_tool('analysis_tools/test_robustness')


@pytest.fixture(scope='module')
def classifier(tmp_path_factory) -> list[str]:
    """Config and checkpoint."""
    folder = tmp_path_factory.mktemp('classifier')
    config = write_config(folder / 'tiny.py', make_folder(folder / 'data', train=1))
    model = build_classifier(load_config(config, []), str(config))
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / 'a.pth')
    return [str(config), str(folder / 'a.pth'), '--work-dir', str(folder / 'w')]


@pytest.fixture
def seen(monkeypatch) -> list:
    """Name and severity of each image that is corrupted."""
    found, whole = [], corruption.corrupted

    def watched(image, name, severity, seed):
        found.append((name, severity))
        return whole(image, name, severity, seed)

    monkeypatch.setattr(corruption, 'corrupted', watched)
    return found


SMALL = ['--corruptions', 'contrast', 'brightness', '--severities', '5', '1']


def test_figures_of_a_classifier_and_what_a_killed_run_has(
    tool, classifier, tmp_path, monkeypatch, capfd, seen
):
    out, tested = tmp_path / 'found.json', []
    argv = [*classifier, '--out', str(out), *SMALL]
    whole = robustness.CorruptedTests.__call__

    def killed(self, name=None, severity=1):
        if len(tested) == 3:
            raise KeyboardInterrupt
        tested.append((name, severity))
        return whole(self, name, severity)

    with monkeypatch.context() as patch:
        patch.setattr(robustness.CorruptedTests, '__call__', killed)
        forget_runs()
        assert tool.main(argv) == 130
    assert tested == [(None, 1), ('brightness', 1), ('brightness', 5)]
    kept = json.loads(out.read_text())
    assert seen.count(('brightness', 1)) >= 12 and seen.count(('brightness', 5)) >= 12
    forget_runs()
    capfd.readouterr()
    assert tool.main([*argv, '--resume']) == 0
    said = capfd.readouterr().out
    content = json.loads(out.read_text())
    assert content['clean'] == kept['clean']
    assert content['corruptions']['brightness'] == kept['corruptions']['brightness']
    assert '5 of 5: contrast, severity 5 done' in said and '1 of 5' not in said
    figures = [
        content['corruptions'][name][str(severity)]['accuracy/top1']
        for name in ('brightness', 'contrast')
        for severity in (1, 5)
    ]
    summary = content['summary']
    assert summary['mPC'] == pytest.approx(np.mean(figures))
    assert summary['rPC'] == pytest.approx(np.mean(figures) / content['clean']['accuracy/top1'])
    assert 'mPC' in said and 'rPC' in said and content['of']['images'] == 12
    # Of other images, or of no such file: not gone on with.
    forget_runs()
    assert tool.main([*argv, '--resume', '--images', '5']) == 2
    assert 'has figures of images 12, not of 5' in capfd.readouterr().err
    out.write_text('[]')
    forget_runs()
    assert tool.main([*argv, '--resume']) == 2
    assert 'is no file of this program' in capfd.readouterr().err


@tries('pip install imagecorruptions-imaug')
def test_a_package_that_is_missing(classifier, monkeypatch):
    cfg = load_config(classifier[0], [])
    with monkeypatch.context() as patch:
        patch.setattr(robustness, 'find_spec', lambda name: None)
        with pytest.raises(ConfigError, match='pip install imagecorruptions-imaug'):
            robustness.add_corruption(cfg)
    robustness.add_corruption(cfg)
    steps = [step['type'] for step in cfg.test_dataloader.dataset.pipeline]
    assert steps[1:] == ['effvit_mm.CommonCorruption', 'PackInputs']
    cfg.test_dataloader.dataset.pipeline = []
    with pytest.raises(ConfigError, match='a pipeline that loads images is needed'):
        robustness.add_corruption(cfg)


def test_part_of_a_detectors_images_is_judged_by_that_part(tool, tmp_path, monkeypatch, seen):
    config, judged, whole = make_config(tmp_path), [], robustness.CorruptedTests.__call__

    def watched(self, *cell):
        figures = whole(self, *cell)
        judged.append(list(self.loop.evaluator.metrics[0].img_ids))
        return figures

    monkeypatch.setattr(robustness.CorruptedTests, '__call__', watched)
    model = build_detector(load_config(config, []), str(config))
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, tmp_path / 'a.pth')
    forget_runs()
    argv = [str(config), str(tmp_path / 'a.pth'), '--work-dir', str(tmp_path / 'w')]
    argv += ['--out', str(tmp_path / 'found.json'), '--images', '2']
    assert tool.main([*argv, '--corruptions', 'contrast', '--severities', '3']) == 0
    content = json.loads((tmp_path / 'found.json').read_text())
    assert content['of']['images'] == 2 and content['summary']['figure'] == 'coco/bbox_mAP'
    assert content['corruptions']['contrast']['3'].keys() == content['clean'].keys()
    assert judged == [[0, 4], [0, 4]]
    assert seen[-2:] == [('contrast', 3)] * 2 and {*seen} == {('contrast', 3)}
