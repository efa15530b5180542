"""Whatever a message advises was tried: a test provokes it, does that, and sees that it helps.

``helpers/remedies.py`` says what an advice is. A message that is new fails here until a test
carries its words: ``@tries('set {} to {} or less')``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from remedies import Message, advising, said, tried_words, tries, uncovered

ROOT = Path(__file__).parents[1]
# Advice that no test here can follow, and why. To grow shorter, never longer.
UNTRIED = {
    "First\n    pip uninstall -y onedl-mmcv\nthen either take OneDL's wheel": (
        'wheels are downloaded, and not made for each torch'
    ),
    'pip install -U onedl-mim && mim install onedl-mmcv': 'the same',
    'pip install --no-build-isolation --no-binary onedl-mmcv onedl-mmcv': 'compiles for 25 minutes',
}
MOST_UNTRIED = 3


@pytest.fixture(scope='module')
def messages() -> list[Message]:
    return [
        message
        for folder in ('effvit_mm', 'tools')
        for path in sorted((ROOT / folder).rglob('*.py'))
        if '.mim' not in path.parts
        for message in advising(path.read_text(), str(path.relative_to(ROOT)))
    ]


@pytest.fixture(scope='module')
def words() -> dict[str, str]:
    """The words that tests carry, and the file of each."""
    return {
        each: path.name
        for path in sorted((ROOT / 'tests').glob('test_*.py'))
        for each in tried_words(path.read_text())
    }


def test_what_messages_advise_is_tried(messages, words):
    missing = [
        f'{message.place}: no @tries for "{text}"'
        for message in messages
        for text in uncovered(message, [*words, *UNTRIED])
    ]
    assert not missing, '\n'.join(missing)


def test_tests_try_what_messages_say_now_each_of_its_own(messages, words):
    texts = {message.text for message in messages}
    wrong = [
        f'{file}: {number} messages say "{each}", one is to be meant'
        for each, file in (words | dict.fromkeys(UNTRIED, 'UNTRIED')).items()
        if (number := sum(each in text for text in texts)) != 1
    ]
    assert not wrong, '\n'.join(wrong)


def test_what_is_untried_grows_no_longer(words):
    assert len(UNTRIED) <= MOST_UNTRIED
    assert not UNTRIED.keys() & words.keys()
    assert all(UNTRIED.values())


ADVISING = (
    "'data_root is empty; give a folder'",
    "f'{x}: set {key} to {y} or less'",
    "'this network cannot be trained. Build it anew'",
    "'no such key; did you mean lr?'",
    "'it is old: to go on, add --force'",
    "'timm is missing: pip install timm'",
    "'--shape H W is needed'",
    "'no sampler: dict(type=...) is needed'",
    "('too large' ', or leave it out')",
)
SILENT = (
    "'a number above 0 is needed'",
    "'the names given are those of the training set'",
    "'run lengths of 3 pixels'",
    "'is it cut short?'",
    "'set'",
)


@pytest.mark.parametrize('text', ADVISING)
def test_an_advice_is_seen_and_its_absence_from_the_tests(text):
    (message,) = advising(f'def check(x):\n    """Use it."""\n    raise UserError({text})')
    assert message.place == ':3'
    assert uncovered(message, []) and not uncovered(message, [message.text])


@pytest.mark.parametrize('text', SILENT)
def test_what_advises_nothing_is_passed(text):
    assert advising(f'raise UserError({text})') == []


def test_docstrings_and_help_are_no_messages():
    source = '"""Files; use them."""\nparser.add_argument("--a", help="files; use them")'
    assert advising(source) == []


def test_two_remedies_of_a_message_are_two():
    (message,) = advising("text = f'{x} is odd; remove it, or set {key}=True'")
    assert uncovered(message, ['; remove it']) == ['set {}=True']
    assert uncovered(message, ['; remove it', 'or set {}=True']) == []


def test_words_come_from_tests_alone():
    source = (
        "TABLE: dict = {'give b': 1, 'give c': 2}\n"
        "@tries('give a')\n@tries(*TABLE)\ndef test_one(): ...\n"
        "@tries('give d')\ndef helper(): ...\n"
    )
    assert sorted(tried_words(source)) == ['give a', 'give b', 'give c']


def test_words_are_needed_and_found_again():
    with pytest.raises(ValueError, match='words of messages'):
        tries()
    assert said('set {} to {} or less', 'x=3: set y to\n 4 or  less.')
    assert not said('set {} to {} or less', 'set y to 4 or more')
