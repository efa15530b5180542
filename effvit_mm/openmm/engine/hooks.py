"""Hooks that every training gets from our runner."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
from mmengine.dist import get_rank, get_world_size, master_only
from mmengine.hooks import EarlyStoppingHook, Hook
from torch import nn

from ...backbones.base import BatchNorm
from ...errors import UserError
from ...utils.allocator import release_freed_memory
from ..config.writing import readable
from ..registry import HOOKS
from .finished import is_finished, keep_history, take_up_history
from .report import draw_curves
from .seeding import is_by_epoch, reseeds_each_iteration, seed_everything, steps_done

# What to do about a training that explodes.
CALMER = 'lower optim_wrapper.optimizer.lr, or set optim_wrapper.clip_grad=dict(max_norm=1.0)'
# Keys in the message hub, and so in the checkpoints.
HISTORY, VALIDATED, ELAPSED = 'effvit_mm/history', 'effvit_mm/validated', 'effvit_mm/elapsed'
LOSSES = 'effvit_mm/losses'  # of an epoch that is not at its end
# Fewer steps hardly train a network from scratch, which smaller batches make more of.
FEW_STEPS, SMALL_BATCH = 150, 8


@HOOKS.register_module()
class ReseedHook(Hook):
    """Make all randomness of an epoch a function of (seed, epoch, rank).

    A resumed training then draws what the undisturbed one would have drawn. Data loader workers
    are seeded by PyTorch from the generator that is set here, anew for each epoch. Trainings by
    iteration, and those whose checkpoints go by iteration, are reseeded after each iteration as
    well: exact in the middle of an epoch; in a training by iteration as long as the loader has no
    workers, whose generators run on through the whole training.
    """

    priority = 'HIGHEST'

    def before_train_epoch(self, runner) -> None:
        seed_everything(runner.seed, steps_done(runner), get_rank())

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if reseeds_each_iteration(runner):
            seed_everything(runner.seed, runner.iter + 1, get_rank())


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop at a loss that is NaN or infinite, naming the batch's files.

    Costs nothing: the runtime hook has read the loss for the log already.
    """

    priority = 'NORMAL'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        loss = runner.message_hub.log_scalars.get('train/loss')
        if loss is None or math.isfinite(loss.current()):
            return
        last = runner.message_hub.runtime_info.get('last_ckpt')
        raise UserError(
            f'the loss became {loss.current()} in epoch {runner.epoch + 1}, iteration '
            f'{runner.iter + 1}; images of the batch: {batch_files(data_batch)}; last checkpoint: '
            f'{last or "none yet"}. Look at those images, {CALMER}'
        )


def check_finite_weights(model: nn.Module, path: Path, last: str | None) -> None:
    """Raise before useless weights are saved: a finite loss can still give a gradient that is not.

    The error names ``path``, which is not written, and the ``last`` checkpoint that was.
    """
    broken = [name for name, value in model.named_parameters() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f'checkpoint {path} is not written: {len(broken)} parameters became NaN or infinite '
            f'(the first is {broken[0]}); last checkpoint: {last or "none yet"}. To go on from '
            f'it, {CALMER}'
        )


def describe_length(runner) -> str:
    """How many images and steps a training has, and what to do where these are few."""
    loader, steps = runner.train_dataloader, runner.max_iters
    images = len(loader.dataset)
    an_epoch = f', steps an epoch: {len(loader):,}' if is_by_epoch(runner) else ''
    text = f'images: {images:,}{an_epoch}, in all: {steps:,}'
    if steps >= FEW_STEPS or runner.cfg.get('load_from'):
        return text
    batches = math.ceil(images / (SMALL_BATCH * get_world_size()))
    more = batches * runner.max_epochs if is_by_epoch(runner) else 0
    free = not hasattr(loader.sampler, 'num_persons')  # whose batches have so many images of each
    if free and steps < more:
        text += (
            f': few for a training from scratch; for {more:,}, give '
            f'--cfg-options train_dataloader.batch_size={SMALL_BATCH}'
        )
    if any(isinstance(module, BatchNorm) for module in runner.model.modules()):
        text += (
            f'; until batch norms have averaged {FEW_STEPS} steps or so, validations can be at '
            'chance while the loss falls'
        )
    return text


def batch_files(data_batch, limit: int = 5) -> str:
    """The image files of a batch, as far as its samples know them."""
    samples = data_batch.get('data_samples', []) if isinstance(data_batch, dict) else []
    names = [str(getattr(sample, 'img_path', None) or '?') for sample in samples]
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return (', '.join(names[:limit]) + more) or 'unknown'


