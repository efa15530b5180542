"""Loading weights into a network, with a count of what matched.

PyTorch's default of a silent partial load hides the commonest mistake of transfer learning:
nothing matched, and the training starts from noise. Here a load says what it did.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import CheckpointError
from .checkpoint import choose_weights, get_state_dict, read_checkpoint, unwrapped
from .published import readings

State = dict[str, Tensor]
BACKBONE = 'backbone.'
# Counters of batch norms: every network has some, so they do not make a checkpoint the right one;
# they are read in training alone, and old checkpoints lack them.
COUNTER = 'num_batches_tracked'
ANOTHER_MODEL = 'a checkpoint of another model'
TOOL = 'tools/model_converters/convert.py'


@dataclass
class LoadReport:
    """What a load did, or would do: names of tensors as the model calls them.

    Attributes:
        source: How messages call the checkpoint.
        loaded: Tensors of the model that are in the checkpoint.
        missing: Those that are not.
        unexpected: Tensors of the checkpoint that the model does not have.
        mismatched: Tensors of another shape, with both shapes.
        notes: What was done to names and tensors on the way.
        state: ``{name: tensor}`` of what was loaded.
        meta: What the checkpoint says of itself: ``meta`` of mmengine's.
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    state: State = field(default_factory=dict, repr=False)
    meta: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        text = f'loaded {len(self.loaded)} of {total} tensors from {self.source}'
        for label, names in (
            ('not in the file', self.missing),
            ('of another shape', self.mismatched),
            ('in the file but not in the model', self.unexpected),
        ):
            if names:
                more = ', ...' if len(names) > 3 else ''
                text += f'; {len(names)} {label}: {", ".join(names[:3])}{more}'
        return '; '.join([text, *self.notes])


def load_checkpoint(
    model: nn.Module,
    checkpoint: str | Path | Mapping,
    *,
    source: str | None = None,
    prefix: str | None = None,
    require: Literal['some', 'all', 'exact'] = 'some',
    use_ema: bool = True,
    trust: bool = False,
    classes: Mapping[str, int] | None = None,
) -> LoadReport:
    """Load a checkpoint's weights into a model: what matches by name and shape.

    On the way what DDP and ``torch.compile`` put into names is left out, and what all names begin
    with where the model's do not (``model.``). ``backbone.`` is put before names or taken away
    where one side has it and the other has not, published names are changed to ours where all of a
    family's rules and shapes fit, and modules with ``prepare_state_dict(state, prefix)`` adapt
    their tensors: position embeddings of another image size, say.

    Args:
        model: Receives the weights.
        checkpoint: A file or an http(s) address, as :func:`read_checkpoint` takes them, or its
            content: a checkpoint's or a state dict.
        source: How messages call it; the file or address by default.
        prefix: Take only names that begin with it, and drop it (``'backbone'``); ``''`` takes
            names as they are.
        require: ``'some'``: half of the model's tensors or half of the checkpoint's, ``'all'`` of
            the model's (counters of batch norms may be missing), or ``'exact'``: all, and no
            others in the checkpoint.
        use_ema: Running averages of the weights where the checkpoint has them.
        trust: Unpickle whatever the file holds, which can run code.
        classes: ``{config key: number of classes}`` of the model's heads, to say it where a
            checkpoint lacks ``require`` for another number of classes.

    Raises:
        CheckpointError: It cannot be read, nothing matches, or less than ``require``.
    """
    if not isinstance(checkpoint, Mapping):
        source = source or str(checkpoint)
        checkpoint = read_checkpoint(checkpoint, trust=trust)
    report = fit_checkpoint(
        model,
        checkpoint,
        source=source or 'checkpoint',
        prefix=prefix,
        require=require,
        use_ema=use_ema,
        classes=classes,
    )
    model.load_state_dict(report.state, strict=False)
    return report


