"""The web page: what it answers to images, and that it does so in a real browser, offline."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import torch
from browser import NO_PROXY, browser, missing, wait
from films import make_films
from inferencers import make_models, photographs
from people import make_people, write_people_config
from programs import load_tool

import effvit_mm
from effvit_mm.inference import web_page
from effvit_mm.inference.passages import as_shown
from effvit_mm.inference.person_search import PersonSearch, clock
from effvit_mm.inference.track_files import SETTINGS
from effvit_mm.inference.tracking import VideoTracker
from effvit_mm.inference.web_page import answer, classify, detect, find_examples, search, tracks_of
from effvit_mm.tracking.mot import read_boxes
from effvit_mm.visualization.rank_lists import Shown, draw_rank_list

NAMES = ('WS-01', 'WS-02')
ENVIRONMENT = ('GRADIO_TEMP_DIR', 'GRADIO_ANALYTICS_ENABLED', 'NO_PROXY', 'no_proxy')
UNTESTED = 'the web page was not tested'


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    made = make_models(tmp_path_factory.mktemp('models'))
    _, weights = made['classification']
    checkpoint = torch.load(weights)
    for name, value in checkpoint['state_dict'].items():
        if name.startswith('head.'):
            value *= 50  # so that no two images have about the same scores
    torch.save(checkpoint, weights)
    return made


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Images of all that a page is given: a photograph, 16 bits, none."""
    folder = tmp_path_factory.mktemp('files')
    photograph = photographs(1)[0]
    cv2.imwrite(str(folder / 'photo.png'), photograph)
    deep = photograph[..., 0].astype(np.uint16) * 256
    cv2.imwrite(str(folder / 'deep.png'), deep)
    (folder / 'notes.jpg').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def found(models, tmp_path_factory):
    """A folder of tracks, as the tool's index leaves it."""
    root = tmp_path_factory.mktemp('search')
    films, folder = make_films(root / 'walker_scenes'), root / 'found'
    reid = models['re-identification']
    extractor = effvit_mm.ReIDExtractor(*reid)
    boxes = [read_boxes(films / name / 'gt' / 'gt.txt') for name in NAMES]
    videos = [films / name for name in NAMES]
    people = PersonSearch(folder, extractor)
    people.index(videos, VideoTracker(None, extractor, pictures=True), boxes=boxes)
    (folder / SETTINGS).write_text(json.dumps({'reid': reid}))
    return people


@pytest.fixture(scope='module')
def somebody(found):
    return sorted((found.folder / 'work' / NAMES[0] / 'pictures').iterdir())[1]


# Answers -----------------------------------------------------------------------------------------


def test_the_best_classes_of_an_image(models, files):
    classifier = effvit_mm.Classifier(*models['classification'])
    [result] = classifier(str(files / 'photo.png'))
    shown = classify(classifier, files / 'photo.png')
    assert list(shown.scores.items()) == result.top() and not shown.failed
    assert shown.line.startswith(f'{result.name} ({100 * result.score:.1f} %), ')
    assert shown.line.endswith(' ms')


def test_objects_are_drawn_as_the_tool_draws_them(models, files, tmp_path):
    detector = effvit_mm.Detector(*models['detection'])
    photo = files / 'photo.png'
    shown = detect(detector, photo, 0.0)
    command = [*models['detection'], str(photo), '--out', str(tmp_path), '--score-thr', '0']
    assert load_tool('detect').main(command) == 0
    drawn = cv2.imread(str(tmp_path / 'pictures' / 'photo.png'))
    np.testing.assert_array_equal(shown.picture[..., ::-1], drawn)
    [result] = detector(str(photo), score_thr=0.0)
    assert [row[0] for row in shown.rows] == result.names and len(result) > 1
    rounded = np.array([row[1:] for row in shown.rows])
    np.testing.assert_allclose(rounded[:, 0], result.scores, atol=0.0006)
    np.testing.assert_allclose(rounded[:, 1:], result.boxes, atol=0.06)
    assert shown.line.startswith(f'{len(result)} objects, ')
    assert detect(detector, photo, 1.0).line.startswith('0 objects, ')


def test_people_are_found_as_the_tool_finds_them(found, somebody):
    shown = search(found, somebody, 3)
    [tracks] = found.search(str(somebody), 3)
    rows = [(t.rank, t.camera, clock(t.begin), clock(t.end), t.track) for t in tracks]
    assert [(r[0], *r[2:5], r[6]) for r in shown.rows] == rows
    expected = draw_rank_list(
        Shown(somebody, [somebody.name[:12]]), [as_shown(track) for track in tracks]
    )
    np.testing.assert_array_equal(shown.picture, expected)
    assert shown.line.startswith(f'nearest 3 tracks of {len(found.gallery)}, ')
    assert {row[2] for row in search(found, somebody, 20, [2]).rows} == {2}
    late = max(found.gallery.columns['end']) - 0.5
    rows = search(found, somebody, 20, (), clock(late), ' ').rows
    assert 0 < len(rows) < len(found.gallery)


