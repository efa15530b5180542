"""Part ``configs``: each mutated config trains two iterations, or is refused in one line."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from effvit_mm.openmm import cli
from effvit_mm.openmm.config.writing import readable

from .stand_ins import CONFIGS, make_data, shrunk
from .trials import Counter, Outcome, Trial, clear, fork, import_all

KINDS = ('dropped', 'misspelt', 'other type', 'out of range')
STEPS = 2
OTHER_TYPES = ('many', 3, 0.5, None, [], {}, True, [1, 2], {'a': 1}, ['x'], '')
NUMBERS = (-1, 0, -0.5, 1.5, 10**6, 2**40, 1e30, float('inf'), float('nan'))
# What a config's keys are called that name no argument: parts are the user's to name.
FREE = re.compile(r'^env_cfg|^vis_backends|^custom_imports|\.name$|custom_keys\.')


class Mutation(NamedTuple):
    """What was changed in a config: ``path`` is the tuple of keys and indices that lead there."""

    kind: str
    path: tuple
    before: Any
    after: Any

    def __str__(self) -> str:
        return f'{self.kind}: {dotted(self.path)}: {self.before!r:.60} -> {self.after!r:.60}'


def dotted(path: tuple) -> str:
    """As error messages write it: ``param_scheduler[0].type``."""
    text = ''.join(f'[{part}]' if isinstance(part, int) else f'.{part}' for part in path)
    return text.removeprefix('.')


class Enough(BaseException):
    """A child has done its iterations."""


def paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The places of a config, inner ones behind those that hold them."""
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list | tuple):
        items = enumerate(value)
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def mutate(cfg: dict, draw: random.Random) -> Mutation:
    """Change one place of a config; tuples on the way become lists."""
    kind = draw.choice(KINDS)
    if kind == 'misspelt' and not any(isinstance(path[-1], str) for path in paths(cfg)):
        kind = 'other type'  # a list has no keys
    while True:
        path = draw.choice(list(paths(cfg)))
        holder = _holder(cfg, path)
        key, before = path[-1], holder[path[-1]]
        if kind == 'dropped':
            del holder[key]
            return Mutation(kind, path, before, None)
        if kind == 'misspelt':
            if not isinstance(key, str):
                continue
            after = misspell(key, draw)
            items = list(holder.items())
            holder.clear()
            holder.update({after if name == key else name: value for name, value in items})
            return Mutation(kind, path, key, after)
        after = other_type(before, draw) if kind == 'other type' else out_of_range(before, draw)
        if after is before:
            continue
        holder[key] = after
        return Mutation(kind, path, before, after)


def _holder(cfg: Any, path: tuple) -> Any:
    for key in path[:-1]:
        inner = cfg[key]
        if isinstance(inner, tuple):
            inner = cfg[key] = list(inner)
        cfg = inner
    return cfg


def misspell(word: str, draw: random.Random) -> str:
    """One letter less, more, another or exchanged with its neighbour."""
    place = draw.randrange(len(word))
    letter = draw.choice(string.ascii_lowercase)
    after = draw.choice((
        word[:place] + word[place + 1 :],
        word[:place] + letter + word[place:],
        word[:place] + letter + word[place + 1 :],
        word[:place] + word[place : place + 2][::-1] + word[place + 2 :],
    ))  # fmt: skip
    return after if after.isidentifier() and after != word else word + letter


def other_type(value: Any, draw: random.Random) -> Any:
    """A value of another type, or the value itself where none was found."""
    kinds = [other for other in OTHER_TYPES if type(other) is not type(value)]
    return draw.choice(kinds)


