"""Networks of four libraries in the forms of the benchmark, and what its command line takes."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import effvit_mm
from benchmarks import benchmark
from benchmarks.measure import published
from benchmarks.measure.alternating import MeasuringProcess
from benchmarks.measure.costs import convert
from benchmarks.measure.loading import (
    NETWORK,
    STEP,
    gemm,
    load,
    normalised_images,
    training_step,
)
from benchmarks.measure.networks import build_network, check_network
from benchmarks.measure.workload import FORMS, RUNTIMES, Workload, parse_label, parse_size
from effvit_mm.flops import count_flops

VIT, CNN = 'timm:test_vit', 'timm:test_resnet'  # timm has them for its own tests: 0.4 M parameters
ROOT = Path(__file__).resolve().parents[1]


def output(model, *form, size=(64, 64), batch_size=2, cache=None):
    (part,) = load(Workload(model, form, size, batch_size, cache=cache)).values()
    return part.run()


def assert_near(found, wanted, share):
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= share * wanted.abs().max()


# What is named ---------------------------------------------------------------------------------


def test_a_label_is_a_model_and_words():
    assert parse_label('timm:a_b') == ('timm:a_b', ())
    assert parse_label('pslt_tiny@eager') == ('pslt_tiny', ())
    assert parse_label('pslt_tiny@bf16+deployed') == ('pslt_tiny', ('deployed', 'bf16'))
    assert parse_label('timm:a@int8+openvino') == ('timm:a', ('openvino', 'int8'))
    assert parse_label('timm:a@deployed') == ('timm:a', ('deployed',))
    assert Workload('pslt_tiny', ('deployed', 'bf16'), (9, 9)).label == 'pslt_tiny@deployed+bf16'
    compiled = Workload('pslt_tiny', ('openvino', 'bf16'), (9, 9))
    assert (compiled.runtime, compiled.precision) == ('openvino', 'bf16')
    eager = Workload('pslt_tiny', (), (9, 9))
    assert (eager.runtime, eager.precision) == (None, 'fp32')
    assert (parse_size('224'), parse_size('800x1333')) == ((224, 224), (800, 1333))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([VIT, '--repeats', '0'], '--repeats 0: more than 0 is needed'),
        ([VIT, '--warm-up', '-1'], '--warm-up -1: 0 or more is needed'),
        ([VIT, '--batch-sizes', '1', '0'], '--batch-sizes 0: more than 0 is needed'),
        ([VIT, '--sizes', '20'], '--sizes 20: N or HxW is needed, 32 pixels or more'),
        ([VIT, '--out', 'table.txt'], '--out table.txt: a name ending in .json or .md'),
        ([VIT, '--image', 'nowhere.png'], 'image nowhere.png: No such file'),
        (['timm:test_vitt'], "there is no network 'timm:test_vitt'; there are test_byobnet"),
        (['torchvision:vgg99'], "there is no network 'torchvision:vgg99'"),
        (['torchreid:osnet'], "there is no network 'torchreid:osnet'; there are osnet_ain_x0_25"),
        (['pslt_huge'], "there is no network 'pslt_huge'; there are pslt_base, pslt_large"),
        (['nowhere.py'], 'config nowhere.py: no such file'),
        (['pslt_tiny@fast'], "pslt_tiny@fast: no form 'fast'; allowed are eager, deployed"),
        (
            ['pslt_tiny@openvino+onnxruntime'],
            'pslt_tiny@openvino+onnxruntime: openvino and onnxruntime exclude each other',
        ),
        (
            ['pslt_tiny@int8'],
            'pslt_tiny@int8: int8 needs a runtime beside it: openvino, onnxruntime',
        ),
        (
            ['torchvision:resnet50@inductor+int8'],
            "torchvision:resnet50@inductor+int8: precision='int8': inductor has fp32",
        ),
        (
            ['torchvision:resnet50@deployed'],
            "torchvision:resnet50@deployed: a model of torchvision has no form 'deployed'",
        ),
        ([VIT, '--cache', '/proc/x'], '--cache /proc/x: the folder /proc/x cannot be written'),
        (['a.py@compiled'], "a.py@compiled: a config has no form 'compiled'; allowed are eager"),
        (['pslt_tiny@before'], 'pslt_tiny@before: --before FOLDER is needed'),
        ([VIT, '--before', '/tmp/nowhere'], '--before /tmp/nowhere: there is no folder effvit_mm'),
        ([VIT, '--before', str(ROOT)], f'--before {ROOT}: no model has the form before'),
        ([VIT, '--baseline', 'timm:x'], "there is no network 'timm:x'"),
        ([VIT, '--checkpoints', f'{VIT}=a.pth'], '--checkpoints timm:test_vit=a.pth: MODEL=FILE'),
        (
            ['pslt_tiny', '--checkpoints', 'pslt_tiny=a.pth'],
            '--checkpoints pslt_tiny=a.pth: no such file',
        ),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr('benchmarks.measure.results.measure_group', None)  # not reached
    assert benchmark.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f'error: {message}')


@pytest.mark.parametrize('library', ['timm', 'onnxruntime'])
def test_a_missing_library_is_named(library, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    model, line = {
        'timm': (VIT, 'pip install timm'),
        'onnxruntime': ('pslt_tiny@onnxruntime', "pip install 'effvit-mm[export]'"),
    }[library]
    assert benchmark.main([model]) == 2
    message = capsys.readouterr().err
    assert f'the package {library} is missing' in message and message.strip().endswith(line)


# What is run -----------------------------------------------------------------------------------


@pytest.mark.parametrize('form', ['channels-last', 'compiled', 'bf16'])
def test_a_form_gives_what_the_eager_network_gives(form, monkeypatch):
    # Without its code generator: what is tested here is that the compiled network is the one run.
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend='eager'))
    eager, found = output(CNN), output(CNN, form)
    assert_near(found, eager, 0.1 if form == 'bf16' else 1e-4)
    assert (form == 'bf16') == (found.dtype == torch.bfloat16)


@pytest.mark.parametrize(
    ('name', 'runtime'),
    [('torchvision:squeezenet1_1', 'openvino'), (VIT, 'onnxruntime')],
)
def test_a_runtime_gives_what_the_eager_network_gives(name, runtime, tmp_path):
    """For more images than threads too; what is counted is the network's own."""
    workload = Workload(name, (runtime,), (64, 48), 3, cache=str(tmp_path))
    (part,) = load(workload).values()
    (eager,) = load(workload._replace(form=())).values()
    assert_near(part.run(), eager.run(), 1e-4)
    assert (part.count(), part.parameters) == (eager.count(), eager.parameters)
    assert part.compiling > 0 and eager.compiling is None


