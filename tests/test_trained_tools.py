"""The tools that measure trained classifiers: token sampling without training, and comparisons."""

import re
from pathlib import Path

import pytest
import torch
from coco_sets import make_coco
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from trainer import REPOSITORY, forget_runs, make_folder, write_config

import effvit_mm
from benchmarks import compare_trained, sampling_curve
from benchmarks.measure.sampling import use_sampling
from effvit_mm.backbones import VisionTransformer
from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.loading import load_config

ARCH = {'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': 3, 'mlp_ratio': 2}
MODEL = f"""
model['backbone'] = dict(
    type='effvit_mm.VisionTransformer', arch={ARCH!r}, patch_size=4, img_size=32,
    out_type='cls_token',
)
model['neck'] = None
model['head'] = dict(type='effvit_mm.LinearClsHead', in_channels=24, num_classes=3)
custom_hooks = []
"""


@pytest.fixture
def trained(tmp_path):
    """A config and weights; these need no training to be told apart by the sampling."""
    config = write_config(tmp_path / 'config.py', make_folder(tmp_path / 'data'), MODEL)
    torch.manual_seed(0)
    backbone = VisionTransformer(ARCH, patch_size=4, img_size=32, out_type='cls_token')
    head = effvit_mm.heads.LinearHead(24, 3)
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    state |= {f'head.{k}': v for k, v in head.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'weights.pth')
    yield str(config), str(tmp_path / 'weights.pth'), tmp_path
    forget_runs()


def run(trained, capsys, *options):
    config, weights, folder = trained
    picture = folder / 'curve.png'
    code = sampling_curve.main(
        [config, weights, '--work-dir', str(folder / 'work'), '--show', str(picture), *options]
    )
    return code, picture, capsys.readouterr()


def test_sampling_gives_a_table_and_a_picture(trained, capsys):
    code, picture, output = run(
        trained, capsys, '--num-samples', '64', '8', '2', '--sampled-blocks', '1', '2'
    )
    assert code == 0, output.err
    assert picture.read_bytes().startswith(b'\x89PNG')
    rows = re.findall(r'^\| (\w+) \| ([\d.]*) \| ([\d.]+) M \|', output.out, re.MULTILINE)
    assert [row[0] for row in rows] == ['none', '64', '8', '2']
    model = VisionTransformer(ARCH, patch_size=4, img_size=32, out_type='cls_token')
    whole = effvit_mm.count_flops(model, (3, 32, 32)) + 24 * 3
    assert float(rows[0][2]) == pytest.approx(whole / 1e6, abs=0.006)
    costs, kept = [float(r[2]) for r in rows], [float(r[1]) for r in rows[1:]]
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.7 * costs[0]
    assert kept[1] <= 8 and 1 <= kept[2] <= 2 < kept[0] <= 64


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--num-samples', '0'], r'--num-samples \[0\]: 1 or more'),
        (['--sampled-blocks', '4'], r'sampled_blocks=\(4,\): blocks are 0 to 3'),
        (['--num-samples', 'few'], r'few'),
    ],
    ids=str,
)
def test_bad_arguments_are_one_line(trained, capsys, options, message):
    code, picture, output = run(trained, capsys, *options)
    assert code == 2 and not picture.exists()
    (line,) = [line for line in output.err.splitlines() if line.startswith('error')]
    assert re.search(message, line)


def test_what_cannot_sample_is_refused():
    levit = Config({'model': {'backbone': {'type': 'effvit_mm.LeViT'}}})
    with pytest.raises(ConfigError, match=r"'effvit_mm\.LeViT'.*VisionTransformer"):
        use_sampling(levit, None)
    angular = {'type': 'VisionTransformer', 'attention': {'type': 'LinearAngularAttention'}}
    with pytest.raises(ConfigError, match='no sampling form'):
        use_sampling(Config({'model': {'backbone': angular}}), None)


