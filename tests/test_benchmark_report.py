"""Workloads side by side, ratios, tables, pictures, interruption, and the share of waiting."""

from __future__ import annotations

import json

import pytest

from benchmarks import benchmark, loader_wait
from benchmarks.measure import alternating, benchmark_report, results
from benchmarks.measure.isolation import FailedError
from benchmarks.measure.loading import BACKBONE, NETWORK, STEP, WHOLE
from benchmarks.measure.results import Group, PartialResults, Row
from benchmarks.measure.timing import Timing
from benchmarks.measure.tradeoff import Point, pareto_front
from benchmarks.measure.workload import GEMM, Workload

RUNTIME_FORMS = {'a': (), 'b': ('openvino',), 'c': ('onnxruntime', 'bf16')}
PEAKS = {'float32': 1e12, 'bfloat16': 4e12}


def row(model, seconds, form=(), part=NETWORK, size=(224, 224), batch=1, **others):
    timing = Timing(seconds, 0.9 * seconds, 1.1 * seconds)
    costs = {'memory': 10**8, 'process': 10**9, 'multiply_adds': 10**9, 'parameters': 10**6}
    return Row(model, form, size, batch, part, timing, **(costs | others))


# Alternately -------------------------------------------------------------------------------------


class FakeProcess:
    """Answers at once; notes the order, and fails where it is told to."""

    asked, closed, fails = [], [], {}
    conversions = {'b': 12.5, 'c': None}

    def __init__(self, tree):
        self.tree, self.count = tree, 0

    def ask(self, question, *arguments):
        if question == 'convert':
            self.name = f'{arguments[0].model} converting'
            self.asked.append(f'convert {arguments[0].model} {self.tree}')
            return self.conversions[arguments[0].model]
        if question == 'begin':
            self.name = arguments[0].model
            self.asked.append(f'begin {self.name} {self.tree}')
            if self.name == GEMM:
                return {'float32': (0, 0, 10**9, 0), 'bfloat16': (0, 0, 10**9, 0)}
            return {NETWORK: (1, 2, 3, 4)}
        self.count += 1
        if self.count == self.fails.get(self.name):
            raise FailedError('RuntimeError: out of luck', 'traceback')
        self.asked.append(self.name[0])
        return float(self.count)

    def dismiss(self):
        self.closed.append(self.name)

    close = dismiss


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(FakeProcess, 'asked', [])
    monkeypatch.setattr(FakeProcess, 'closed', [])
    monkeypatch.setattr(FakeProcess, 'fails', {})
    monkeypatch.setattr(alternating, 'MeasuringProcess', FakeProcess)
    return FakeProcess


def test_workloads_alternate_in_processes_of_their_own(fake):
    held = [(Workload('a', (), (32, 32)), None), (Workload('b', (), (32, 32)), '/old')]
    found = alternating.measure_alternately(held, threads=1, repeats=3, warm_up=1)
    assert fake.asked == ['begin a None', 'begin b /old', *'abababab']
    assert found[0].timings[NETWORK] == Timing(3, 2.5, 3.5)  # 2, 3, 4
    assert found[0].costs == {NETWORK: (1, 2, 3, 4)} and not found[0].error
    assert set(fake.closed) == {'a', 'b'}


def test_converting_has_a_process_of_its_own(fake):
    """Which has ended before another measures, and whose time is in the row."""
    workloads = [Workload(name, form, (32, 32)) for name, form in RUNTIME_FORMS.items()]
    lines = []
    group = results.measure_group(workloads, 1, 2, 0, tell=lines.append)
    assert fake.asked[1:6] == [
        'begin a None', 'convert b None', 'begin b None', 'convert c None', 'begin c None',
    ]  # fmt: skip
    assert fake.closed[:2] == ['b converting', 'c converting']
    assert [row.conversion for row in group.rows] == [None, 12.5, None]
    assert [line.partition(': ')[2] for line in lines[1:]] == [
        'ready', 'ready, converted in 12.5 s', 'ready',
    ]  # fmt: skip


def test_a_workload_that_fails_lets_the_others_go_on(fake):
    """Also in the middle of it; the group has its error and no figure of it."""
    fake.fails = {'b': 2}
    workloads = [Workload(name, (), (32, 48), 8) for name in 'abc']
    lines = []
    group = results.measure_group(workloads, 1, 3, 0, tell=lines.append, debug=True)
    assert ''.join(fake.asked[4:]).count('b') == 1
    assert [(one.model, one.timing.median) for one in group.rows] == [('a', 2), ('c', 2)]
    assert group.failures == [('b, 32 x 48, 8 images', 'RuntimeError: out of luck')]
    assert 'traceback' in lines[-1]
    # 1e9 multiply-adds in the median of 1, 3, 5 seconds, and of 2, 4, 6.
    assert group.gemm == {'float32': 2e9 / 3, 'bfloat16': 2e9 / 4}