def test_runtimes_are_those_of_the_package():
    assert set(RUNTIMES) == set(effvit_mm.runtime.RUNTIMES)


def test_converting_is_timed_once(tmp_path):
    """The next process finds the file."""
    workload = Workload(CNN, ('openvino',), (32, 32), cache=str(tmp_path))
    assert convert(tuple(workload), torch.get_num_threads()) > 0
    assert convert(tuple(workload), torch.get_num_threads()) is None


def test_timms_own_deployed_form():
    """RepViT's branches are one convolution each; outputs and parameters tell."""
    trained, deployed = (
        load(Workload('timm:repvit_m0_9', form, (64, 64)))[NETWORK] for form in ((), ('deployed',))
    )
    assert_near(deployed.run(), trained.run(), 1e-4)
    assert deployed.parameters < trained.parameters


def test_the_deployed_form_gives_what_the_trained_one_gives():
    trained, deployed = (
        load(Workload('castling_levit_128s', form, (64, 64)))[NETWORK]
        for form in ((), ('deployed',))
    )
    assert_near(deployed.run(), trained.run(), 1e-4)
    assert deployed.parameters < trained.parameters


def test_weights_of_a_checkpoint_are_taken(tmp_path):
    model = effvit_mm.create_model('castling_levit_128s').eval()
    torch.save(model.state_dict(), tmp_path / 'weights.pth')
    workload = Workload('castling_levit_128s', (), (64, 64), 1, str(tmp_path / 'weights.pth'))
    with torch.no_grad():
        assert torch.equal(load(workload)[NETWORK].run(), model(normalised_images(workload)))


def test_channels_last_is_what_the_network_is_given():
    (part,) = load(Workload(CNN, ('channels-last',), (64, 64))).values()
    _, network, x, _ = (part.run.func, *part.run.args)
    kernels = [p for p in network.parameters() if p.ndim == 4 and p.shape[1] > 1]
    for tensor in (x, *kernels):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('name', [VIT, 'torchvision:squeezenet1_1', 'torchreid:osnet_x0_25'])
def test_networks_of_other_libraries(name):
    """Of any size; multiply-adds are of one image, parameters the library's."""
    size = (96, 64)
    (part,) = load(Workload(name, (), size, 2)).values()
    network, x, _ = part.run.args
    assert x.shape == (2, 3, *size) and not torch.equal(x[0], x[1])
    found = part.run()
    assert len(found) == 2 and found.isfinite().all() and not found.requires_grad
    assert part.parameters == sum(p.numel() for p in network.parameters())
    assert part.count() == count_flops(network, (3, *size)) > 0


@pytest.mark.parametrize('name', [CNN, 'deit_tiny_distilled'])
def test_a_training_step_trains(name):
    """All parameters change, with all heads in the loss, and the loss of the batch falls."""
    workload = Workload(name, ('training',), (32, 32), 2)
    model = build_network(name, workload.size).train()
    step = training_step(model, model, normalised_images(workload), workload.form)
    before = {key: value.clone() for key, value in model.named_parameters()}
    losses = [step() for _ in range(4)]
    assert losses[-1] < losses[0]
    assert not [key for key, value in model.named_parameters() if torch.equal(value, before[key])]
    parts = load(workload)
    assert list(parts) == [STEP]
    first, *_, last = [float(parts[STEP].run()) for _ in range(4)]
    assert last < first and parts[STEP].count() == count_flops(model, (3, 32, 32))


