"""Which checkpoint a training goes on with, and whether it goes on as it would have done."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from mmengine.optim import OptimWrapper

from ...errors import CheckpointError, ConfigError
from ...utils.text import shorten
from ...weights import read_checkpoint
from ..config.arguments import type_path

# In the message hub, and so in the checkpoint: what tells one run from another.
RUN = 'effvit_mm/run'
LAST = 'last_checkpoint'
TEMPLATES = ('epoch_{}.pth', 'iter_{}.pth')
# Folders into which the checkpoints of a run before are moved.
EARLIER = re.compile(r'\d{8}_\d{6}|earlier_\d+')
# Settings by which optimizers differ, where a checkpoint does not name its own.
MARKS = {'alpha', 'betas', 'lambd', 'momentum', 'rho'}
# Of a scheduler's state: how far it got. The rest says what it does.
PROGRESS = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose'}


def checkpoint_folder(work_dir: str | Path, hook: Mapping | None) -> Path:
    """Where mmengine's checkpoint hook with these arguments writes for a work folder.

    Raises:
        ConfigError: It is no folder of this machine.
    """
    out_dir = (hook or {}).get('out_dir')
    if out_dir is None or str(out_dir) == os.path.abspath(work_dir):
        return Path(work_dir)
    if '://' in str(out_dir):
        raise ConfigError(
            f'--resume: checkpoints are in default_hooks.checkpoint.out_dir={out_dir}, which is '
            'not looked through; copy the one to go on with and name it: --resume FILE'
        )
    return Path(out_dir) / Path(work_dir).absolute().name


def find_checkpoints(
    folder: str | Path, by_epoch: bool = True, template: str | None = None, best: bool = False
) -> list[Path]:
    """The checkpoints of a folder, newest first; or those that were the ``best`` of a metric.

    Goes by the number in the name (times change when a folder is copied). Where several kinds lie,
    those of ``template`` come first, then the kind that the training writes by default.
    """
    names = [template] if template else []
    names += [name for name in sorted(TEMPLATES, reverse=not by_epoch) if name != template]
    found: list[Path] = []
    for name in names:
        numbered_name = r'(\d+)'.join(map(re.escape, re.split(r'\{[^}]*\}', name)))
        pattern = re.compile(f'best_.*_{numbered_name}' if best else numbered_name)
        matches = [(pattern.fullmatch(path.name), path) for path in Path(folder).glob('*')]
        numbered = [(int(match[1]), path) for match, path in matches if match]
        found += [path for _, path in sorted(numbered, reverse=True) if path not in found]
    return found


def files_to_resume(
    work_dir: str | Path, hook: Mapping | None = None, by_epoch: bool = True
) -> tuple[list[Path], str]:
    """Checkpoints of a work folder's last run, the newest first, and what is to be said of others.

    ``last_checkpoint`` in the work folder names the last one that was written, or nothing where a
    run has begun and written none. A folder may have been copied or moved: its own file of that
    name comes first.

    Args:
        work_dir: The work folder.
        hook: Arguments of the checkpoint hook: where files go, and what they are called.
        by_epoch: Whether the training goes by epochs.
    """
    template = (hook or {}).get('filename_tmpl')
    folder, record = checkpoint_folder(work_dir, hook), Path(work_dir) / LAST
    found = find_checkpoints(folder, by_epoch, template)
    if not record.is_file():
        return found, ''
    text = record.read_text(encoding='utf-8').strip()
    if not text:
        before = found[0] if found else _moved_last(folder)
        others = f'; {before} is of a run before: --resume {before}' if before else ''
        return [], f'the last run of {work_dir} had written no checkpoint{others}'
    last = folder / Path(text).name
    elsewhere = Path(text)
    if not last.is_file() and elsewhere.is_file() and not (elsewhere.parent / LAST).is_file():
        last, found = elsewhere, find_checkpoints(elsewhere.parent, by_epoch, template)
    if not last.is_file():
        return found, f'{record} names {last.name}, which is not in {folder}'
    alike = [path for path in found if _kind(path) == _kind(last)]
    newer = [path for path in alike if _number(path) > _number(last)]
    newer, own = _written_after(last, newer) if newer else ([], [])
    said = f'{shorten([path.name for path in newer])}: of another run, left aside' if newer else ''
    return [*own, last, *(path for path in alike if _number(path) < _number(last))], said


def _moved_last(folder: Path) -> Path | None:
    """The last checkpoint of the run that another has put into a folder of its own."""
    records = [path for path in folder.glob(f'*/{LAST}') if EARLIER.fullmatch(path.parent.name)]
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        path = record.parent / Path(record.read_text(encoding='utf-8').strip()).name
        if path.is_file():
            return path
    return None


def _kind(path: Path) -> str:
    return re.sub(r'\d+(?=\D*$)', '', path.name)


def _number(path: Path) -> int:
    return int((re.findall(r'\d+', path.stem) or [-1])[-1])


def _written_after(last: Path, newer: list[Path]) -> tuple[list[Path], list[Path]]:
    """Of files with higher numbers: those of other runs, and those of the last one's own.

    The latter are of a run that was killed before it had written down their name.
    """
    own: list[Path] = []
    run = _run_of(last)
    for path in reversed(newer):
        if run is None or _run_of(path) != run:
            break
        own.insert(0, path)
    return [path for path in newer if path not in own], own


def _run_of(path: Path) -> str | None:
    try:
        content = read_checkpoint(path, own=True)
    except CheckpointError:
        return None
    return (run_info(content) or {}).get('id')


def run_info(content: Mapping) -> Mapping | None:
    """What a checkpoint says of its run; None of those written before it said anything."""
    hub = content.get('message_hub') or {}
    return (hub.get('runtime_info') or {}).get(RUN)


def newest_complete_checkpoint(
    files: list[Path], trust: bool = False, complain: Callable[[str], None] = print
) -> tuple[Path, dict] | None:
    """The first of these files that can be resumed, and its content.

    A broken file cannot come from us but from a copy or a disk error: it is named through
    ``complain``, and the one before it is taken. None at all gives None.

    Raises:
        CheckpointError: There are files, but not one can be resumed.
    """
    for path in files:
        try:
            content = read_checkpoint(path, trust=trust, own=True)
            check_resumable(content, path)
        except CheckpointError as error:
            if path == files[-1]:
                raise
            complain(f'{error}; trying the checkpoint before it')
            continue
        return path, content
    return None


def check_resumable(content: dict, path: str | Path) -> None:
    """Raise where a checkpoint has weights but not the state of a training."""
    needed = ('state_dict', 'meta', 'message_hub', 'optimizer')
    missing = [key for key in needed if key not in content]
    if missing:
        raise CheckpointError(
            f'checkpoint {path} cannot be resumed: it has no {", ".join(missing)}. '
            f'{from_weights(path)}'
        )


def from_weights(path: str | Path) -> str:
    """What to do instead of going on with a checkpoint."""
    return (
        'To start a new training from its weights leave out --resume, and use '
        f'`--cfg-options load_from={path}`'
    )


def check_optimizer(content: Mapping, wrapper: OptimWrapper, path: str | Path) -> None:
    """Raise where the state of an optimizer is another's.

    Raises:
        ConfigError: The class is another, or its groups have other numbers of parameters.
    """
    saved, now = content['optimizer'], wrapper.optimizer
    was = (run_info(content) or {}).get('optimizer')
    theirs, ours = saved.get('param_groups', []), now.param_groups
    marks = [MARKS & set(groups[0] if groups else ()) for groups in (theirs, ours)]
    if was not in (None, optimizer_name(wrapper)) or marks[0] != marks[1]:
        raise ConfigError(
            f'--resume: optim_wrapper.optimizer is {type(now).__name__}, and {path} has the state '
            f'of {"another" if was is None else was.rpartition(".")[2]}; leave optim_wrapper as '
            f'it was. {from_weights(path)}'
        )
    sizes = [[len(group['params']) for group in groups] for groups in (theirs, ours)]
    if sizes[0] != sizes[1]:
        before, after = (f'{len(counts)} ({shorten(counts)} parameters)' for counts in sizes)
        raise ConfigError(
            f'--resume: optim_wrapper makes groups: {after}, and {path} has the state of {before}; '
            f'leave optim_wrapper.paramwise_cfg as it was. {from_weights(path)}'
        )


def optimizer_name(wrapper: OptimWrapper) -> str | None:
    """What checkpoints call a wrapper's optimizer; None where it has several."""
    optimizer = getattr(wrapper, 'optimizer', None)
    return None if optimizer is None else type_path(type(optimizer))