def fit_checkpoint(
    model: nn.Module,
    content: Mapping,
    *,
    source: str = 'checkpoint',
    prefix: str | None = None,
    require: Literal['some', 'all', 'exact'] = 'some',
    use_ema: bool = True,
    classes: Mapping[str, int] | None = None,
) -> LoadReport:
    """What :func:`load_checkpoint`, whose arguments these are, would load: ``state`` of the report.

    Raises:
        CheckpointError: Nothing matches, or less than ``require``.
    """
    chosen = choose_weights(content, use_ema)[1]
    state = get_state_dict(content, source, use_ema)
    own = model.state_dict()
    given = state
    state, notes = _in_names_of(model, own, state, source, prefix)
    state = _prepared(model, state, notes)
    meta = content.get('meta')
    report = LoadReport(
        source,
        notes=[chosen, *notes] if chosen else notes,
        meta=meta if isinstance(meta, Mapping) else {},
    )
    for name, value in own.items():
        if name not in state:
            report.missing.append(name)
        elif state[name].shape != value.shape:
            report.mismatched.append(
                f'{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}'
            )
        else:
            report.loaded.append(name)
            report.state[name] = state[name]
    report.unexpected = [name for name in state if name not in own]
    if all(name.endswith(COUNTER) for name in report.loaded):
        theirs, ours = next(iter(state), '-'), next(iter(own), '-')
        raise CheckpointError(
            f'{source}: none of its {len(state)} tensors fits the model (the file has names like '
            f'{theirs!r}, the model like {ours!r}); is it a checkpoint of another model? '
            f'{TOOL} says what of published names is not known{_parts_that_fit(own, given)}'
        )
    _check_finite(model, report)
    if require == 'some':
        _check_much(report)
    else:
        _check_classes(own, state, classes or {}, source)
        _check_whole(report, exact=require == 'exact')
    return report


def _in_names_of(
    model: nn.Module, own: State, state: State, source: str, prefix: str | None
) -> tuple[State, list[str]]:
    """The tensors under the model's names, and notes of what was done to theirs."""
    if prefix:
        prefix = prefix.removesuffix('.') + '.'
        state = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        if not state:
            raise CheckpointError(f'{source}: no tensor name starts with {prefix!r}')
    wrapped = {plain: name for name, plain in unwrapped(own).items()}
    names = {name: name for name in state}
    if prefix is None:
        names = max(names, *_other_prefixes(names), key=lambda names: _matches(names, wrapped))
    matches = _matches(names, wrapped)
    notes = []
    if matches < sum(not name.endswith(COUNTER) for name in names):
        nested = any(name.startswith(BACKBONE) for name in wrapped)
        family, renamed, unknown = max(
            _readings(state, nested), key=lambda reading: _matches(reading[1], wrapped)
        )
        if _matches(renamed, wrapped) > matches:
            names, notes = renamed, [f'names as published for {family} changed to ours']
            tensors = {wrapped.get(new, new): state[old] for old, new in names.items()}
            _check_published(_prepared(model, tensors, []), own, unknown, f'{source} ({family})')
    return {wrapped.get(new, new): state[old] for old, new in names.items()}, notes