# Arithmetic --------------------------------------------------------------------------------------


def test_ratios_are_of_the_same_part_and_group():
    rows = [
        row('net', 0.5, memory=4 * 10**8, multiply_adds=3 * 10**9),
        row('base', 0.25),
        row('a.py', 4.0, part=WHOLE),
        row('a.py', 1.0, part=BACKBONE),
    ]
    group = Group(rows, [], PEAKS)
    assert group.ratios(rows[0], 'base') == (2, 4, 3)
    assert group.ratios(rows[1], 'base') == (1, 1, 1)
    assert group.ratios(rows[2], 'base') is None
    assert group.ratios(rows[2], 'a.py') == (1, 1, 1) == group.ratios(rows[3], 'a.py')
    assert group.ratios(rows[0], 'other') is None


def test_share_of_the_peak():
    """Two FLOP a multiply-add, of all images, beside the peak of the precision."""
    rows = [
        row('net', 0.1, batch=8, multiply_adds=2 * 10**9),
        row('net', 0.1, ('bf16',), batch=8, multiply_adds=2 * 10**9),
        row('net', 0.1, ('training',), part=STEP),
        row('net', 0.1, ('openvino', 'int8')),
    ]
    group = Group(rows, [], PEAKS)
    assert group.share_of_peak(rows[0]) == pytest.approx(2 * 8 * 2e9 / 0.1 / 1e12)
    assert group.share_of_peak(rows[1]) == pytest.approx(2 * 8 * 2e9 / 0.1 / 4e12)
    assert group.share_of_peak(rows[2]) is None is group.share_of_peak(rows[3])


def test_the_table_has_ratios_and_the_notes_what_failed():
    rows = [
        row('net', 0.5, ('openvino', 'bf16'), batch=4, conversion=7.25),
        row('base', 0.25, batch=4),
    ]
    groups = {'224x224x4': Group(rows, [('odd, 224 x 224, 4 images', 'ValueError: no')], PEAKS)}
    circumstances = dict.fromkeys(
        ('machine', 'versions', 'load', 'weights', 'image', 'repeats', 'warm_up'), 'X'
    )
    text = benchmark_report.markdown(groups, circumstances, 'base')
    cells = [[c.strip() for c in line.split('|')[1:-1]] for line in text.splitlines()[:4]]
    assert [len(line) for line in cells] == [17] * 4
    assert cells[2][:8] == [
        '`net`', 'openvino+bf16', 'network', '224 x 224', '4', '500.0 ms', '450.0 to 550.0 ms',
        '8.00',
    ]  # fmt: skip
    assert cells[2][-4:] == ['7.2 s', '2.000', '1.000', '1.000']
    assert cells[3][-4:] == ['-', '1.000', '1.000', '1.000']
    assert '- odd, 224 x 224, 4 images: ValueError: no\n' in text
    assert 'float32 1000, bfloat16 4000 GFLOP/s' in text
    assert 'ratio' not in benchmark_report.markdown(groups, circumstances, None)


# Pictures ----------------------------------------------------------------------------------------


def test_the_front_is_what_none_beats_in_both():
    points = [Point(3, 70), Point(1, 60), Point(2, 75), Point(4, 80), Point(2, 72), Point(5, 80)]
    assert pareto_front(points) == [Point(1, 60), Point(2, 75), Point(4, 80)]


def test_pictures_are_of_what_is_known(tmp_path):
    rows = [
        row('torchvision:resnet50', 0.06),
        row('pslt_base', 0.03, ('deployed',)),
        row('pslt_base', 0.02, ('openvino',)),
        row('pslt_base', 0.01, ('openvino', 'int8')),  # 79.9 was not found with that
        row('pslt_base', 0.01, ('deployed', 'bf16')),
        row('pslt_tiny', 0.02),  # no accuracy is printed
        row('pslt_base', 0.2, ('deployed',), size=(512, 512)),
        row('pslt_base', 0.2, ('deployed',), batch=8),
    ]
    one, eight = benchmark_report.accuracy_panels(rows).values()
    assert one == {
        'ours': [Point(20, 79.9, 'pslt_base@openvino')],
        'torchvision': [Point(60, 76.13, 'resnet50')],
    }
    assert eight == {'ours': [Point(200, 79.9, 'pslt_base@deployed')]}
    single = benchmark_report.resolution_panels(rows)['resolution, pixels (1 image)']
    assert single['pslt_base@deployed'] == [Point(224, 30), Point(512, 200)]
    tokens = benchmark_report.token_panels(rows)['tokens: patches of 16 x 16 pixels (1 image)']
    assert tokens['pslt_base@deployed'] == [Point(196, 100), Point(1024, 100)]
    drawn = benchmark_report.draw_pictures(rows, tmp_path)
    names = ['accuracy_latency.png', 'latency_resolution.png', 'memory_tokens.png']
    assert [path.name for path in drawn] == names
    assert all(path.read_bytes().startswith(b'\x89PNG') for path in drawn)
    assert benchmark_report.draw_pictures([row('pslt_tiny', 0.02)], tmp_path) == []


