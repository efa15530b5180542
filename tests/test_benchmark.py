"""Time and memory of models side by side, and detectors at full size in small."""

from __future__ import annotations

import json
from pathlib import Path

import coco_sets
import numpy as np
import pytest
import torch

from benchmarks import benchmark, check_detectors
from benchmarks.measure import isolation, results
from benchmarks.measure.alternating import Outcome
from benchmarks.measure.costs import measure_costs
from benchmarks.measure.isolation import FailedError, OutOfBoundsError, run_isolated
from benchmarks.measure.loading import BACKBONE, WHOLE, Part, load
from benchmarks.measure.memory import peak_bytes, reset_peak, resident_bytes
from benchmarks.measure.timing import Timing, time_alternately
from benchmarks.measure.workload import (
    BF16,
    DEPLOYED,
    OPENVINO,
    Workload,
    read_detector_config,
)
from effvit_mm.flops import count_flops

ROOT = Path(__file__).resolve().parents[1]
MB = 10**6
PSLT = """
model.update(
    backbone=dict(
        type='effvit_mm.PSLT', out_indices=(1, 2, 3), final_norm=False,
        arch=dict(embed_dims=12, depths=(1, 1, 1, 1), num_heads=(4, 8)),
    ),
    neck=dict(type='FPN', in_channels=[48, 96, 192], out_channels=8, num_outs=3),
)
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A small RetinaNet whose data are not there."""
    root = tmp_path_factory.mktemp('config')
    path = coco_sets.write_config(root / 'small.py', root / 'nowhere')
    path.write_text(path.read_text() + PSLT)
    return str(path)


# Memory ------------------------------------------------------------------------------------------


def allocate(size):
    """What is resident before, and the peaks with a block of memory and after it is gone."""
    before = resident_bytes()
    block = np.ones(size, np.uint8)
    with_block = peak_bytes()
    del block
    reset_peak()
    return before, with_block, peak_bytes()


def test_a_known_allocation_is_seen_and_the_parents_memory_is_not():
    ours = np.ones(2000 * MB, np.uint8)
    (before, with_block, after), peak = run_isolated(allocate, 300 * MB)
    # The kernel counts pages by the dozen, and takes those of files back when others need memory.
    assert 290 * MB < with_block - before < 310 * MB
    assert after - before < 10 * MB
    assert peak < 1500 * MB < len(ours)


def test_work_that_takes_too_much_is_stopped():
    with pytest.raises(OutOfBoundsError, match=r'more than 0\.1 GB were not allowed'):
        run_isolated(allocate, 10, limit=100 * MB)


def test_a_fault_in_the_other_process_is_told():
    with pytest.raises(FailedError, match=r'TypeError: .*str') as caught:
        run_isolated(allocate, 'much')
    assert 'np.ones(size, np.uint8)' in caught.value.details


def predicted_costs():
    """Costs of a pass that takes 300 MB and of one that takes 100 MB, after 500 MB were freed.

    In small blocks, which the C library keeps when they are freed.
    """

    def take(size):
        return lambda: len([np.ones(MB, np.uint8) for _ in range(size)])

    take(500)()
    return measure_costs({
        'whole': Part(take(300), lambda: 11, 12),
        'small': Part(take(100), lambda: 21, 22),
    })  # fmt: skip


def test_memory_of_parts_is_what_they_take():
    """The whole has its own, though it runs last; what loading took and freed is none of it."""
    costs, peak = run_isolated(predicted_costs)
    assert list(costs) == ['whole', 'small']
    for name, (size, counts) in {'whole': (300, (11, 12)), 'small': (100, (21, 22))}.items():
        memory, process, *rest = costs[name]
        # The kernel's counters are a few pages behind.
        assert (size - 1) * MB < memory < (size + 20) * MB
        assert memory < process <= peak and tuple(rest) == counts


# Time --------------------------------------------------------------------------------------------


def test_passes_alternate_and_warm_up_does_not_count():
    order, seconds = [], iter([100, 100, 1, 10, 2, 20, 3, 30, 4, 40, 5, 50])

    def run(name):
        order.append(name)
        return next(seconds)

    passes = [lambda: run('a'), lambda: run('b')]
    first, second = time_alternately(passes, repeats=5, warm_up=1)
    assert ''.join(order) == 'ab' * 6
    assert first == (3, 2, 4) and second == (30, 20, 40)


# Detectors ---------------------------------------------------------------------------------------


def test_parts_of_a_detector(config):
    """Parameters and multiply-adds of the whole and of the backbone, in both forms."""
    workload = Workload(config, (), (50, 70), 2, model_config=read_detector_config(config))
    trained, deployed = load(workload), load(workload._replace(form=(DEPLOYED,)))
    assert list(trained) == [WHOLE, BACKBONE] == list(deployed)
    model = trained[WHOLE].run.args[0].__self__
    whole, backbone = trained.values()
    assert whole.parameters == sum(p.numel() for p in model.parameters())
    assert backbone.parameters == sum(p.numel() for p in model.backbone.parameters())
    assert backbone.count() == count_flops(model.backbone, (3, 64, 96))  # as padded
    assert backbone.count() < whole.count()
    for name in trained:
        assert deployed[name].parameters < trained[name].parameters
        assert deployed[name].count() <= trained[name].count()
    batch = whole.run.args[1]
    assert [tuple(x.shape) for x in batch['inputs']] == [(3, 50, 70)] * 2
    assert all(x.dtype == torch.uint8 for x in batch['inputs'])
    boxes = [sample.pred_instances.bboxes for sample in whole.run()]
    assert len(boxes) == 2 and not any(b.requires_grad for b in boxes)
    low = load(workload._replace(form=(BF16,)))[BACKBONE].run()
    for ours, theirs in zip(low, backbone.run(), strict=True):
        assert 0 < (ours - theirs).abs().max() < 0.1 * theirs.abs().max()


