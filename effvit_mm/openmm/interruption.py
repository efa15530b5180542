"""What an interrupted training says: where its last checkpoint is, and the command that goes on."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cli import Session

SWITCHES = ('amp', 'auto_scale_lr', 'no_validate', 'trust_checkpoint', 'tensorboard', 'wandb')


def how_to_go_on(session: Session) -> str:
    """The rest of a line; nothing of a command that has no checkpoints."""
    work_dir = session.cfg.get('work_dir') if session.cfg is not None else None
    if work_dir is None or not hasattr(session.args, 'amp'):
        return ''
    last = _last_checkpoint(session)
    if last is None:
        return f'; no checkpoint of this run in {work_dir} yet'
    return f'; last checkpoint: {last}; go on with: {_resume_command(session)}'


def _last_checkpoint(session: Session) -> str | None:
    """The file that ``--resume`` would go on with; None where it is of a run before."""
    from .engine.resuming import files_to_resume

    hooks = session.runner.hooks if session.runner is not None else ()
    written = next(filter(None, (getattr(hook, 'last_ckpt', None) for hook in hooks)), None)
    if written is not None or not (session.args.resume or session.cfg.get('resume')):
        return written
    hook = (session.cfg.get('default_hooks') or {}).get('checkpoint')
    by_epoch = 'max_iters' not in (session.cfg.get('train_cfg') or {})
    files, _ = files_to_resume(session.cfg.work_dir, hook, by_epoch)
    return str(files[0]) if files else None


def _resume_command(session: Session) -> str:
    """The command that goes on with an interrupted training, with the flags that it had."""
    args = session.args
    script = sys.argv[0] if Path(sys.argv[0]).name == 'train.py' else 'tools/train.py'
    words = ['python', script, args.config, '--work-dir', session.cfg.work_dir, '--resume']
    for flag in SWITCHES:
        if getattr(args, flag):
            words.append(f'--{flag.replace("_", "-")}')
    if args.early_stopping is not None:
        words += ['--early-stopping', str(args.early_stopping)]
    if args.cfg_options:
        words += ['--cfg-options', *args.cfg_options]
    return shlex.join(words)