# Interruption ------------------------------------------------------------------------------------


def test_an_interrupted_benchmark_goes_on(tmp_path, capsys, monkeypatch):
    """Where another call with other arguments would mix what cannot be compared."""
    out, measured = tmp_path / 'found.json', []

    def measure(workloads, *_, **__):
        measured.append(workloads[0].size[0])
        if len(measured) == 2:
            raise KeyboardInterrupt
        return Group([row(s.model, 0.25, size=s.size) for s in workloads], [], PEAKS)

    monkeypatch.setattr(results, 'measure_group', measure)
    command = ['pslt_tiny', '--baseline', 'deit_tiny', '--sizes', '64', '96', '128']
    command += ['--out', str(out)]
    assert benchmark.main(command) == 130
    partial = tmp_path / 'found.json.partial'
    assert not out.exists() and list(json.loads(partial.read_text())['groups']) == ['64x64x1']
    assert benchmark.main([*command, '--repeats', '3']) == 2
    assert 'has repeats 20, not 3: call it with that to go on, or remove' in capsys.readouterr().err
    assert benchmark.main(command) == 0
    assert measured == [64, 96, 96, 128] and not partial.exists()
    found = json.loads(out.read_text())
    assert [r['size'] for r in found['rows']] == [[n, n] for n in (64, 64, 96, 96, 128, 128)]
    assert {r['time_ratio'] for r in found['rows']} == {1.0} and found['baseline'] == 'deit_tiny'
    assert all(r['images_per_second'] == 4 for r in found['rows'])


def test_what_is_kept_is_what_was_measured(tmp_path):
    out = tmp_path / 'a.md'
    group = Group([row('net', 0.1 / 3, ('openvino',), conversion=1.5)], [('odd', 'no')], PEAKS)
    PartialResults(out, {'repeats': 3, 'sizes': (1, 2)}).keep('key', group)
    assert PartialResults(out, {'repeats': 3, 'sizes': (1, 2)}).groups == {'key': group}
    (tmp_path / 'a.md.partial').write_text('{}')
    with pytest.raises(ValueError, match=r'a\.md\.partial is not of this tool: remove it'):
        PartialResults(out, {})


def test_one_that_fails_is_named_and_the_exit_code_tells(tmp_path, capsys):
    """In processes: an older tree that cannot be imported, beside a network that works."""
    package = tmp_path / 'old' / 'effvit_mm'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text('raise ArithmeticError("too old")\n')
    out = tmp_path / 'found.md'
    command = ['timm:test_vit', 'pslt_tiny@before', '--before', str(package.parent)]
    command += ['--baseline', 'timm:test_vit', '--sizes', '64', '--repeats', '3', '--threads', '1']
    assert benchmark.main([*command, '--out', str(out)]) == 1
    text = out.read_text()
    rows = [line for line in text.splitlines() if line.startswith('| `')]
    assert len(rows) == 1 and rows[0].endswith('| 1.000 | 1.000 | 1.000 |')
    assert '- pslt_tiny@before, 64 x 64, 1 image: ArithmeticError: too old\n' in text
    assert 'ArithmeticError: too old' in capsys.readouterr().err


# Waiting for data --------------------------------------------------------------------------------


def test_the_share_of_waiting_is_read_from_the_log(tmp_path, capsys):
    assert loader_wait.main([str(tmp_path)]) == 2
    assert 'no training has left its */vis_data/scalars.json' in capsys.readouterr().err
    for day, scale in ((1, 9), (2, 1)):
        log = tmp_path / f'2026110{day}_120000' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        entries = [
            {'loss': 1.0, 'data_time': 0.1 * scale, 'time': 1.0, 'epoch': 1},
            {'loss': 1.0, 'data_time': 0.2 * scale, 'time': 2.0, 'epoch': 1},
            {'accuracy/top1': 50.0, 'data_time': 5.0, 'time': 5.0, 'step': 1},
            {'loss': 1.0, 'data_time': 0.01 * scale, 'time': 0.5, 'epoch': 2},
        ]
        log.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))
    assert loader_wait.main([str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert '| 1 | 150.0 ms | 1500.0 ms | 10.0% |' in output
    assert '| 2 | 10.0 ms | 500.0 ms | 2.0% |' in output
