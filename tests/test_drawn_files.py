"""What an earlier test has drawn into a folder goes when the next one draws; the rest stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trainer import forget_runs, make_folder, write_config

from effvit_mm.errors import UserError
from effvit_mm.openmm import cli
from effvit_mm.utils.drawn_files import LIST, note_drawn, remove_drawn


def names(folder: Path) -> set[str]:
    return {os.fsencode(path.name) for path in folder.iterdir()}


def test_only_what_was_noted_goes(tmp_path):
    own = ('a.png', 'b b.png', 'ü\n.png', os.fsdecode(b'\xff.png'))
    for name in own:
        note_drawn(tmp_path / name).write_bytes(b'')
    note_drawn(tmp_path / 'never drawn.png')
    (tmp_path / 'mine.png').write_bytes(b'')
    remove_drawn(tmp_path)
    assert names(tmp_path) == {b'mine.png'}
    remove_drawn(tmp_path)
    remove_drawn(tmp_path / 'not there')


def test_a_list_does_not_reach_out_of_its_folder_and_may_be_cut_short(tmp_path):
    folder = tmp_path / 'shown'
    (folder / 'inner').mkdir(parents=True)
    for path in (tmp_path / 'other.png', folder / 'inner' / 'a.png', folder / 'a.png'):
        path.write_bytes(b'')
    text = f'"../other.png"\n"{tmp_path}/other.png"\n"inner/a.png"\n"inner"\n".."\n""\n3\n"a.png"\n'
    (folder / LIST).write_text(text + '"in')
    remove_drawn(folder)
    assert names(folder) == {b'inner'} and names(folder / 'inner') == {b'a.png'}
    assert (tmp_path / 'other.png').exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r'none/a\.png cannot be written'):
        note_drawn(tmp_path / 'none' / 'a.png')


def test_a_classifiers_pictures_are_those_of_the_last_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / 'c.py', make_folder(tmp_path / 'data'))
    forget_runs()
    one = ['--cfg-options', 'train_cfg.max_epochs=1']
    assert cli.train([str(config), '--work-dir', 'w', *one]) == 0
    test = [str(config), 'w/epoch_1.pth', '--work-dir', 't', '--show-dir', 'shown']
    shown = Path('shown')
    for flags in ([], ['--show-number', '2']):
        forget_runs()
        assert cli.test([*test, *flags]) == 0
        (shown / 'mine.png').touch()
        drawn = [path.name for path in shown.glob('*_0*.png')]
        assert len(drawn) == (2 if flags else 12)
    rest = names(shown) - {name.encode() for name in drawn}
    mistakes = {b'worst_mistakes.png'} if any(name.startswith('wrong') for name in drawn) else set()
    assert rest - {b'worst_mistakes.png'} == {
        b'confusion_matrix.png', b'sheet.png', b'mine.png', LIST.encode()
    }  # fmt: skip
    assert mistakes <= rest
    # A test that does not get as far as to draw leaves them.
    forget_runs()
    assert cli.test([*test, '--cfg-options', 'test_dataloader.dataset.data_prefix=none']) == 2
    assert drawn[0] in {path.name for path in shown.iterdir()}
