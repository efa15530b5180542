"""``python -m benchmarks.gpu``, on the CPU and on a GPU."""

import json

import pytest
import torch
from devices import every_device

from benchmarks import gpu


def run(tmp_path, device, *arguments):
    out = tmp_path / 'gpu.json'
    code = gpu.main(
        ['--device', device, '--small', '--repeats', '3', '--out', str(out), *arguments]
    )
    return code, json.loads(out.read_text()) if out.is_file() else None


@every_device
def test_rows_are_measured_once_and_kept(device, tmp_path, capsys):
    code, first = run(tmp_path, device, '--only', 'pslt_tiny', '--budget-seconds', '0.001')
    assert code == 0 and first is None
    assert 'rows left: the budget is spent' in capsys.readouterr().err
    code, kept = run(tmp_path, device, '--only', 'pslt_tiny')
    table = capsys.readouterr().out
    assert code == 0 and len(kept['rows']) == 3 == table.count('| pslt_tiny |')
    for key, row in kept['rows'].items():
        assert row['milliseconds'] > 0 and row['share_of_peak'] > 0
        # A processor without bfloat16's instructions multiplies matrices at a rate that is no peak.
        assert row['share_of_peak'] < 1 or (device == 'cpu' and 'bf16' in key)
        assert row['images_per_second'] == pytest.approx(2000 / row['milliseconds'])
        assert (row['peak_bytes'] is not None) == (device == 'cuda')
    assert kept['about']['torch'] == torch.__version__ and kept['about']['seed'] == 0
    assert kept['peaks'].keys() == {'fp32', 'bf16', 'copy'}

    code, both = run(tmp_path, device)  # goes on with the other network
    assert code == 0 and len(both['rows']) == 6
    assert kept['rows'].items() <= both['rows'].items()


def test_a_row_that_fails_ends_neither_the_others_nor_unnoticed(tmp_path, monkeypatch, capsys):
    measured = gpu.measure

    def fails(job, *arguments):
        if job.precision == 'fp32':
            raise RuntimeError('out of memory\nand more')
        return measured(job, *arguments)

    monkeypatch.setattr(gpu, 'measure', fails)
    code, kept = run(tmp_path, 'cpu', '--only', 'timm:test_vit')
    assert code == 1 and len(kept['rows']) == 3
    assert kept['rows']['timm:test_vit fp32 eager 64x64 2'] == {
        'error': 'RuntimeError: out of memory'
    }
    assert 'RuntimeError: out of memory' in capsys.readouterr().out
    monkeypatch.setattr(gpu, 'measure', measured)
    code, kept = run(tmp_path, 'cpu', '--only', 'timm:test_vit')  # is tried again
    assert code == 0 and all('milliseconds' in row for row in kept['rows'].values())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--only', 'pslt_tinny'], "there is no network 'pslt_tinny'"),
        (['--repeats', '0'], '--repeats 0: more than 0 is needed'),
        (['--budget-seconds', '-1'], '--budget-seconds -1.0: more than 0 is needed'),
    ],
)
def test_bad_arguments_end_in_one_line(arguments, message, tmp_path, capsys):
    assert run(tmp_path, 'cpu', *arguments) == (2, None)
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
