"""Lines of progress: by count, as mmengine's, and by time, so that a slow run is no silent one."""

from __future__ import annotations

import time
from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import dump
from mmengine.hooks import LoggerHook as _LoggerHook

from ...utils.files import written_atomically
from ..registry import HOOKS

SILENCE = 60.0  # seconds


@HOOKS.register_module()
class LoggerHook(_LoggerHook):
    """mmengine's hook, with a line more after the first step, and whenever none came for a minute.

    Where an epoch has fewer steps than ``interval``, or a step takes seconds, the first line with
    the time left would come late, or at the end. The lines by time go to the log alone, not to the
    visualiser's curves. A test's figures are written by one process, in mmengine by all at once
    into one file, which then is not always JSON. Arguments are mmengine's.
    """

    def before_run(self, runner) -> None:
        super().before_run(runner)
        self._last: float | None = None  # no line yet

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        ends = self.end_of_epoch(runner.train_dataloader, batch_idx)
        self._after(runner, batch_idx, 'train', ends)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_val_iter(runner, batch_idx, data_batch, outputs)
        # The console shows no lines by count of a validation: they are no sign of life there.
        if self._last is not None and time.monotonic() - self._last >= SILENCE:
            self._say(runner, batch_idx, 'val')

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_test_iter(runner, batch_idx, data_batch, outputs)
        self._after(runner, batch_idx, 'test', False)

    def after_test_epoch(self, runner, metrics=None) -> None:
        figures, line = runner.log_processor.get_log_after_epoch(
            runner, len(runner.test_dataloader), 'test', with_non_scalar=True
        )
        runner.logger.info(line)
        if is_main_process():
            with written_atomically(Path(runner.log_dir) / self.json_log_path) as temporary:
                dump(self._process_tags(figures), str(temporary), file_format='json')

    def _after(self, runner, batch_idx: int, mode: str, ends: bool) -> None:
        if self.every_n_inner_iters(batch_idx, self.interval) or ends:
            self._last = time.monotonic()
        elif self._last is None or time.monotonic() - self._last >= SILENCE:
            self._say(runner, batch_idx, mode)

    @master_only
    def _say(self, runner, batch_idx: int, mode: str) -> None:
        self._last = time.monotonic()
        runner.logger.info(runner.log_processor.get_log_after_iter(runner, batch_idx, mode)[1])