def test_a_detector_whose_backbone_a_runtime_runs(config, tmp_path):
    """The maps, the boxes and the counts are those of the deployed form."""
    workload = Workload(config, (DEPLOYED,), (50, 70), 2, model_config=read_detector_config(config))
    deployed = load(workload)
    compiled = load(workload._replace(form=(OPENVINO,), cache=str(tmp_path)))
    pairs = zip(compiled[BACKBONE].run(), deployed[BACKBONE].run(), strict=True)
    assert all((a - b).abs().max() <= 1e-4 * b.abs().max() for a, b in pairs)
    detector = compiled[WHOLE].run.args[0].__self__
    assert detector.backbone is compiled[BACKBONE].run.args[0]
    assert detector.backbone.runtime == OPENVINO
    assert len(compiled[WHOLE].run()) == 2
    for name, part in deployed.items():
        found = compiled[name]
        assert (found.count(), found.parameters) == (part.count(), part.parameters)
        assert found.compiling > 0


def test_a_detector_has_a_row_for_each_part(config, tmp_path, capsys):
    out = tmp_path / 'table.json'
    arguments = ['--sizes', '64x96', '--repeats', '3', '--warm-up', '1', '--batch-sizes', '2']
    arguments += ['--baseline', config]
    assert benchmark.main([config, *arguments, '--threads', '1', '--out', str(out)]) == 0
    found = json.loads(out.read_text())
    assert [row['part'] for row in found['rows']] == [WHOLE, BACKBONE]
    assert '1 thread' in found['machine'] and found['repeats'] == 3
    peak = found['gemm_flops_per_second']['64x96x2']
    assert peak.keys() == {'float32'} and 1e8 < peak['float32'] < 1e15
    for row in found['rows']:
        timing = row['timing']
        assert 0 < timing['low'] <= timing['median'] <= timing['high']
        assert row['images_per_second'] == pytest.approx(2 / timing['median'])
        flops = 2 * 2 * row['multiply_adds'] / timing['median']
        assert row['share_of_peak'] == pytest.approx(flops / peak['float32'])
        assert 0 < row['memory'] < row['process']
        assert row['time_ratio'] == row['memory_ratio'] == row['multiply_adds_ratio'] == 1
    whole, backbone = found['rows']
    assert backbone['timing']['median'] < whole['timing']['median']
    assert backbone['memory'] <= whole['memory']
    assert capsys.readouterr().out.count('| `small` | eager |') == 2
    assert [path.name for path in tmp_path.iterdir()] == ['table.json']


def test_bfloat16s_peak_is_measured_where_a_form_is_compared_with_it(monkeypatch):
    """Processors without its instructions take seconds for one product of 1,024."""

    def measure(workloads, *args):
        parts = load(workloads[0][0])
        peak = Outcome(dict.fromkeys(parts, (0, 0, 1, 0)), dict.fromkeys(parts, Timing(1, 1, 1)))
        return [peak, *(Outcome({}, {}) for _ in workloads[1:])]

    monkeypatch.setattr(results, 'measure_alternately', measure)
    plain, low = (Workload('pslt_tiny', form, (64, 64)) for form in [(DEPLOYED,), (DEPLOYED, BF16)])
    assert results.measure_group([plain], threads=1).gemm == {'float32': 2}
    both = results.measure_group([plain, low], threads=1).gemm
    assert both == {'float32': 2, 'bfloat16': 2}


def test_a_config_of_a_classifier_is_told_from_a_network():
    config = str(ROOT / 'configs' / 'pslt' / 'pslt-tiny_digits.py')
    with pytest.raises(ValueError, match="default_scope='mmpretrain' cannot be measured"):
        read_detector_config(config)


# The check at full size --------------------------------------------------------------------------


def test_the_check_reports_memory_losses_and_levels(config, tmp_path, capsys):
    out = tmp_path / 'sizes.md'
    assert check_detectors.main([config, '--sizes', '64x96', '45x61', '--out', str(out)]) == 0
    rows = [line for line in out.read_text().splitlines() if line.startswith('| ')][2:]
    cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]
    assert [row[2] for row in cells] == ['64 x 96', '45 x 61']
    assert [row[3] for row in cells] == ['3', '3']  # the config's batch
    assert all(row[8] == '3' and row[9] == 'ok' for row in cells)
    assert all(0.5 < float(row[5].split()[0]) < 3 for row in cells)
    assert 'small ok, at most' in capsys.readouterr().out


def test_the_check_fails_where_a_detector_does(config, tmp_path, capsys, monkeypatch):
    errors = iter([OutOfBoundsError('stopped at 17 GB'), FailedError('ArithmeticError: x', '')])

    def fail(*args, **kwargs):
        raise next(errors)

    monkeypatch.setattr(isolation, 'run_isolated', fail)
    out = tmp_path / 'sizes.json'
    assert check_detectors.main([config, config, '--out', str(out)]) == 1
    found = [one['error'] for one in json.loads(out.read_text())['results']]
    assert found == ['stopped at 17 GB', 'ArithmeticError: x']
    assert 'stopped at 17 GB' in capsys.readouterr().out
    assert check_detectors.main(['nowhere.py']) == 2
    assert check_detectors.main([config, '--sizes', '20']) == 2
    assert '--sizes 20: N or HxW is needed' in capsys.readouterr().err