@HOOKS.register_module()
class RecordHook(Hook):
    """Keep losses and metrics by epoch in the checkpoint, and draw them as ``curves.png``.

    At the end they are written as ``history.json``, too: with the last validation, which comes
    after the last checkpoint and is not made again when a finished run is resumed.
    """

    # After the metrics are in the message hub, before the checkpoint hook saves the hub.
    priority = 'BELOW_NORMAL'

    def before_train(self, runner) -> None:
        runner.logger.info(describe_length(runner))
        hub = runner.message_hub
        self.history: list[dict] = list(hub.runtime_info.get(HISTORY, []))
        if is_finished(runner) and (whole := take_up_history(runner)):
            self.history = whole
            hub.update_info(HISTORY, whole)
            hub.update_info(VALIDATED, steps_done(runner))
        self.earlier = float(hub.runtime_info.get(ELAPSED, 0.0))
        self.start = time.monotonic()
        self.losses: list[float] = list(hub.runtime_info.get(LOSSES, []))

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.earlier + time.monotonic() - self.start

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        loss = runner.message_hub.log_scalars.get('train/loss')
        if loss is not None:
            self.losses.append(float(loss.current()))
        if not is_by_epoch(runner) and self.every_n_train_iters(runner, runner.val_interval):
            self._add_losses(runner, runner.iter + 1)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['message_hub']['runtime_info'][LOSSES] = list(self.losses)
        if (cfg := readable(runner.cfg)) is not runner.cfg:
            checkpoint['meta']['cfg'] = cfg.pretty_text

    def after_train_epoch(self, runner) -> None:
        self._add_losses(runner, runner.epoch + 1 if is_by_epoch(runner) else runner.iter)

    def _add_losses(self, runner, step: int) -> None:
        if self.losses:
            self._entry(step)['loss'] = sum(self.losses) / len(self.losses)
        self.losses = []
        self._store(runner)

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if not hasattr(self, 'history'):  # a validation outside of a training
            return
        step = steps_done(runner)
        self._entry(step)['metrics'] = {
            name: float(value)
            for name, value in (metrics or {}).items()
            if isinstance(value, (int, float, np.number))
        }
        runner.message_hub.update_info(VALIDATED, step)
        self._store(runner)
        self._draw(runner)

    def after_train(self, runner) -> None:
        self._draw(runner)
        keep_history(runner, self.history)

    def _entry(self, step: int) -> dict:
        entry = next((entry for entry in self.history if entry['step'] == step), None)
        if entry is None:
            self.history.append(entry := {'step': step})
        return entry

    def _store(self, runner) -> None:
        # Copies: what is in the hub must not change under a checkpoint being written.
        runner.message_hub.update_info(HISTORY, [dict(entry) for entry in self.history])
        runner.message_hub.update_info(ELAPSED, self.elapsed)

    @master_only
    def _draw(self, runner) -> None:
        unit = 'epoch' if is_by_epoch(runner) else 'iteration'
        draw_curves(self.history, Path(runner.work_dir) / 'curves.png', unit)


@HOOKS.register_module()
class ValidateOnResumeHook(Hook):
    """Make up for a validation that a kill cut off; say of a finished run that it has finished.

    A checkpoint is written before its epoch's validation, so that the epoch is not lost when the
    validation fails. Resumed from such a checkpoint, the training would go on without that
    validation's metrics, best checkpoint and metric-driven schedule.
    """

    priority = 'LOWEST'

    def before_train(self, runner) -> None:
        loop = runner.train_loop
        step = steps_done(runner)
        by_epoch = is_by_epoch(runner)
        last = runner.max_epochs if by_epoch else runner.max_iters
        finished = is_finished(runner)
        if finished:
            unit, key = ('epochs', 'max_epochs') if by_epoch else ('iterations', 'max_iters')
            runner.logger.info(
                f'the run has finished: {step} of {last} {unit} are done; to train longer, give a '
                f'higher number: --cfg-options train_cfg.{key}=N'
            )
        if step == 0 or runner.val_loop is None or step < loop.val_begin:
            return
        due = step % loop.val_interval == 0 or step == last
        if due and runner.message_hub.runtime_info.get(VALIDATED) != step:
            runner.logger.info(
                'its last validation is made again: the checkpoint was written before it'
                if finished
                else f'the run before was stopped in the validation at {step}, which is repeated'
            )
            runner.val_loop.run()


@HOOKS.register_module()
class StopEarlyOnResumeHook(Hook):
    """Let a resumed training stop early where the undisturbed one would have.

    mmengine's hook forgets the best figure and how long it has waited for a better one: it looks
    again at the figures of the validations before.
    """

    priority = 'LOWEST'  # before the validation that is made up for, see the order of registration

    def before_train(self, runner) -> None:
        history = runner.message_hub.runtime_info.get(HISTORY, [])
        for hook in runner.hooks:
            if not isinstance(hook, EarlyStoppingHook):
                continue
            figures = [entry.get('metrics', {}).get(hook.monitor) for entry in history]
            ends = [hook._check_stop_condition(value) for value in figures if value is not None]
            if ends and ends[-1][0]:
                runner.train_loop.stop_training = True
                runner.logger.warning(
                    f'the training was stopped early: {" ".join(ends[-1][1].split())} To go on, '
                    "raise the hook's patience"
                )


@HOOKS.register_module()
class FreedMemoryHook(Hook):
    """Give back what an evaluation has freed: a long run stays as large as its largest step."""

    priority = 'LOWEST'

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        release_freed_memory()

    def after_test_epoch(self, runner, metrics: dict | None = None) -> None:
        release_freed_memory()
