"""The checkpoints of a work folder: at every moment a complete one is there, to be resumed."""

from __future__ import annotations

import uuid
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook

from ...errors import ConfigError
from ...utils.files import remove_stale_temporaries, write_text
from ..registry import HOOKS
from .earlier_runs import EarlierRun, find_earlier
from .resuming import LAST, RUN, optimizer_name
from .seeding import is_by_epoch, reseeds_each_iteration

# In the message hub, and so in the checkpoint: what may be deleted once that checkpoint is written.
OUTDATED = 'effvit_mm/outdated_checkpoints'


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's hook with the order of things reversed: write the new file, then delete the old.

    mmengine deletes first; killed in between with ``max_keep_ckpts=1``, or while the best
    checkpoint changes, a training would have lost what it had. Checkpoints of a run before, which
    a new one would write over, are moved first. Arguments are mmengine's.

    Attributes:
        unruled: Whether names of ``save_best`` do not say if more or less is better, nor ``rule``.
    """

    unruled = False
    _is_new = False
    _earlier: EarlierRun | None = None

    def _init_rule(self, rules, key_indicators) -> None:
        try:
            super()._init_rule(rules, key_indicators)
        except ValueError:
            if key_indicators != self.save_best:  # what 'auto' has found
                raise
            # Perhaps there is no such metric: that is known when the evaluators have been tried.
            self.key_indicators, self.unruled = key_indicators, True

    def before_train(self, runner) -> None:
        super().before_train(runner)
        # Resumed: the validation that is made up for may have to write this checkpoint again.
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        self._describe_run(runner)
        self._is_new, self._earlier = runner.train_loop.iter == 0, None
        if not is_main_process():
            return
        for path in remove_stale_temporaries(self.out_dir):
            runner.logger.info(f'removed {path}, left unfinished by a run that was killed')
        self._delete(runner.message_hub.runtime_info.get(OUTDATED, []))

    def _describe_run(self, runner) -> None:
        """Tell this run from others in the folder: in its checkpoints, and before it has any."""
        hub = runner.message_hub
        known = hub.runtime_info.get(RUN) or {}
        run = {
            'id': known.get('id') or uuid.uuid4().hex,
            'optimizer': optimizer_name(runner.optim_wrapper),
            'epoch_length': len(runner.train_dataloader) if is_by_epoch(runner) else None,
            'reseeds': reseeds_each_iteration(runner),
        }
        hub.update_info(RUN, run)

    def before_train_epoch(self, runner) -> None:
        """The work begins, all was tried: from here on a new run takes the place of a former."""
        if not self._is_new or not is_main_process():
            return
        self._is_new = False
        work_dir = runner.work_dir
        self._earlier = find_earlier(work_dir, self.out_dir, self.by_epoch, self.filename_tmpl)
        if self._earlier is not None:
            runner.logger.warning(
                f'{self.out_dir} has checkpoints of a run before ({self._earlier.last.name} is the '
                f'last), which are moved into {self._earlier.target()} when this one writes its '
                'first; `--resume` would have gone on with it'
            )
        write_text(Path(work_dir) / LAST, '')

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Whichever hook saves: nothing of a run before may be in the way."""
        if self._earlier is None:
            return
        target, self._earlier = self._earlier.move(), None
        runner.logger.info(
            f'checkpoints of the run before are in {target} now, and can be deleted there'
        )

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
            write_text(Path(runner.work_dir) / LAST, path)
            self._delete(outdated)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        if not self.save_best:
            return
        for key in self.key_indicators:
            if key != 'auto' and key not in metrics:
                raise ConfigError(unknown_metric_message(key, metrics))
        self.check_rule()
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

    def check_rule(self) -> None:
        """Raise ConfigError where it is not known what is better."""
        if self.unruled:
            raise ConfigError(
                f'default_hooks.checkpoint.save_best={self.save_best}: whether more or less is '
                'better is not known of each; set default_hooks.checkpoint.rule=greater or '
                'default_hooks.checkpoint.rule=less'
            )

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
