"""What a training that has ended knows, beyond its last checkpoint: it is written before the last
validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only

from ...utils.files import write_text
from .resuming import RUN
from .seeding import is_by_epoch, steps_done

FILE = 'history.json'
BEST = ('best_ckpt', 'best_score')  # as CheckpointHook's keys begin in the message hub


def is_finished(runner) -> bool:
    """Whether all epochs, or iterations, of the training are done."""
    last = runner.max_epochs if is_by_epoch(runner) else runner.max_iters
    return steps_done(runner) >= last


@master_only
def keep_history(runner, history: list[dict[str, Any]]) -> None:
    """Write losses, metrics and the best checkpoint of a training beside its checkpoints."""
    known = runner.message_hub.runtime_info
    kept = {
        'run': (known.get(RUN) or {}).get('id'),
        'step': steps_done(runner),
        'history': history,
        'best': {key: value for key, value in known.items() if key.startswith(BEST)},
    }
    write_text(Path(runner.work_dir) / FILE, json.dumps(kept, default=float, indent=1))


def take_up_history(runner) -> list[dict[str, Any]] | None:
    """What :func:`keep_history` wrote of this very run at this very step; its best checkpoint goes
    into the message hub. None where there is no such, in all processes alike."""
    found = [_read(runner) if is_main_process() else None]
    broadcast_object_list(found)
    kept = found[0]
    if kept is None:
        return None
    for key, value in kept['best'].items():
        runner.message_hub.update_info(key, value)
    return kept['history']


def _read(runner) -> dict[str, Any] | None:
    try:
        kept = json.loads((Path(runner.work_dir) / FILE).read_text(encoding='utf-8'))
        own = (kept['run'], kept['step'], bool(kept['history']), kept['best'].keys())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # then the last validation is made again
    run = (runner.message_hub.runtime_info.get(RUN) or {}).get('id')
    return kept if run and own[:3] == (run, steps_done(runner), True) else None
