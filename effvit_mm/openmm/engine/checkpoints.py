"""The checkpoints of a work folder: at every moment a complete one is there, to be resumed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook

from ...errors import CheckpointError, ConfigError
from ...utils.files import remove_stale_temporaries, write_text
from ...weights import read_checkpoint
from ..registry import HOOKS

# In the message hub, and so in the checkpoint: what may be deleted once that checkpoint is written.
OUTDATED = 'effvit_mm/outdated_checkpoints'


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's hook with the order of things reversed: write the new file, then delete the old.

    mmengine deletes first; killed in between with ``max_keep_ckpts=1``, or while the best
    checkpoint changes, a training would have lost what it had. Arguments are mmengine's.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        # Resumed: the validation that is made up for may have to write this checkpoint again.
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        if not is_main_process():
            return
        for path in remove_stale_temporaries(self.out_dir):
            runner.logger.info(f'removed {path}, left unfinished by a run that was killed')
        self._delete(runner.message_hub.runtime_info.get(OUTDATED, []))

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        hub = runner.message_hub
        outdated = self._outdated_best()
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                outdated.append(str(Path(self.out_dir) / oldest))
            self.keep_ckpt_ids.append(step)
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        hub.update_info(OUTDATED, outdated)

        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        hub.update_info('last_ckpt', path)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler and runner.param_schedulers is not None,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self.last_ckpt = path
        if is_main_process():
            write_text(Path(runner.work_dir) / 'last_checkpoint', path)
            self._delete(outdated)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not self.save_best:
            return
        for key in self.key_indicators:
            if key != 'auto' and key not in metrics:
                raise ConfigError(unknown_metric_message(key, metrics))
        self._old_best = self._best_paths()
        # With no path to an old best, mmengine has nothing to delete before it saves.
        self._set_best_paths(dict.fromkeys(self._old_best))
        super()._save_best_checkpoint(runner, metrics)
        unbeaten = {
            key: path or self._old_best.get(key) for key, path in self._best_paths().items()
        }
        self._set_best_paths(unbeaten)
        if is_main_process():
            self._delete(self._outdated_best())
        self._old_best = {}

    def _best_paths(self) -> dict[str, str | None]:
        """The best checkpoint by metric; mmengine has an attribute of its own for a single one."""
        if hasattr(self, 'best_ckpt_path'):
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_paths(self, paths: dict[str, str | None]) -> None:
        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict = paths

    def _outdated_best(self) -> list[str]:
        """Best checkpoints that better ones have taken the place of in this validation."""
        old = getattr(self, '_old_best', {})
        new = self._best_paths() if self.save_best else {}
        return [old[key] for key, path in new.items() if path and old.get(key) not in (None, path)]

    def _delete(self, paths: list[str]) -> None:
        for path in paths:
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # sharded checkpoints are folders
                self.file_backend.rmtree(path)


def unknown_metric_message(key: str, metrics: dict) -> str:
    """The line for a ``save_best`` that the evaluator does not give."""
    known = ', '.join(repr(name) for name in metrics)
    return (
        f'default_hooks.checkpoint.save_best={key!r}: the evaluator gives no such metric; it gives '
        f"{known} ('auto' takes the first)"
    )


def find_checkpoints(folder: str | Path, by_epoch: bool = True) -> list[Path]:
    """The ``epoch_N.pth`` and ``iter_N.pth`` of a work folder, newest first.

    Goes by the number in the name (times change when a folder is copied); where both kinds lie,
    the kind that the training writes comes first.
    """
    found = [
        ((match[1] == 'epoch') == by_epoch, int(match[2]), path)
        for path in Path(folder).glob('*.pth')
        if (match := re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name))
    ]
    return [path for *_, path in sorted(found, reverse=True)]


def newest_complete_checkpoint(
    folder: str | Path,
    by_epoch: bool = True,
    trust: bool = False,
    complain: Callable[[str], None] = print,
) -> tuple[Path, dict] | None:
    """The newest checkpoint of a work folder that can be resumed, and its content.

    A broken file cannot come from us but from a copy or a disk error: it is named through
    ``complain``, and the one before it is taken. None at all gives None.

    Raises:
        CheckpointError: There are checkpoints, but not one can be resumed.
    """
    found = find_checkpoints(folder, by_epoch)
    for path in found:
        try:
            content = read_checkpoint(path, trust=trust)
            check_resumable(content, path)
        except CheckpointError as error:
            if path == found[-1]:
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
            f'checkpoint {path} cannot be resumed: it has no {", ".join(missing)}. To start a new '
            f'training from its weights use `--cfg-options load_from={path}`'
        )