def test_e_attention_keeps_its_options():
    attention = {'type': 'EAttention', 'feature_map': 'relu'}
    cfg = Config({'model': {'backbone': {'type': 'VisionTransformer', 'attention': attention}}})
    use_sampling(cfg, [1])
    assert cfg.model.backbone.attention == attention
    assert cfg.model.backbone.sampled_blocks == (1,)


def test_trained_models_are_compared(trained, capsys):
    """The same weights in two models: one table, softmax first, in the deployed form."""
    config, weights, folder = trained
    other = folder / 'angular.py'
    attention = "attention=dict(type='LinearAngularAttention', convolution='none')"
    text = Path(config).read_text()
    other.write_text(text.replace("out_type='cls_token',", f"out_type='cls_token', {attention},"))
    arguments = ['--work-dir', str(folder / 'work'), '--repeats', '1', '--batch-size', '4']
    models = ['--model', config, weights, weights, '--model', str(other), weights]
    assert compare_trained.main([*arguments, *models]) == 0
    output = capsys.readouterr().out
    first, second = re.findall(r'^\| (?:config|angular) \| .*\|$', output, re.MULTILINE)[1:]
    accuracy, repeated = re.search(r'\*\*([\d.]+)\*\* \(([\d., ]+)\)', first).groups()
    assert repeated == f'{accuracy}, {accuracy}'  # one checkpoint, given twice
    tokens, width = 65, 24
    softmax, angular = (float(re.findall(r'([\d.]+) M', row)[1]) for row in (first, second))
    assert softmax == pytest.approx(4 * 2 * tokens**2 * width / 1e6, abs=0.006)
    assert angular == pytest.approx(4 * 2 * tokens * width * 8 / 1e6, abs=0.006)
    assert f'({angular / softmax - 1:+.0%})' in second

    assert compare_trained.main([*arguments, '--model', config]) == 2
    assert 'a config and a checkpoint are needed' in capsys.readouterr().err


def test_trained_detectors_are_compared(tmp_path, monkeypatch, capsys):
    """Ours and one of mmdet alone, whose norms are folded too: COCO's figures, counts, speed."""
    make_coco(tmp_path / 'data', splits=('train', 'val', 'test'))
    monkeypatch.setenv('COCO_FOLDER_ROOT', str(tmp_path / 'data'))
    arguments = ['--work-dir', str(tmp_path / 'work'), '--repeats', '1']
    parameters, bias = [], 0
    for name in ('pslt-tiny', 'r18'):
        config = REPOSITORY / f'configs/bccd/retinanet_{name}_bccd.py'
        cfg = load_config(str(config), [])
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = MODELS.build(cfg.model)
        torch.save({'state_dict': model.state_dict()}, tmp_path / f'{name}.pth')
        arguments += ['--model', str(config), str(tmp_path / f'{name}.pth')]
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        bias = sum(m.num_features for m in norms)
        parameters.append(sum(p.numel() for p in model.parameters()))
    assert compare_trained.main(arguments) == 0
    ours, theirs = re.findall(r'^\| retinanet_.*\|$', capsys.readouterr().out, re.MULTILINE)
    for row, name in ((ours, 'pslt-tiny'), (theirs, 'r18')):
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        assert cells[0] == f'retinanet_{name}_bccd'
        assert all(re.fullmatch(r'\d+\.\d|nan', cell) for cell in cells[1:7])
        assert float(cells[8].removesuffix(' G')) > 1 and float(cells[9]) > 0
    # Folding leaves a bias in the place of a norm's weight and bias.
    assert f'| {(parameters[1] - bias) / 1e6:.2f} M |' in theirs
    assert float(ours.split('|')[8].removesuffix(' M ')) < parameters[0] / 1e6

    assert compare_trained.main([*arguments, arguments[-1]]) == 2
    assert 'of a detector one checkpoint is needed' in capsys.readouterr().err
    forget_runs()