def out_of_range(value: Any, draw: random.Random) -> Any:
    """Another number, word or length; the value itself where there is none."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return draw.choice(NUMBERS)
    if isinstance(value, str) and value:
        return misspell(value, draw)
    if isinstance(value, list | tuple) and value:
        return draw.choice((value[:-1], [*value, value[-1]], value[::-1]))
    return value


def train(config: Path, steps: Counter) -> int:
    """Train in this process until two iterations, and what follows an epoch, are done."""
    torch.set_num_threads(1)
    for loop in (EpochBasedTrainLoop, IterBasedTrainLoop):
        loop.run_iter = counted(loop.run_iter, steps)
    try:
        return cli.train([str(config), '--work-dir', 'w'])
    except Enough:
        return 0


def counted(run_iter: Any, steps: Counter) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if steps.add() > STEPS:
            raise Enough
        return run_iter(self, *args, **kwargs)

    return call


def judge(mutation: Mutation, outcome: Outcome) -> tuple[str, str]:
    """``'ran'``, ``'refused'`` or the name of a fault; and what was said."""
    lines = outcome.error_lines()
    last = [line for line in outcome.err.splitlines() if line.strip()][-1:]
    said = lines[0] if lines else (last[0] if last else '')
    if outcome.hung:
        return 'hang', said
    if outcome.code not in (0, 2) or outcome.is_traceback():
        return 'traceback', said
    if outcome.code == 0:
        written = outcome.out + outcome.err
        bound = mutation.kind == 'misspelt' and not FREE.search(dotted(mutation.path))
        if bound and not mentions(mutation, written):
            return 'silent', 'the misspelt key had no effect'
        if outcome.steps < STEPS:
            return 'idle', f'{outcome.steps} iterations'
        return ('ran' if mutation.kind in ('dropped', 'misspelt') else 'took it'), ''
    if len(lines) != 1:
        return 'lines', ' | '.join(outcome.err.splitlines()[-3:])
    if outcome.steps:
        return 'late', said
    return ('refused' if mentions(mutation, said) else 'vague'), said


def mentions(mutation: Mutation, text: str) -> bool:
    """Whether a text names the key that was changed, or the part that it stands in."""
    names = {mutation.path[-1], mutation.after if mutation.kind == 'misspelt' else None}
    words = [name for name in names if isinstance(name, str)]
    if not words:  # an item of a list
        words = [part for part in mutation.path if isinstance(part, str)][-1:]
    inner = [dotted(mutation.path[:length]) for length in range(2, len(mutation.path) + 1)]
    inner += [re.sub(r'\[(\d+)\]', r'.\1', path) for path in inner]
    found = any(re.search(rf'(?<![A-Za-z]){re.escape(word)}(?![A-Za-z])', text) for word in words)
    return found or any(path and path in text for path in inner)


class Part:
    """Trials of mutated configs; made in the parent, once."""

    def __init__(self, folder: Path, seed: int) -> None:
        import_all()
        self.folder, self.seed = folder, seed
        self.data = folder / 'data'
        if not self.data.exists():
            make_data(self.data)

    def draw(self, index: int) -> tuple[Path, dict, Mutation | None]:
        """The config of a trial, mutated; trial ``-n`` is config ``n - 1`` as it is shipped."""
        if index < 0:
            path = CONFIGS[-index - 1]
            return path, shrunk(path, self.data), None
        draw = random.Random(f'{self.seed}/{index}')
        path = draw.choice(CONFIGS)
        cfg = shrunk(path, self.data)
        return path, cfg, mutate(cfg, draw)

    def outcome(self, index: int) -> tuple[Path, Mutation | None, Outcome]:
        """Run a trial in a child."""
        path, cfg, mutation = self.draw(index)
        folder = clear(self.folder / 'trial')

        def work(steps: Counter) -> int:
            readable(Config(cfg)).dump('mutated.py')
            return train(Path('mutated.py'), steps)

        return path, mutation, fork(work, folder)

    def __call__(self, index: int) -> Trial:
        path, mutation, outcome = self.outcome(index)
        verdict, said = judge(mutation, outcome)
        case = f'{path.parent.name}/{path.stem}: {mutation}'
        return Trial(index, self.seed, case, verdict, said, outcome.seconds, outcome.grown)