def test_who_is_in_a_video(found, monkeypatch):
    columns = found.gallery.columns
    tracks, count = tracks_of(found, NAMES[1])
    assert len(tracks) == count == columns['name'].count(NAMES[1])
    assert all(Path(track.picture).is_file() for track in tracks)
    assert [track.caption for track in tracks] == sorted(track.caption for track in tracks)
    monkeypatch.setattr(web_page, 'MOST_TRACKS', 2)
    longest, again = tracks_of(found, NAMES[1])
    assert again == count and len(longest) == 2
    lengths = {
        path: last - first
        for path, first, last in zip(
            found.gallery.paths, columns['first'], columns['last'], strict=True
        )
    }
    chosen = [lengths[str(Path(t.picture).relative_to(found.folder))] for t in longest]
    others = [lengths[str(Path(t.picture).relative_to(found.folder))] for t in tracks]
    assert sorted(chosen) == sorted(others)[-2:]


def test_what_cannot_be_used_is_one_line_of_the_files_own_name(models, files, found, somebody):
    classifier = effvit_mm.Classifier(*models['classification'])
    detector = effvit_mm.Detector(*models['detection'])
    video = files / 'a.avi'
    video.write_bytes(Path(found.gallery.columns['video'][0]).read_bytes())
    text = str(files / 'notes.jpg')
    for work, arguments, words in (
        (lambda *a: classify(classifier, *a), (text,), 'notes.jpg: not an image'),
        (lambda *a: detect(detector, *a), (text, 0.3), 'notes.jpg: not an image'),
        (lambda *a: search(found, *a), (text, 3), 'notes.jpg: not an image'),
        (lambda *a: classify(classifier, *a), (str(video),), 'a.avi: an image is needed'),
        (lambda *a: detect(detector, *a), (str(files / 'photo.png'), 2), 'score_thr=2: a number'),
        (lambda *a: search(found, *a), (str(somebody), 3, (), 'noon'), "'noon' is no time"),
        (lambda *a: search(found, *a), (str(somebody), 3, [7]), 'there are cameras 1, 2'),
    ):
        shown = answer(work, *arguments)
        assert shown.failed and words in shown.line and len(shown.line.splitlines()) == 1
        assert str(files) not in shown.line
        assert (shown.scores, shown.picture, shown.rows) == ({}, None, [])
    assert answer(lambda *a: classify(classifier, *a), None).line == ''
    with pytest.raises(ZeroDivisionError):
        answer(lambda file: 1 / 0, text)


def test_examples_are_of_the_test_set_where_it_is_there(models, tmp_path):
    assert find_examples(models['detection'][0]) == [] and find_examples('a.onnx') == []
    config = write_people_config(tmp_path / 'config.py', make_people(tmp_path / 'people'))
    examples = find_examples(str(config), 2)
    assert len(set(examples)) == 2 and all(Path(file).is_file() for file in examples)


# The program -------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def app(tmp_path_factory):
    """The tool, its files in a folder of the test."""
    pytest.importorskip('gradio', reason=f"{UNTESTED}: gradio is not installed (extra 'app')")
    tool = load_tool('app')
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT:
            patch.setenv(name, '')
        # Of the system's own gradio shows all, which would hide what a user's folders need.
        patch.setattr(tempfile, 'tempdir', str(tmp_path_factory.mktemp('system')))
        tool.keep_to_itself(str(tmp_path_factory.mktemp('uploads')))
        yield tool


def arguments(models, found):
    pictures = found.folder / 'work' / NAMES[0] / 'pictures'
    return [
        '--classifier', *models['classification'], '--detector', *models['detection'],
        '--search', str(found.folder), '--people', str(pictures),
    ]  # fmt: skip


@pytest.fixture(scope='module')
def page(app, models, found):
    """Where the page is."""
    made = app.make_page(app.open_models(app.make_parser().parse_args(arguments(models, found))))
    yield app.start(made, None, [str(found.folder / 'work')])
    made.close(verbose=False)


@pytest.fixture(scope='module')
def window(page):
    if absent := missing():
        pytest.skip(f'{UNTESTED} in a browser: {absent}')
    with browser() as opened:
        opened.open(page)
        yield opened


def line_of(window) -> str:
    """The line of the tab that is seen."""
    shown = (
        'const lines = [...document.querySelectorAll(".line")].filter(e => e.checkVisibility());'
        'return lines.length && lines[0].textContent'
    )
    return window.run(shown) or ''


def answered(window, words: str) -> str:
    """The line of the tab that is seen, once it begins so."""
    return wait(lambda: (line := line_of(window)).startswith(words) and line, words)