def _other_prefixes(names: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Names of a whole model for its backbone, of a backbone for a whole model, and of either in a
    module of another framework, whose name they all begin with (``model.``)."""
    yield {k: v[len(BACKBONE) :] for k, v in names.items() if v.startswith(BACKBONE)}
    yield {k: BACKBONE + v for k, v in names.items()}
    if len({v.partition('.')[0] for v in names.values()}) == 1 and all(
        '.' in v for v in names.values()
    ):
        inner = {k: v.partition('.')[2] for k, v in names.items()}
        yield inner
        yield from _other_prefixes(inner)


def _readings(
    names: Iterable[str], nested: bool
) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """What :func:`readings` gives, for a model with a backbone inside or for a backbone alone."""
    for family, ours, unknown in readings(names):
        if not nested:
            ours = {k: v[len(BACKBONE) :] for k, v in ours.items() if v.startswith(BACKBONE)}
        yield family, ours, unknown


def _parts_that_fit(own: State, state: State) -> str:
    """What to do about a file of several networks, as student and teacher; ``''`` for others."""
    names = unwrapped(own).values()
    parts: dict[str, int] = {}
    for part in {name.partition('.')[0] for name in state}:
        for prefix in (part, f'{part}.{BACKBONE[:-1]}'):
            inner = [k[len(prefix) + 1 :] for k in state if k.startswith(f'{prefix}.')]
            parts[prefix] = len({*inner} & {*names})
    fitting = sorted(
        (prefix for prefix, count in parts.items() if count), key=lambda p: (-parts[p], p)
    )
    if not fitting:
        return ''
    named = ' or '.join(repr(prefix) for prefix in fitting[:3])
    return (
        f'. The names after {named} do: take them with prefix={fitting[0]!r} (of load_checkpoint, '
        "or of the backbone's init_cfg=dict(type='Pretrained', checkpoint=..., prefix=...))"
    )


def _matches(names: Mapping[str, str], own: Container[str]) -> int:
    return sum(new in own and not new.endswith(COUNTER) for new in names.values())


def _check_published(state: State, own: State, unknown: list[str], source: str) -> None:
    """Raise where names are published ones but not all of them, or of a network of other shapes."""
    misfits = [
        f'{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}'
        for name, value in state.items()
        if name in own and 'head.' not in name and value.shape != own[name].shape
    ]
    for problem, which in (('names that are not', unknown), ('other shapes', misfits)):
        if which:
            more = f' and {len(which) - 3} more' if len(which) > 3 else ''
            raise CheckpointError(
                f'{source} has published names, but also {problem}: {", ".join(which[:3])}{more}; '
                f'is it of another variant? {TOOL} and effvit_mm.convert_state_dict(state, name) '
                'change the names of one model to ours'
            )


def _prepared(model: nn.Module, state: State, notes: list[str]) -> State:
    """``state`` after each module that can has adapted its tensors to itself."""
    before = state
    for name, module in model.named_modules():
        if hasattr(module, 'prepare_state_dict'):
            state = module.prepare_state_dict(state, prefix=f'{name}.' if name else '')
    resized = [n for n, v in state.items() if n in before and before[n].shape != v.shape]
    if resized:
        notes.append(f'{len(resized)} resized: {", ".join(resized[:3])}')
    return state


def _check_finite(model: nn.Module, report: LoadReport) -> None:
    """Raise where weights are of no use: a test with them gives figures all the same."""
    names = [name for name, _ in model.named_parameters() if name in report.state]
    broken = [name for name in names if not report.state[name].isfinite().all()]
    if broken:
        raise CheckpointError(
            f'{report.source}: {len(broken)} of its tensors hold NaN or infinite values (the first '
            f'is {broken[0]}); take a checkpoint from before they became so'
        )


def _check_classes(own: State, state: State, classes: Mapping[str, int], source: str) -> None:
    """Say it plainly when a checkpoint's classifier has another number of classes."""
    for key, count in classes.items():
        part = key.removeprefix('model').removesuffix('num_classes').strip('.')
        for name, value in own.items():
            if not name.startswith(part) or 'head' not in name or name not in state:
                continue
            theirs, ours = state[name].shape, value.shape
            if theirs != ours and theirs[1:] == ours[1:] and ours.numel() and ours[0] % count == 0:
                raise CheckpointError(
                    f'{source} was trained for {theirs[0] // (ours[0] // count)} classes, the '
                    f'model (key {key}) has {count}'
                )


def _check_much(report: LoadReport) -> None:
    """Raise where most of the model would stay random and most of the file would be left out.

    Networks of other families share a few names and shapes: the head's, a last norm's. Of a part of
    a model, of more than one, and of another attention, one of the two sides fits.
    """
    loaded, *others = (
        sum(not name.split(' ')[0].endswith(COUNTER) for name in names)
        for names in (report.loaded, report.missing, report.unexpected, report.mismatched)
    )
    missing, unexpected, mismatched = others
    if loaded < min(missing, unexpected) + mismatched:
        raise CheckpointError(f'{ANOTHER_MODEL}: {report}')


def _check_whole(report: LoadReport, exact: bool) -> None:
    missing = [name for name in report.missing if exact or not name.endswith(COUNTER)]
    if missing or report.mismatched or (exact and report.unexpected):
        raise CheckpointError(f'{ANOTHER_MODEL}: {report}')


def count_classes(state: Mapping[str, Tensor]) -> int | None:
    """Classes of the head in a classifier's weights, ours or published; None without a head."""
    matrices = (v for k, v in state.items() if k.startswith('head.') and v.ndim == 2)
    return next((len(matrix) for matrix in matrices), None)
