"""``--cfg-options``: values arrive as they were typed; names that were used up are followed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import DictAction

from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config.options import look_up, read_value, split_option

THINGS = ('data_root', 'a.dataset.data_root', 'load_from', 'x.data_prefix.img', 'x.ann_file',
          'train_annotations', 'default_hooks.checkpoint.filename_tmpl', 'experiment_name',
          'val_evaluator.outfile_prefix', 'model.init_cfg.checkpoint')  # fmt: skip
words = st.text(string.ascii_letters + '_-./ ', min_size=1).map(str.strip).filter(
    lambda word: word and word.lower() not in ('none', 'true', 'false', 'nan', 'inf', 'infinity')
)  # fmt: skip
scalars = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none()
    | words.filter(lambda word: word[:1] not in '-.' and not word.replace('_', '').isdigit())
)
lists = st.recursive(
    st.lists(scalars, max_size=4),
    lambda inner: st.lists(scalars | inner | inner.map(tuple), max_size=3),
    max_leaves=8,
)


def typed(value: object, space: str = '') -> str:
    """How a person types it."""
    if isinstance(value, list | tuple):
        left, right = '[]' if isinstance(value, list) else '()'
        return left + f',{space}'.join(typed(item, space) for item in value) + right
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(st.sampled_from(THINGS), st.text(), st.sampled_from((None, '', 'data/x')))
def test_files_folders_and_names_are_the_text_that_was_typed(key, text, current):
    if text.strip() == 'None' or (len(text) > 1 and text[0] == text[-1] and text[0] in '\'"'):
        return
    assert read_value(key, text, current) == text


@given(st.text(), st.sampled_from('\'"'), st.sampled_from((*THINGS, 'train_cfg.max_epochs')))
def test_what_is_in_quotes_is_a_text(text, quote, key):
    text = text.replace(quote, '')
    for current in (None, 'old', 3, [1]):
        assert read_value(key, f'{quote}{text}{quote}', current) == text


@given(scalars | lists | lists.map(tuple), st.sampled_from(('', ' ', '  ')))
def test_numbers_words_lists_and_tuples(value, space):
    read = read_value('some.key', typed(value, space))
    assert read == value
    assert repr(read) == repr(value)  # True is not 1, nor 1.0


@given(lists)
def test_without_spaces_and_quotes_as_in_mmengine(value):
    text = typed(value).replace(' ', '')
    assert repr(read_value('some.key', text)) == repr(DictAction._parse_iterable(text))


@given(
    st.text(max_size=20) | st.text('[](){},"\' a1', max_size=12), st.sampled_from((None, 'a', [1]))
)
def test_any_text_is_a_value_or_one_line(text, current):
    try:
        read_value('some.key', text, current)
    except ConfigError as error:
        assert str(error).startswith(f'--cfg-options some.key={text}: ')


@pytest.mark.parametrize(
    ('text', 'current', 'value'),
    [
        ('2024', 'a', '2024'),
        ('true', 'a', 'true'),
        ('1e5', 'a', '1e5'),
        ('my model', 'a', 'my model'),
        ("it's", 'a', "it's"),
        ('[bbox, segm]', 'bbox', ['bbox', 'segm']),
        ('None', 'a', None),
        ("'None'", 'a', 'None'),
        ('512.0', 'dynamic', 512.0),
        ('[1, 2]', ['a'], ['1', '2']),
        ("('traffic light', \"white\")", ('a', 'b'), ('traffic light', 'white')),
        ('(traffic light, white)', None, ('traffic light', 'white')),
        ("[it's, 'a,b']", None, ["it's", 'a,b']),
        ('(3,)', None, (3,)),
        ('(3)', None, (3,)),
        ('1,', None, [1]),
        ('1,2', 5, [1, 2]),
        ('96,96', (416, 416), (96, 96)),
        ('[96, 96]', (416, 416), (96, 96)),
        ('img_id,scale', ('img_id',), ('img_id', 'scale')),
        ('(96,96)', [416, 416], (96, 96)),
        ('[(96,96),(64,64)]', (416, 416), [(96, 96), (64, 64)]),
        ('[96,96]', ((416, 416),), [96, 96]),
        ('x=y', 1, 'x=y'),
        ('', None, ''),
    ],
)  # fmt: skip
def test_examples(text, current, value):
    assert repr(read_value('some.key', text, current)) == repr(value)


def test_class_names_are_texts():
    assert read_value('a.metainfo.classes', '(1, 2, true)') == ('1', '2', 'true')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[1,2', 'brackets do not match'),
        ('(1]', 'brackets do not match'),
        ('1,2)', 'brackets do not match'),
        ("['a,b]", 'quotes do not match'),
        ('[1,,2]', 'nothing stands between two commas'),
        ('{"a": 1}', 'a dict cannot be given; give its keys one by one: KEY.NAME=VALUE'),
    ],
)
def test_what_cannot_be_read_is_one_line(text, message):
    with pytest.raises(ConfigError) as error:
        read_value('a.b', text)
    assert str(error.value) == f'--cfg-options a.b={text}: {message}'


def test_key_and_text():
    assert split_option('a.b=c=d') == ('a.b', 'c=d')
    for item in ('a', '=3'):
        with pytest.raises(ConfigError, match='KEY=VALUE is needed'):
            split_option(item)
    assert look_up({'a': [{'b': 5}]}, 'a.0.b') == 5
    assert look_up({'a': [{'b': 5}]}, 'a.1.b') is None