def kept_settings(content: Mapping, wrapper: OptimWrapper) -> str:
    """What of the optimizer's settings the config says otherwise, and a resume keeps."""
    differing: dict[str, tuple[object, object]] = {}
    groups = wrapper.optimizer.param_groups  # the wrapper's own have the defaults behind them
    for theirs, ours in zip(content['optimizer']['param_groups'], groups, strict=True):
        for name in wrapper.optimizer.defaults:
            before, after = (
                group.get(f'initial_{name}', group.get(name)) for group in (theirs, ours)
            )
            if _plain(before) != _plain(after):
                differing.setdefault(name, (before, after))
    return ', '.join(f'{name} {was} (not {now})' for name, (was, now) in differing.items())


def _plain(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value


def schedulers_of(schedulers: object) -> list:
    """mmengine's schedulers, of one optimizer or of several."""
    if isinstance(schedulers, Mapping):
        return [scheduler for part in schedulers.values() for scheduler in part]
    return list(schedulers or ())


def schedule_differs(states: list[Mapping], saved: object) -> bool:
    """Whether schedulers, by their states before the first step, do what a checkpoint's did."""
    theirs = schedulers_of(saved)
    settings = [
        [{k: v for k, v in state.items() if k not in PROGRESS} for state in part]
        for part in (states, theirs)
    ]
    return settings[0] != settings[1]


def replay(schedulers: list, epochs: int, iterations: int, epoch_length: int) -> None:
    """Step schedulers as a training does in so many epochs and iterations."""
    for step in range(1, iterations + 1):
        _step(schedulers, by_epoch=False)
        if epoch_length and step % epoch_length == 0 and step // epoch_length <= epochs:
            _step(schedulers, by_epoch=True)


def _step(schedulers: list, by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def end_of_schedule(schedulers: list, epoch_length: int) -> tuple[float, int] | None:
    """The epoch after which no scheduler of the rate does anything, and which one is the last."""
    ends = [
        (scheduler.end / (1 if scheduler.by_epoch else epoch_length), index)
        for index, scheduler in enumerate(schedulers)
        if scheduler.param_name == 'lr'
    ]
    return max(ends, default=None)


def check_place(content: Mapping, epoch_length: int, exact: bool, path: str | Path) -> int | None:
    """Whether a training by epochs can go on where a checkpoint is.

    Args:
        content: Of the checkpoint.
        epoch_length: Iterations of an epoch now.
        exact: The loop can begin in the middle of an epoch.
        path: How messages call it.

    Returns:
        Iterations of an epoch as they were, where that is another number; else None.

    Raises:
        CheckpointError: It is from the middle of an epoch that would not go on as it began.
    """
    epoch, iteration = content['meta']['epoch'], content['meta']['iter']
    run = run_info(content) or {}
    was = run.get('epoch_length')
    if was is None:  # written by an earlier version, or by mmengine
        within = 0 <= iteration - epoch * epoch_length < epoch_length
        was = epoch_length if within or epoch == 0 else iteration // epoch
    done = iteration - epoch * was
    if done == 0:
        return None if was == epoch_length else was
    reason = None
    if was != epoch_length:
        reason = f'an epoch has {epoch_length} iterations now'
    elif not (run.get('reseeds') and exact):
        reason = 'its run did not keep the order of things within an epoch'
    if reason is None:
        return None
    raise CheckpointError(
        f'--resume: {path} is from the middle of epoch {epoch + 1}, iteration {done} of {was}, and '
        f'cannot be gone on with exactly: {reason}. Go on with a checkpoint from the end of an '
        f'epoch, `--resume FILE`. {from_weights(path)}'
    )
