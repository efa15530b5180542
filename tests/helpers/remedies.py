"""What messages advise, and which tests try it.

A test that provokes a message and then does what it advises carries ``@tries`` with the words of
the advice as they stand in the source, ``{}`` for what a f-string puts in::

    @tries('set {} to {} or less, or use --no-validate')
    def test_...

Many alike are a table of the module whose keys are the words: ``@tries(*TABLE)``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

Test = TypeVar('Test', bound=Callable)

# An order begins a clause ("...; set X") or an alternative ("or use X"), or follows its condition
# ("to change it give X", "if it is text, save it").
_VERBS = (
    'add allow annotate ask assign bring build change check choose compile convert copy correct '
    'cut delete describe download drop enlarge export find fix give go install keep leave let list '
    'load look lower make mend move name pass pick predict put raise read reduce remove rename '
    'repair repeat replace resize run save say scale see set shorten sort spell start store '
    'switch take tell train try turn type use wrap write'
)
_ORDER = (
    r'(?:^|[;:,`] ?|[.] |(?:^| )(?:and|else|either|or|so|then|please|First) )'
    r'(?:(?:[Tt]o \S+|[Ff]or|[Ii]f|otherwise)\b[^;:.]*?[ ,])?'
    rf'(?P<verb>{"|".join(f"[{verb[0]}{verb[0].upper()}]{verb[1:]}" for verb in _VERBS.split())})'
    # "cut short?", "run lengths of", "name {} 2 times" are no orders.
    r'(?! short\b| left| again\b| lengths\b| are\b| \{\} \{\})(?= [^ ]|$)'
)
# Or the words say what would help: a package, a name, a flag, an entry, a program, a function.
_OTHER = (
    r'pip install', r'did you mean', r'--[\w-]+(?: [A-Z]+)* (?:is|are) needed', r'dict\(\w+=',
    r'\w+\.py [^;.]*?--[\w-]+', r'=\w+ lets', r'--[\w-]+`? (?:shows|would)', r': --[\w-]+',
    r'effvit_mm\.\w+\(',
)  # fmt: skip
ADVICE = re.compile('|'.join((_ORDER, *_OTHER)))


def tries(*words: str) -> Callable[[Test], Test]:
    """Mark a test that provokes the messages with these words and does what they advise."""
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f'@tries{words}: words of messages are needed')
    return lambda test: test


def said(words: str, text: str) -> bool:
    """Whether a message has been told: its words in ``text``, with anything for ``{}``."""
    parts = (re.escape(' '.join(part.split())) for part in words.split('{}'))
    flat = ' '.join(text.split())
    return re.search('.*?'.join(re.sub(r'(\\ )+', ' ', p) for p in parts), flat) is not None


class Message(NamedTuple):
    """A text of the product that advises something.

    Attributes:
        place: File and line.
        text: The text, ``{}`` for what is put in.
        advice: From where to where the words go that advise (of an order, its verb).
    """

    place: str
    text: str
    advice: tuple[tuple[int, int], ...]


def _own_texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of all constants and f-strings but docstrings and argparse's help."""
    passed: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr):
                passed.add(id(first.value))
        elif isinstance(node, ast.keyword) and node.arg in ('help', 'description', 'epilog'):
            passed |= {id(inner) for inner in ast.walk(node.value)}
        elif isinstance(node, ast.JoinedStr):
            passed |= {id(value) for value in node.values if isinstance(value, ast.Constant)}
    for node in ast.walk(tree):
        if id(node) in passed:
            continue
        if isinstance(node, ast.JoinedStr):
            yield (
                node.lineno,
                ''.join(
                    str(value.value) if isinstance(value, ast.Constant) else '{}'
                    for value in node.values
                ),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def advising(source: str, place: str = '') -> list[Message]:
    """The messages of a module's source that advise something."""
    found = []
    for line, text in _own_texts(ast.parse(source)):
        # A name, a path, a header: not a sentence.
        if len(text.split()) < 2:
            continue
        advice = tuple(
            match.span('verb' if match['verb'] else 0) for match in ADVICE.finditer(text)
        )
        if advice:
            found.append(Message(f'{place}:{line}', text, advice))
    return found


def uncovered(message: Message, words: Iterable[str]) -> list[str]:
    """What a message advises beyond ``words``: its text from each such place on."""
    spans = [
        (match.start(), match.end())
        for each in words
        for match in re.finditer(re.escape(each), message.text)
    ]
    return [
        message.text[start:]
        for start, end in message.advice
        if not any(first <= start and end <= last for first, last in spans)
    ]


def tried_words(source: str) -> list[str]:
    """The words of all ``@tries`` of a test module's source."""
    tree = ast.parse(source)
    tables = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    words = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith('test_'):
            continue
        for mark in node.decorator_list:
            if not (isinstance(mark, ast.Call) and getattr(mark.func, 'id', None) == 'tries'):
                continue
            for argument in mark.args:
                if isinstance(argument, ast.Starred):
                    words += [ast.literal_eval(key) for key in tables[argument.value.id].keys]
                else:
                    words.append(ast.literal_eval(argument))
    return words