def shown_tracks(window, expected: list[int]) -> bool:
    """Whether they come to stand in the last column of the table."""
    cells = (
        'return [...document.querySelectorAll(".rows td:last-child")]'
        '.filter(e => e.checkVisibility()).map(e => e.textContent)'
    )
    wanted = [str(track) for track in expected]
    return wait(lambda: window.run(cells) == wanted, f'a table of {wanted}')


def test_the_page_reads_files_as_the_inferencers_do(window, models, files):
    classifier = effvit_mm.Classifier(*models['classification'])
    window.click('button[role=tab]', 'Classify')
    white = np.full((36, 48), 255, np.uint8)  # what gradio would make of 16 bits
    lines = {}
    for image in (files / 'photo.png', files / 'deep.png', white):
        [result] = classifier(image if image is white else str(image))
        lines[str(image)] = f'{result.name} ({100 * result.score:.1f} %), '
    assert len(set(lines.values())) == 3
    for file in (files / 'photo.png', files / 'deep.png'):
        window.upload(file)
        line = answered(window, lines[str(file)])
        assert line.endswith(' ms')
        name, score = line.split(' (')[0], line.partition('(')[2].partition(')')[0]
        first = window.text('.scores tr')
        assert first.startswith(name) and first.endswith(score)
    window.upload(files / 'notes.jpg')
    line = answered(window, 'error: ')
    assert line == 'error: corrupt image notes.jpg: not an image, or of an unknown format'
    assert not window.run('return document.querySelector(".scores")')


def test_objects_are_shown_and_the_threshold_asks_anew(window, models, files):
    detector = effvit_mm.Detector(*models['detection'])
    count = len(detector(str(files / 'photo.png'), score_thr=0.3)[0])
    assert count > 1
    window.click('button[role=tab]', 'Detect')
    window.upload(files / 'notes.jpg')
    assert 'notes.jpg' in answered(window, 'error: ')
    window.upload(files / 'photo.png')
    answered(window, f'{count} objects, ')
    picture = (
        'const found = [...document.querySelectorAll(".drawn img")].find(e => e.checkVisibility());'
        'return found && found.naturalWidth && [found.naturalWidth, found.naturalHeight]'
    )
    assert wait(lambda: window.run(picture), 'the picture') == [48, 36]

    def asked_again() -> str:
        """Of numbers that are typed while an answer is under way the page may take the first."""
        window.type('input[aria-label^="number input"]', '1')  # nothing is so certain
        time.sleep(1)
        return line if (line := line_of(window)).startswith('0 objects, ') else ''

    assert wait(asked_again, 'no object').endswith(' ms')


def test_a_person_is_found_by_an_upload_and_by_a_choice(window, found, somebody, files):
    def tracks(picture):
        return [track.track for track in found.search(str(picture), 8)[0]]

    window.click('button[role=tab]', 'Person search')
    window.upload(somebody)
    assert shown_tracks(window, tracks(somebody))
    answered(window, f'nearest 8 tracks of {len(found.gallery)}, ')
    window.click('[role=combobox]')
    window.click('[role=option]', NAMES[1])
    chosen = tracks_of(found, NAMES[1])[0][2].picture
    assert tracks(chosen) != tracks(somebody)
    window.click('.thumbnail-lg[aria-label^="Thumbnail 3 "]')
    assert shown_tracks(window, tracks(chosen))
    window.upload(files / 'notes.jpg')
    assert 'notes.jpg' in answered(window, 'error: ')


def test_nothing_is_asked_of_others_and_an_example_is_answered(window, page):
    window.open(page)
    window.click('button[role=tab]', 'Person search')
    window.click('.examples .gallery-item')
    answered(window, 'nearest 8 tracks of ')
    assert {urlsplit(address).netloc for address in window.requested()} == {urlsplit(page).netloc}
    assert window.errors() == []


def test_a_command_opens_it_and_ctrl_c_closes_it(app, models, monkeypatch, capsys):
    at = []

    def look(address):
        at.append(address)
        with NO_PROXY.open(address) as reply:
            assert b'effvit_mm' in reply.read()
        taken = [*command, '--port', address.strip('/').rpartition(':')[2]]
        assert app.main(taken) == 2
        assert 'the page cannot be shown there' in capsys.readouterr().err
        raise KeyboardInterrupt

    monkeypatch.setattr(app, 'stay', look)
    command = ['--classifier', *models['classification']]
    assert app.main(command) == 0
    assert capsys.readouterr().out.endswith('the page is closed\n')
    assert urlsplit(at[0]).hostname == '127.0.0.1'
    with pytest.raises(URLError):
        NO_PROXY.open(at[0])
    for wrong, message in (
        ([], '--classifier, --detector, --search: one of them is needed'),
        ([*command, '--people', 'a'], '--people: it goes with --search'),
        (['--detector', 'a', 'b', 'c'], '--detector: 3 files'),
        (['--search', 'nowhere'], 'nowhere was not made by index'),
    ):
        assert app.main(wrong) == 2
        assert message in capsys.readouterr().err
