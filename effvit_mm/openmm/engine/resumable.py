"""The part of our runner that goes on with a training that was interrupted."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.runner import Runner as _Runner

from ...weights import get_state_dict, read_checkpoint
from ..config.building import building
from .loops import EpochTrainLoop
from .resuming import (
    check_optimizer,
    check_place,
    check_resumable,
    end_of_schedule,
    files_to_resume,
    from_weights,
    kept_settings,
    newest_complete_checkpoint,
    optimizer_name,
    replay,
    schedule_differs,
    schedulers_of,
)
from .seeding import is_by_epoch


class ResumableRunner(_Runner):
    """mmengine's runner, which resumes as the training would have gone on, or says what differs."""

    _trust = False  # unpickle anything in checkpoint files
    _content: dict | None = None  # of the checkpoint to begin with
    _schedule: Any = None  # the config of schedulers that are built
    _notes: list[str]  # what is to be said once there is a logger

    def _find_resume(
        self, work_dir: str, path: str | None, hook: Mapping | None, by_epoch: bool
    ) -> str | None:
        if path is not None:
            self._content = self._read_own(path, work_dir)
            check_resumable(self._content, path)
            return str(path)
        files, others = files_to_resume(work_dir, hook, by_epoch)
        if others:
            self._notes.append(others)
        found = newest_complete_checkpoint(files, self._trust, self._notes.append)
        if found is None:
            self._notes.append(f'no checkpoint to resume in {work_dir}: starting from scratch')
            return None
        self._content = found[1]
        return str(found[0])

    def _read_own(self, path: str, work_dir: str) -> dict:
        """A checkpoint to resume; what lies in the work dir is of this training."""
        folder, file = Path(work_dir).resolve(), Path(path).resolve()
        own = '://' not in str(path) and file.is_relative_to(folder)
        return read_checkpoint(path, trust=self._trust, own=own)

    def _resumed_randomness(self, randomness: dict | None) -> dict:
        """The seed of the checkpoint: samplers take it before mmengine would have read it."""
        randomness = dict(randomness or {'seed': None})
        seed = self._content['meta'].get('seed')
        if seed is not None and randomness.get('seed') not in (None, seed):
            self._notes.append(
                f'the resumed training keeps its seed {seed}; {randomness["seed"]} is not used'
            )
        if seed is not None and not randomness.get('diff_rank_seed'):
            randomness['seed'] = seed
        return randomness

    def build_param_scheduler(self, scheduler):
        self._schedule = self._schedule or copy.deepcopy(scheduler)
        with building(self.cfg, 'param_scheduler'):
            return super().build_param_scheduler(scheduler)

    def resume(self, filename: str, **kwargs) -> None:
        """Go on with a checkpoint; what the config says otherwise is followed, told, or refused."""
        self._content = content = self._content or self._read_own(filename, self.work_dir)
        wrapper, kept, was = self.optim_wrapper, '', None
        if optimizer_name(wrapper) is not None:
            check_optimizer(content, wrapper, filename)
            kept = kept_settings(content, wrapper)
        if is_by_epoch(self):
            exact = isinstance(self.train_loop, EpochTrainLoop)
            was = check_place(content, len(self.train_dataloader), exact, filename)
        states = [dict(s.state_dict()) for s in schedulers_of(self.param_schedulers)]
        super().resume(filename, **kwargs)
        if was is not None:
            self.train_loop._iter = self.epoch * len(self.train_dataloader)
            self.logger.warning(
                f'an epoch had {was} iterations and has {len(self.train_dataloader)} now: the '
                f'training goes on with epoch {self.epoch + 1}, counted as iteration {self.iter}'
            )
        if kept:
            self.logger.warning(
                f"the resumed training keeps its optimizer's {kept}; {from_weights(filename)}"
            )
        self._follow_schedule(states, content)
        done = f'epoch {self.epoch} of {self.max_epochs}, iteration {self.iter} of {self.max_iters}'
        self.logger.info(f'resumed {filename}: {done} done')

    def _follow_schedule(self, states: list[dict], content: Mapping) -> None:
        """Let the config's schedule take the checkpoint's place, as if it had been there before.

        ``states`` are those of the config's schedulers before the checkpoint's were loaded.
        """
        schedulers = schedulers_of(self.param_schedulers)
        length = len(self.train_dataloader) if is_by_epoch(self) else 0
        if schedule_differs(states, content.get('param_schedulers')):
            by_metric = any(getattr(s, 'need_val_args', False) for s in schedulers)
            if by_metric or optimizer_name(self.optim_wrapper) is None:
                self.logger.warning('the resumed training keeps the schedule that it had')
                return
            groups = self.optim_wrapper.param_groups
            for group in groups:
                group.update({k[8:]: v for k, v in group.items() if k.startswith('initial_')})
            if self._schedule is not None:
                self.param_schedulers = super().build_param_scheduler(self._schedule)
                schedulers = schedulers_of(self.param_schedulers)
                replay(schedulers, self.epoch, self.iter, length)
            rates = ', '.join(f'{rate:.4g}' for rate in sorted({g['lr'] for g in groups}))
            self.logger.warning(
                f'the schedule is that of the config now, not of the checkpoint: the learning rate '
                f'goes on at {rates}'
            )
        before = content['message_hub'].get('runtime_info', {}).get('max_epochs')
        end = end_of_schedule(schedulers, length) if length else None
        if end and before is not None and before < self.max_epochs and end[0] <= before:
            self.logger.warning(
                f'param_scheduler ends with epoch {end[0]:g}, so the learning rate stays until '
                f'epoch {self.max_epochs}; to change it give param_scheduler.{end[1]}.end='
                f'{self.max_epochs}, and T_max where it has one'
            )

    def _without_average(self, content: dict) -> dict:
        """A checkpoint of a training with an average, for one that goes on without."""
        if 'ema_state_dict' not in content:
            return content
        self.logger.warning(
            'the checkpoint has averaged weights, and the config no EMAHook: the training goes on '
            'with those that were trained, without an average'
        )
        trained = get_state_dict(content, use_ema=False)
        rest = {key: value for key, value in content.items() if key != 'ema_state_dict'}
        return {**rest, 'state_dict': trained}