def test_training_in_bfloat16():
    (step,) = load(Workload(VIT, ('training', 'bf16'), (32, 32))).values()
    assert step.run().isfinite()


def test_an_image_is_shown_normalised(tmp_path):
    image = np.full((50, 60, 3), (0, 0, 255), np.uint8)  # red, in OpenCV's order
    cv2.imwrite(str(tmp_path / 'red.png'), image)
    x = normalised_images(Workload(VIT, (), (32, 48), 2, image=str(tmp_path / 'red.png')))
    assert x.shape == (2, 3, 32, 48)
    wanted = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225])
    torch.testing.assert_close(x, wanted.view(1, 3, 1, 1).expand_as(x))


def test_products_of_matrices_are_counted():
    part = gemm(torch.float32)
    counter = torch.utils.flop_counter.FlopCounterMode(display=False)
    with counter:
        part.run()
    assert part.count() == counter.get_total_flops() // 2


# Another tree ----------------------------------------------------------------------------------


def test_the_form_before_is_another_tree(tmp_path):
    """The package is that tree's, what measures is this one's."""
    package = tmp_path / 'effvit_mm'
    shutil.copytree(ROOT / 'effvit_mm', package, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('benchmarks', 'measure'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '__init__.py').write_text('raise ImportError("not this one")\n')
    with (package / 'models.py').open('a') as models:
        models.write("\nMODEL_TABLE['pslt_tiny'] = MODEL_TABLE['castling_levit_128s']\n")
    process = MeasuringProcess(str(tmp_path))
    try:
        costs = process.ask('begin', Workload('pslt_tiny', ('before',), (64, 64)), 1)
        assert process.ask('seconds', NETWORK) > 0
    finally:
        process.close()
    there = effvit_mm.create_model('castling_levit_128s')
    assert costs[NETWORK][-1] == sum(p.numel() for p in there.parameters())


# What is printed of accuracy -------------------------------------------------------------------


def test_accuracy_is_the_sources():
    paper = published.published_accuracy('crossvit_15_dagger_408')
    assert (paper.top1, paper.size) == (83.5, 408) and '2103.14899' in paper.source
    for same in ('timm:crossvit_9_240', 'timm:crossvit_9_240.in1k'):
        assert published.published_accuracy(same) == published.published_accuracy('crossvit_9')
    deit = published.published_accuracy('timm:deit_tiny_distilled_patch16_224')
    assert (deit.top1, deit.size) == (74.5, 224)
    assert published.published_accuracy('timm:levit_192') == published.published_accuracy(
        'levit_192'
    )
    for name, top1, size in (
        ('cpubone_b1_bfrobust', 78.7, 224),
        ('cpubone_b1_bfrobust.r224_in1k', 78.7, 224),
        ('mobilenetv4_conv_medium', 79.9, 256),
        ('mobilenetv4_conv_medium.e500_r224_in1k', 79.1, 224),
    ):
        accuracy = published.published_accuracy(f'timm:{name}')
        assert (accuracy.top1, accuracy.size) == (top1, size)
    resnet = published.published_accuracy('torchvision:resnet50')
    assert (resnet.top1, resnet.size) == (76.13, 224) and 'torchvision' in resnet.source
    for unknown in ('pslt_tiny', 'timm:swin_tiny_patch4_window7_224', 'torchreid:osnet_x1_0'):
        assert published.published_accuracy(unknown) is None
    assert published.published_accuracy('configs/pslt/x.py') is None


@pytest.mark.parametrize(
    ('model', 'size'),
    [
        ('crossvit_9', '240'),
        ('timm:mobilenetv4_conv_medium', '256'),
        ('torchvision:resnet50', '224'),
        ('torchreid:osnet_x1_0', '224'),
        ('configs/pslt/x.py', '800x1333'),
    ],
)
def test_a_model_is_measured_at_the_size_of_its_accuracy(model, size):
    assert benchmark.usual_size(model) == size


def test_yardsticks_are_networks_of_timm():
    """At the size that timm's own weights, or those that are named, are for."""
    import timm

    for table in published.TIMM.values():
        for name, (_, size) in table.items():
            check_network(f'timm:{name}')
            assert timm.get_pretrained_cfg(name).input_size == (3, size, size)


def test_forms_are_explained_to_people(capsys):
    with pytest.raises(SystemExit, match='0'):
        benchmark.main(['--help'])
    text = capsys.readouterr().out
    assert all(f'\n  {word} ' in text for word in FORMS) and 'examples:' in text
    assert max(map(len, text.splitlines())) <= 100
