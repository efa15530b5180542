"""Large folders by the command lines: broken and odd images, and runs that were killed."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from forks import Fork
from inferencers import make_models, photographs
from programs import TOOLS as PROGRAMS
from programs import load_tool
from remedies import tries

import effvit_mm
from benchmarks import odd_folder
from benchmarks.measure import odd_images
from benchmarks.measure.odd_images import NAMED, ODD, count_lines, make_folder, run_tool

COUNT = 200
# What each kind of odd file becomes, by task: a result, or a line that says so.
LINES = {
    'cut short': 'truncated JPEG',
    'zero bytes': 'the file is empty',
    'text': 'not an image',
    'PNG cut short': 'truncated or damaged',
}
NARROW = {'detect': {'20000x3': 'of 20000x3 pixels would be scaled'}}
TOOLS = {'classify': 'classification', 'detect': 'detection', 'reid_search': 're-identification'}


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp('models'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """200 images, 20 of them odd; and of which kind each of these is."""
    place = tmp_path_factory.mktemp('images') / 'folder'
    return place, make_folder(place, COUNT)


def arguments_of(tool, models, folder, out):
    """Of a command: the arguments, its result, and the file that grows."""
    config, checkpoint = models[TOOLS[tool]]
    common = ['--batch-size', '4', '--device', 'cpu']
    if tool == 'reid_search':
        model = ['--config', config, '--checkpoint', checkpoint]
        command = ['index', str(folder), *model, '--out', str(out / 'g'), *common]
        return command, out / 'g', out / 'g.partial.jsonl'
    file = out / ('a.csv' if tool == 'classify' else 'a.jsonl')
    more = ['--score-thr', '0'] if tool == 'detect' else []
    return [config, checkpoint, str(folder), '--out', str(file), *common, *more], file, file


def results_in(path: Path) -> list[str]:
    """Names of the images that have a result."""
    if path.suffix == '.csv':
        with path.open(newline='') as table:
            names = [row['image'] for row in csv.DictReader(table)]
    elif path.suffix == '.jsonl':
        names = [json.loads(line)['image'] for line in path.read_text().splitlines()]
    else:
        names = effvit_mm.Gallery.load(path).paths
    return [Path(name).name for name in names]


def run_until_killed(process: Fork, grows: Path) -> tuple[int, list[str]]:
    """Its exit code and the files that it named, killed at a quarter of the images."""
    while count_lines(grows) < COUNT // 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.kill()
    return process.wait(), NAMED.findall(process.communicate()[1])


@pytest.mark.parametrize('tool', TOOLS)
def test_each_image_has_a_result_or_a_line_and_a_kill_changes_nothing(
    tool, models, folder, trainers, tmp_path, capfd
):
    place, odd = folder
    for name in ('whole', 'killed'):
        (tmp_path / name).mkdir()
    module = load_tool(tool)
    command, whole, _ = arguments_of(tool, models, place, tmp_path / 'whole')
    assert module.main(command) == 2
    *errors, end = capfd.readouterr().err.splitlines()
    lines = {**LINES, **NARROW.get(tool, {})}
    expected = {name: lines[kind] for name, kind in odd.items() if kind in lines}
    assert set(odd.values()) == set(ODD) and len(odd) == COUNT // 10
    assert len(errors) == len(expected)
    assert end.startswith(f'warning: {len(expected)} of {COUNT} left out, named above; ')
    for line, (name, words) in zip(errors, expected.items(), strict=True):
        assert line.startswith('warning: ') and name in line and words in line
    found = results_in(whole)
    assert found == sorted({path.name for path in place.iterdir()} - expected.keys())

    command, resumed, grows = arguments_of(tool, models, place, tmp_path / 'killed')
    if tool == 'classify':  # as the benchmark does it
        killed = run_tool(tool, command, killed_at=COUNT // 4, watched=str(grows))
        code, named = killed.code, killed.named
    else:
        code, named = run_until_killed(trainers.start(PROGRAMS / f'{tool}.py', *command), grows)
    assert code == -9 and COUNT // 4 <= count_lines(grows) < COUNT // 2
    assert module.main([*command, '--resume']) == 2
    err = capfd.readouterr().err
    assert resumed.read_bytes() == whole.read_bytes()
    assert {*named, *NAMED.findall(err)} == expected.keys()
    assert err.endswith(end.replace('whole', 'killed') + '\n')
    assert not (tmp_path / 'killed' / 'g.partial.jsonl').exists()


@pytest.mark.parametrize('suffix', ['.csv', '.jsonl'])
def test_a_file_cut_anywhere_becomes_the_same_again(suffix, models, folder, tmp_path):
    """In the middle of a line, of an image's rows, of the header; with nothing left to do."""
    small = tmp_path / 'small'
    make_folder(small, 24)
    detect, out = load_tool('detect'), tmp_path / f'a{suffix}'
    config, checkpoint = models['detection']
    command = [config, checkpoint, str(small), str(small / '000003.png'), '--out', str(out)]
    command += ['--score-thr', '0.05', '--batch-size', '5', '--device', 'cpu']
    assert detect.main(command) == 2
    whole = out.read_bytes()
    assert out.read_text().count('000003.png') >= 2  # it is given twice
    ends = [place for place, byte in enumerate(whole) if byte == ord('\n')]
    middle = ends[len(ends) // 2]
    for size in (0, 9, ends[0] + 1, middle - 5, middle, middle + 1, ends[-2] + 1, len(whole)):
        out.write_bytes(whole[:size])
        assert detect.main([*command, '--resume']) == 2
        assert out.read_bytes() == whole, size
    out.unlink()
    assert detect.main([*command, '--resume']) == 2
    assert out.read_bytes() == whole
    for path in small.iterdir():  # no result comes any more, and yet no half of a line stays
        path.write_bytes(b'')
    out.write_bytes(whole[: ends[0] + 20])
    assert detect.main([*command, '--resume']) == 2
    assert out.read_bytes() == whole[: ends[0] + 1]


def test_of_images_that_came_since_only_these_are_looked_at(models, tmp_path, capsys):
    place = tmp_path / 'folder'
    place.mkdir()
    for number, array in enumerate(photographs(4)):
        cv2.imwrite(str(place / f'{number}.png'), array)
    classify, out = load_tool('classify'), tmp_path / 'a.csv'
    command = [*models['classification'], str(place), '--out', str(out)]
    assert classify.main(command) == 0
    before = out.read_text()
    cv2.imwrite(str(place / '0a.png'), photographs(1)[0])
    capsys.readouterr()
    assert classify.main([*command, '--resume']) == 0
    assert capsys.readouterr().out == f'1 images or frames, 4 more were there; wrote {out}\n'
    after = out.read_text()
    assert after.startswith(before) and after.count('\n') == before.count('\n') + 1
    assert '0a.png' in after.splitlines()[-1]


@tries('; give another --out')
@pytest.mark.parametrize('ending', ['.csv', '.jsonl'])
def test_results_of_another_model_are_not_gone_on_with(models, folder, tmp_path, capsys, ending):
    classify, out = load_tool('classify'), tmp_path / f'a{ending}'
    config, checkpoint = models['classification']
    other = str(shutil.copy(checkpoint, tmp_path / 'other.pth'))
    picture = [str(folder[0] / '000003.png'), '--out', str(out)]
    assert classify.main([config, checkpoint, *picture]) == 0
    assert classify.main([config, checkpoint, *picture, '--resume']) == 0
    before = out.read_bytes()
    options = ['--cfg-options', 'model.head.topk=(1,)']
    for model, key in (([config, other], 'checkpoint'), ([config, checkpoint], 'cfg_options')):
        more = options if key == 'cfg_options' else []
        capsys.readouterr()
        assert classify.main([*model, *picture, '--resume', *more]) == 2
        error = capsys.readouterr().err
        assert f'--resume: {out} was made with {key}=' in error and '; give another --out' in error
        assert out.read_bytes() == before
    assert classify.main([config, other, *picture]) == 0  # begun anew
    assert classify.main([config, checkpoint, *picture, '--resume']) == 2
    assert classify.main([config, checkpoint, *picture[:2], str(tmp_path / f'b{ending}')]) == 0
    detect, found = [*models['detection'], *picture[:2]], str(tmp_path / f'c{ending}')
    tool = load_tool('detect').main
    assert tool([*detect, found, '--score-thr', '0.05']) == 0
    assert tool([*detect, found, '--score-thr', '0.1', '--resume']) == 2
    assert 'was made with score_thr=0.05, not 0.1; give another' in capsys.readouterr().err


def test_names_with_line_ends_and_of_no_encoding(models, tmp_path):
    place = tmp_path / 'folder'
    place.mkdir()
    for name, array in zip(
        (b'a\nb.png', b'c,"d.png', b'\xff\xfe.png'), photographs(3), strict=True
    ):
        (place / name.decode('utf-8', 'surrogateescape')).write_bytes(
            cv2.imencode('.png', array)[1].tobytes()
        )
    for suffix in ('.csv', '.jsonl'):
        classify, out = load_tool('classify'), tmp_path / f'a{suffix}'
        command = [*models['classification'], str(place), '--out', str(out), '--batch-size', '2']
        assert classify.main(command) == 0
        whole = out.read_bytes()
        for size in range(0, len(whole), 61):
            out.write_bytes(whole[:size])
            assert classify.main([*command, '--resume']) == 0
            assert out.read_bytes() == whole, size


def test_pictures_and_videos_are_gone_on_with(models, tmp_path, capsys):
    """A video that is not there whole is drawn anew; what was drawn is left alone."""
    place = tmp_path / 'folder'
    place.mkdir()
    for number, array in enumerate(photographs(3)):
        cv2.imwrite(str(place / f'{number}.png'), array)
    for name in 'ab':
        writer = cv2.VideoWriter(
            str(tmp_path / f'{name}.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (48, 36)
        )
        for array in photographs(4, seed=ord(name)):
            writer.write(array)
        writer.release()
    detect, out = load_tool('detect'), tmp_path / 'out'
    videos = [str(tmp_path / 'a.avi'), str(tmp_path / 'b.avi')]
    command = [*models['detection'], str(place), *videos, '--out', str(out), '--score-thr', '0']
    assert detect.main(command) == 0
    lines, whole = out / 'detections.jsonl', (out / 'detections.jsonl').read_bytes()
    drawn = {path: path.read_bytes() for path in out.glob('*/*')}
    assert len(drawn) == 5
    rows = whole.splitlines(keepends=True)
    for count in (1, 3, 5, 7, 9):  # of 3 images, 4 frames and 4 frames
        lines.write_bytes(b''.join(rows[:count]))
        names = [*(out / 'pictures').iterdir()]
        for path in [*sorted(names)[count:], *(out / 'videos').glob('[ab]*')]:
            if path.suffix == '.png' or (path.stem == 'a') == (count < 7):
                path.unlink()
        assert detect.main([*command, '--resume']) == 0
        assert lines.read_bytes() == whole
        assert {path: path.read_bytes() for path in out.glob('*/*')} == drawn


def test_a_ranking_is_gone_on_with(models, tmp_path, capsys):
    place = tmp_path / 'people'
    place.mkdir()
    for number, array in enumerate(photographs(6)):
        cv2.imwrite(str(place / f'{number}.png'), array)
    search, gallery, out = load_tool('reid_search'), tmp_path / 'g', tmp_path / 'found.csv'
    config, checkpoint = models['re-identification']
    model = ['--config', config, '--checkpoint', checkpoint]
    assert search.main(['index', str(place), *model, '--out', str(gallery)]) == 0
    command = ['search', str(gallery), f'{place}/*.png', '--top', '3', '--out', str(out)]
    assert search.main(command) == 0
    whole = out.read_bytes()
    with out.open(newline='') as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 18 and [row['rank'] for row in rows[:4]] == ['1', '2', '3', '1']
    assert [row['found'] for row in rows[::3]] == [row['image'] for row in rows[::3]]
    out.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert search.main([*command, '--resume']) == 0
    assert out.read_bytes() == whole and '0.png' not in capsys.readouterr().out.splitlines()[0]


def test_a_gallery_in_a_file_is_added_to_or_begun_anew(models, tmp_path, capsys):
    config, checkpoint = models['re-identification']
    for name, count in (('a', 5), ('b', 3)):
        (tmp_path / name).mkdir()
        for number, array in enumerate(photographs(count, seed=count)):
            cv2.imwrite(str(tmp_path / name / f'{number}.png'), array)
    tool, out = load_tool('reid_search'), tmp_path / 'g'
    model = ['--config', config, '--checkpoint', checkpoint, '--out', str(out), '--device', 'cpu']

    def index(folder, *flags):
        code = tool.main(['index', str(tmp_path / folder), *model, *flags])
        return code, ''.join(capsys.readouterr())

    assert index('a')[0] == 0
    before = out.read_bytes()
    code, error = index('b')
    assert code == 2 and f'--out {out}: there are results of an earlier run: --res' in error
    for flags, words in (
        (['--resume', '--flip'], 'prepared by'),
        (['--resume', '--distance', 'euclidean'], f'euclidean: gallery {out} has cosine'),
        (['--resume', '--overwrite'], '--resume, --overwrite: only one'),
    ):
        code, error = index('b', *flags)
        assert code == 2 and words in error
    assert out.read_bytes() == before
    for _ in range(2):
        assert index('b', '--resume') == (0, f'3 of 3 images in {out}, beside 5 others\n')
    names = [path.parent.name for path in map(Path, effvit_mm.Gallery.load(out).paths)]
    assert names == ['a'] * 5 + ['b'] * 3
    assert index('b', '--overwrite') == (0, f'3 of 3 images in {out}\n')
    assert index('a', '--overwrite')[0] == 0 and out.read_bytes() == before


@tries('take the same model and options, or begin anew with --overwrite')
def test_what_cannot_be_gone_on_with_is_named(models, folder, tmp_path, capsys, monkeypatch):
    place, _ = folder
    table, lines = tmp_path / 'a.csv', tmp_path / 'a.jsonl'
    table.write_text('image,frame,class\n')
    lines.write_text('{"image": "a.jpg"}\n')
    index = ['index', str(place), '--config', models['re-identification'][0], '--checkpoint']
    row = {'image': 'a', 'frame': None, 'feature': '', 'model': 'other', 'preparation': 'b'}
    (tmp_path / 'g.partial.jsonl').write_text(json.dumps(row) + '\n')
    classify, reid = load_tool('classify'), load_tool('reid_search')
    model = models['classification']
    capture = cv2.VideoCapture
    writer = cv2.VideoWriter(str(tmp_path / 'c.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (48, 36))
    writer.write(np.zeros((36, 48, 3), np.uint8))
    writer.release()
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: capture(str(tmp_path / 'c.avi')))
    for tool, arguments, message in (
        (classify, [*model, place], '--resume goes with --out'),
        (
            classify,
            [*model, place, '--out', table],
            'a.csv has the columns image, frame, class',
        ),
        (classify, [*model, place, '--out', lines], 'a.jsonl, line 1 is no result of ours'),
        (
            classify,
            [*model, 0, '--out', lines],
            'what camera 0 showed does not come again',
        ),
        (
            reid,
            [*index, models['re-identification'][1], '--out', tmp_path / 'g'],
            'has features of other, of images prepared by b: take the same model',
        ),
    ):
        assert tool.main([*map(str, arguments), '--resume']) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith('error: ') and message in error, error
    assert reid.main([*map(str, arguments)]) == 2
    assert 'g: there are results of an earlier run: --resume' in capsys.readouterr().err
    assert reid.main([*map(str, arguments), '--overwrite']) == 2
    again = tmp_path / 'again.partial.jsonl'
    again.write_text('')  # of the same model
    assert reid.main([*map(str, arguments[:-1]), str(tmp_path / 'again'), '--resume']) == 2
    galleries = [effvit_mm.Gallery.load(tmp_path / name).paths for name in ('g', 'again')]
    assert len(galleries[0]) > 150 and galleries[0] == galleries[1]


@tries('are not written: add --no-pictures, or give a name ending in {}')
def test_what_a_camera_shows_is_written_without_pictures(models, tmp_path, capsys, monkeypatch):
    """A file stands in for the camera, behind ``cv2.VideoCapture``."""
    file, capture = tmp_path / 'c.avi', cv2.VideoCapture
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*'MJPG'), 5, (48, 36))
    for array in photographs(3):
        writer.write(array)
    writer.release()
    monkeypatch.setattr(cv2, 'VideoCapture', lambda source: capture(str(file)))
    detect, out = load_tool('detect'), tmp_path / 'out'
    command = [*models['detection'], '0', '--score-thr', '0', '--out']
    assert detect.main([*command, str(out)]) == 2
    assert 'pictures of camera 0 are not written: add --no-pictures' in capsys.readouterr().err
    assert detect.main([*command, str(out), '--no-pictures']) == 0
    assert detect.main([*command, f'{out}.jsonl']) == 0
    assert Path(f'{out}.jsonl').read_bytes() == (out / 'detections.jsonl').read_bytes()
    lines = [json.loads(line) for line in Path(f'{out}.jsonl').read_text().splitlines()]
    assert [(one['image'], one['frame']) for one in lines] == [('camera 0', n) for n in range(3)]


def test_the_first_error_ends_all_where_that_is_asked_for(models, folder, tmp_path, capsys):
    place, odd = folder
    out = tmp_path / 'a.csv'
    command = [*models['classification'], str(place), '--out', str(out), '--batch-size', '1']
    assert load_tool('classify').main([*command, '--on-error', 'stop']) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert next(iter(odd)) in error and len(results_in(out)) == 5  # those before it


def test_the_program_that_does_it_with_any_number(models, monkeypatch, capsys):
    """``python -m benchmarks.odd_folder --images 2000``: its table, here without processes."""

    def run(tool, arguments, killed_at=0, watched=''):
        code, path = load_tool(tool).main(list(map(str, arguments))), Path(watched)
        errors = capsys.readouterr().err
        if killed_at:
            code, data = -9, path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
        return odd_images.Outcome(code, NAMED.findall(errors), 1.0, errors)

    monkeypatch.setattr(odd_images, 'run_tool', run)
    rows, compare = [], odd_folder.compare
    monkeypatch.setattr(
        odd_folder, 'compare', lambda *given: (rows.append(row) or row for row in compare(*given))
    )
    arguments = ['--images', '60', '--batch-size', '2']
    chosen = ['--classifier', *models['classification'], '--detector', *models['detection']]
    assert odd_folder.main([*arguments, *chosen]) == 0
    assert [row[:5] for row in rows] == [
        ['classify', '60', '6', '57', '3'],
        ['detect', '60', '6', '57', '3'],
    ]
    assert [row[-1] for row in rows] == ['yes', 'yes']
    assert odd_folder.main(arguments) == 2
    assert '--classifier, --detector or --reid is needed' in capsys.readouterr().err
