"""mmengine's runner with exact resume, whole checkpoints, safe loading and checks before work."""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine import registry as root
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook as _CheckpointHook
from mmengine.hooks import EMAHook
from mmengine.hooks import LoggerHook as _LoggerHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner import Runner as _Runner

from ...errors import ConfigError
from ...utils.files import check_writable, temporary_name, written_atomically
from ...weights import LoadReport, fit_checkpoint, read_checkpoint
from ..config.arguments import find_class, is_number, node_class, type_path
from ..config.building import BUILD_ERRORS, building, naming_files
from ..config.loading import use_own_metrics
from ..config.own_sets import take_own_sets
from ..config.parts import SPLITS
from ..config.writing import import_formatter, readable
from ..console import IN_FILE_ALONE, quiet_standard_error, quieten
from ..data_checks.class_count import close_heads, count_classes, open_heads
from ..data_checks.class_names import (
    PERMISSION,
    check_class_names,
    class_names,
    name_difference,
    trained_names,
)
from ..data_checks.detection import check_detection_sets
from ..data_checks.labels import check_dataset, class_keys, single_labels
from ..data_checks.metrics import odd_metrics, wrong_metrics
from ..datasets.coco_format import drop_kept
from ..registry import RUNNERS
from .dry_pass import DryPassHook  # noqa: F401 - registered
from .foreign_weights import read_foreign_weights
from .hooks import HISTORY, RecordHook, check_finite_weights
from .logger_hook import LoggerHook  # noqa: F401 - registered
from .loops import EpochTrainLoop
from .optim import check_optimizer_fits
from .processes import open_group
from .reid_testing import with_persons
from .report import format_duration, format_metrics, format_table
from .resumable import ResumableRunner
from .training_step import explained, is_of_a_step

# mmengine's, by their names in a config.
DEFAULT_HOOKS = {
    'runtime_info': 'RuntimeInfoHook', 'timer': 'IterTimerHook',
    'sampler_seed': 'DistSamplerSeedHook', 'logger': 'LoggerHook',
    'param_scheduler': 'ParamSchedulerHook', 'checkpoint': 'CheckpointHook',
}  # fmt: skip
# Every training has these, whatever its config says.
OWN_HOOKS = (
    'ReseedHook', 'NonFiniteLossHook', 'RecordHook', 'DryPassHook', 'StopEarlyOnResumeHook',
    'ValidateOnResumeHook', 'FreedMemoryHook',
)  # fmt: skip
# With one of these the work begins.
BEGINNINGS = ('before_train_epoch', 'before_val_epoch', 'before_test_epoch')


def seed_worker(worker_id: int) -> None:
    """Seed a data loader worker from PyTorch's seed for it, which differs in each epoch.

    mmengine's own function seeds all epochs alike: the same augmentations again and again. A signal
    is the main process's affair: workers are ended by it.
    """
    seed = torch.initial_seed()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@RUNNERS.register_module()
class Runner(ResumableRunner):
    """Trains and tests what a config describes; see mmengine's runner for the arguments.

    Of the config it reads besides: ``trust_checkpoint`` (unpickle anything in checkpoint files),
    ``use_ema`` (False: start from, or test, weights without averaging where a checkpoint has both)
    and ``data_checks``: a dict of ``allow_empty_classes``, ``allow_unknown_categories``,
    ``allow_other_class_names`` (all False by default) and ``coco`` (True: check COCO- and
    VOC-style sets).

    Attributes:
        has_begun: Whether a training or test has begun: all was built, and what was tried is well.
    """

    def __init__(
        self, *args, work_dir: str, resume: bool = False, load_from: str | None = None, **kwargs
    ) -> None:
        cfg = kwargs.get('cfg') or {}
        self._trust = bool(cfg.get('trust_checkpoint', False))
        read_foreign_weights(self._trust)
        self._use_ema = bool(cfg.get('use_ema', True))
        self._data_checks = dict(cfg.get('data_checks') or {})
        self._notes: list[str] = []
        self._has_stepped = self.has_begun = False
        check_writable(work_dir, 'work_dir')
        import_formatter()
        if resume:
            by_epoch = 'max_iters' not in (kwargs.get('train_cfg') or {})
            hook = (kwargs.get('default_hooks') or {}).get('checkpoint')
            load_from = self._find_resume(work_dir, load_from, hook, by_epoch)
            resume = load_from is not None
            if resume:
                kwargs['randomness'] = self._resumed_randomness(kwargs.get('randomness'))
        elif load_from and '://' not in str(load_from):
            with naming_files({'load_from': load_from}, 'load_from'):
                self._content = read_checkpoint(load_from, trust=self._trust)
        super().__init__(*args, work_dir=work_dir, resume=resume, load_from=load_from, **kwargs)
        for note in self._notes:
            self.logger.info(note)

    # Set-up ----------------------------------------------------------------------------------

    def setup_env(self, env_cfg: dict) -> None:
        """mmengine's, with processes of our group; see :func:`open_group`."""
        open_group(self.launcher, env_cfg)
        super().setup_env(env_cfg)

    def build_model(self, model) -> torch.nn.Module:
        """mmengine's; numbers of persons or classes that are left open are the data set's."""
        if isinstance(model, dict):
            with building(self.cfg, 'train_dataloader'):
                given, model = model, with_persons(model, self._train_dataloader)
            if model is not given and 'model' in self.cfg:  # the config is written down
                self.cfg.model.num_classes = model['num_classes']
            if open_heads(model):
                model = self._with_classes(model)
        with building(self.cfg, 'model'):
            return super().build_model(model)

    def _init_model_weights(self) -> None:
        with building(self.cfg, 'model'):
            super()._init_model_weights()

    def _with_classes(self, model: dict) -> dict:
        """The model's config with the number of classes of what it is trained, or tested, on."""
        loaders = {f'{split}_dataloader': getattr(self, f'_{split}_dataloader') for split in SPLITS}
        key, loader = next((key, loader) for key, loader in loaders.items() if loader is not None)
        with building(self.cfg, key):
            classes = count_classes(loader, key)
        model = copy.deepcopy(model)
        for node in (model, self.cfg.get('model') or {}):  # the config is written down
            close_heads(node, classes)
        return model

    def build_visualizer(self, visualizer=None):
        with building(self.cfg, 'visualizer'):
            visualizer = super().build_visualizer(visualizer)
            if is_main_process():
                # What backends need, a package or an account, they look for at the first use.
                for backend in visualizer._vis_backends.values():
                    _ = backend.experiment
        return visualizer

    def build_optim_wrapper(self, optim_wrapper):
        if isinstance(optim_wrapper, Mapping):
            check_optimizer_fits(optim_wrapper.get('optimizer'), self.bare_model)
        with building(self.cfg, 'optim_wrapper'):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler):
        if isinstance(scheduler, list):
            scheduler = [part for place, part in enumerate(scheduler) if self._begins(part, place)]
        with building(self.cfg, 'param_scheduler'):
            return super().build_param_scheduler(scheduler)

    def _begins(self, schedule, place: int) -> bool:
        """Whether a schedule begins before the training ends; a line tells of one that does not."""
        if not isinstance(schedule, dict):
            return True
        by_epoch = schedule.get('by_epoch', True)
        end = self.max_epochs if by_epoch else self.max_iters
        begin = schedule.get('begin', 0)
        if not end or not is_number(begin) or begin < end:
            return True
        unit = 'epochs' if by_epoch else 'iterations'
        kind = str(type_path(schedule.get('type'))).rpartition('.')[2]
        self.logger.warning(
            f'param_scheduler[{place}] ({kind}) is left out: it begins after {begin} {unit}, the '
            f'training ends after {end}; more in the log'
        )
        self.logger.info(
            f'to have param_scheduler[{place}], lower its begin and the end of the schedule before '
            f'it (--cfg-options param_scheduler.{place}.begin=...)',
            extra=IN_FILE_ALONE,
        )
        return False

    def register_hooks(self, default_hooks=None, custom_hooks=None) -> None:
        with building(self.cfg, 'default_hooks', 'custom_hooks'):
            super().register_hooks(default_hooks, custom_hooks)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """mmengine's; what hooks build before a run, as an averaged model, is of the config."""
        if fn_name != 'before_run':
            self._has_stepped |= fn_name == 'after_train_iter'
            self.has_begun |= fn_name in BEGINNINGS
            super().call_hook(fn_name, **kwargs)
            return
        with building(self.cfg, 'custom_hooks', 'default_hooks'):
            super().call_hook(fn_name, **kwargs)

    @master_only
    def dump_config(self) -> None:
        """Write the config down so that it can be read again."""
        cfg, self.cfg = self.cfg, readable(self.cfg)
        try:
            super().dump_config()
        finally:
            self.cfg = cfg

    def _log_env(self, env_cfg: dict) -> None:
        with quiet_standard_error():  # mmengine asks a compiler for its version
            super()._log_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: torch.nn.Module):
        """On CPUs DDP takes no device ids, which mmengine always passes, and no SyncBatchNorm."""
        if not self.distributed or torch.cuda.is_available():
            return super().wrap_model(model_wrapper_cfg, model)
        unused = self.cfg.get('find_unused_parameters', False)
        wrapper = model_wrapper_cfg or {
            'broadcast_buffers': False,
            'find_unused_parameters': unused,
        }
        wrapper = {'type': 'MMDistributedDataParallel', **wrapper, 'device_ids': None}
        wanted = self.cfg.get('sync_bn')
        if wanted is None:
            return super().wrap_model(wrapper, revert_sync_batchnorm(model))
        self.logger.info(
            f'sync_bn={wanted!r} is left out: SyncBatchNorm does not run on CPUs; batch norms take '
            "the statistics of their own process's images"
        )
        self.cfg.sync_bn = None
        try:
            return super().wrap_model(wrapper, revert_sync_batchnorm(model))
        finally:  # the config that is written down is to serve on GPUs too
            self.cfg.sync_bn = wanted

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Quieter on the console than mmengine's; its file is in UTF-8 in any locale."""
        # Of the class by its name: mmengine takes none but those of logging.handlers.
        in_utf8 = {'type': 'WatchedFileHandler', 'mode': 'a', 'encoding': 'utf-8'}
        logger = super().build_logger(*args, **{'file_handler_cfg': in_utf8, **kwargs})
        quieten(logger)
        return logger

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Take our checkpoint hook for mmengine's, whose order of writing loses checkpoints, and
        our logger hook, which is not silent for long."""
        hooks = copy.deepcopy(hooks or {})
        for name in ('checkpoint', 'logger'):
            hooks.setdefault(name, {'interval': 1} if name == 'checkpoint' else {})
        for name, kind in DEFAULT_HOOKS.items():  # an override may be the first word of a hook
            if isinstance(hooks.get(name), dict):
                hooks[name].setdefault('type', kind)
        for name, replaced in (('checkpoint', _CheckpointHook), ('logger', _LoggerHook)):
            hook = hooks[name]
            if isinstance(hook, dict) and node_class(root.HOOKS, hook) is replaced:
                hook['type'] = f'effvit_mm.{replaced.__name__}'
        super().register_default_hooks(hooks)
        for name in OWN_HOOKS:
            self.register_hook({'type': f'effvit_mm.{name}'})
        if self.distributed:
            # Each process has seen other images: without this, each would be validated with batch
            # statistics of its own, and a resumed one would go on with those of the first.
            self.register_hook({'type': 'mmengine.SyncBuffersHook'})

    @staticmethod
    def build_dataloader(dataloader, seed: int | None = None, diff_rank_seed: bool = False):
        """mmengine's, with workers seeded anew for each epoch."""
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            if seed is not None and not dataloader.get('num_workers'):
                dataloader.pop('persistent_workers', None)  # PyTorch refuses it without workers
            dataloader.setdefault('worker_init_fn', {'type': seed_worker})
        loader = _Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if hasattr(loader.sampler, 'check_batch_size'):  # it plans whole batches
            loader.sampler.check_batch_size(loader.batch_size)
        return loader

    def build_train_loop(self, loop):
        if isinstance(self._train_dataloader, dict):
            # Persistent workers carry their generators from epoch to epoch: no exact resume.
            self._train_dataloader = {**self._train_dataloader, 'persistent_workers': False}
        return self._build_loop('train', super().build_train_loop, loop)

    def build_val_loop(self, loop):
        return self._build_loop('val', super().build_val_loop, loop)

    def build_test_loop(self, loop):
        return self._build_loop('test', super().build_test_loop, loop)

    def _build_loop(self, split: str, build: Callable, loop):
        """Check the data, then build loader and evaluator ahead of mmengine, which names no key."""
        key, judge = f'{split}_dataloader', f'{split}_evaluator'
        loader, evaluator = getattr(self, f'_{key}'), getattr(self, f'_{judge}', None)
        # A config that did not come through `load_config` names mmdet's.
        use_own_metrics({'default_scope': self.default_scope.scope_name, judge: evaluator})
        if isinstance(loader, dict):
            take_own_sets(loader)
            with naming_files(self.cfg, key):
                check_detection_sets(loader, key, self._data_checks, evaluator)
            ranks_differ = self._randomness_cfg.get('diff_rank_seed', False)
            with building(self.cfg, key):
                loader = self.build_dataloader(loader, self.seed, ranks_differ)
            drop_kept()
            setattr(self, f'_{key}', loader)
        if isinstance(evaluator, dict | list):
            with building(self.cfg, judge):
                setattr(self, f'_{judge}', self.build_evaluator(evaluator))
        with building(self.cfg, f'{split}_cfg'):
            loop = build(with_own_loop(loop) if split == 'train' else loop)
        allow_empty = split != 'train' or self._data_checks.get('allow_empty_classes')
        check_dataset(loop.dataloader.dataset, self.bare_model, key, bool(allow_empty))
        self._check_metrics(evaluator, judge, loop.dataloader.dataset)
        return loop

    def _check_metrics(self, evaluators: object, key: str, dataset: Any) -> None:
        names = class_names(dataset)
        for line in wrong_metrics(evaluators, key, len(names)) if names else ():
            raise ConfigError(line)
        lines = list(odd_metrics(evaluators, key))
        if lines and single_labels(dataset) is not None:
            self.logger.warning(lines[0])

    # Checkpoints -------------------------------------------------------------------------------

    @property
    def bare_model(self) -> torch.nn.Module:
        """The model without DDP around it."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def save_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        """Write a checkpoint that is there as a whole or not at all, of finite weights."""
        # Not on the main process alone: all have the same weights, and all have to stop.
        hooks = (hook for hook in self.hooks if isinstance(hook, _CheckpointHook))
        last = next((hook.last_ckpt for hook in hooks), None)
        check_finite_weights(self.bare_model, Path(out_dir) / filename, last)
        self._write_checkpoint(out_dir, filename, *args, **kwargs)

    @master_only
    def _write_checkpoint(self, out_dir: str, filename: str, *args, **kwargs) -> None:
        if '://' in str(out_dir):  # object stores put objects as a whole
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        with written_atomically(Path(out_dir) / filename):
            super().save_checkpoint(out_dir, temporary_name(filename), *args, **kwargs)

    def load_checkpoint(self, filename: str, map_location='cpu', strict: bool = False, **_) -> dict:
        """Load weights safely; say how much matched; refuse another model's checkpoint.

        To resume and to test everything must fit. To start a training from pretrained weights
        another number of classes is the usual case: those tensors are left out, and named.
        """
        content = self._content or read_checkpoint(filename, trust=self._trust)
        self._content = None
        if self._resume and not any(isinstance(hook, EMAHook) for hook in self.hooks):
            content = self._without_average(content)
        training = self._train_loop is not None and not isinstance(self._train_loop, dict)
        model = getattr(self.bare_model, 'module', self.bare_model)  # test-time augmentation
        report = fit_checkpoint(
            model,
            # mmengine's own state_dict is what a training goes on with, whatever is averaged.
            {'state_dict': content['state_dict']} if self._resume else content,
            source=f'checkpoint {filename}',
            require='exact' if self._resume else 'some' if training else 'all',
            use_ema=self._use_ema,
            classes=class_keys(model),
        )
        self._compare_class_names(content, report, training and not self._resume)
        # Hooks get the model's names and sizes: a new average begins with what is loaded.
        content = {**content, 'state_dict': report.state}
        if training and not self._resume:
            content.pop('ema_state_dict', None)
        elif 'ema_state_dict' in content:  # a re-ID model is tested without its classifier
            average = content['ema_state_dict'].items()
            content['ema_state_dict'] = {
                name: value
                for name, value in average
                if not name.startswith('module.') or name[len('module.') :] in report.state
            }
        self.call_hook('after_load_checkpoint', checkpoint=content)
        model.load_state_dict(content['state_dict'], strict=False)
        self._has_loaded = True
        self.logger.info(str(report))
        return content

    def _compare_class_names(self, content: dict, report: LoadReport, begins: bool) -> None:
        """To resume and to test labels must mean the same; a training that begins is told."""
        for split in ('train', 'val', 'test'):
            loop = getattr(self, f'_{split}_loop')
            if not hasattr(loop, 'dataloader'):  # not built: not what runs now
                continue
            dataset = loop.dataloader.dataset
            if not begins and not self._data_checks.get(PERMISSION):
                check_class_names(content, dataset, f'{split}_dataloader', report.source)
            elif difference := name_difference(trained_names(content), class_names(dataset)):
                report.notes.append(f'trained for {difference}')
            return

    # Running -----------------------------------------------------------------------------------

    def train(self) -> torch.nn.Module:
        self.logger.info(
            f'training in {_short_path(self.work_dir)}: seed {self.seed}, {self.world_size} '
            f'process{"es" if self.world_size > 1 else ""} on {get_device()}, '
            f'log {_short_path(self.logger.log_file or "none")}'
        )
        try:
            model = super().train()
        except BUILD_ERRORS as error:
            if not is_of_a_step(error):
                raise
            when = f'in epoch {self.epoch + 1}, iteration {self.iter + 1}'
            when = when if self._has_stepped else None
            raise explained(error, self.bare_model, {}, 'train', self.cfg, when) from error
        self._report_training()
        return model

    @master_only
    def _report_training(self) -> None:
        hub = self.message_hub.runtime_info
        validated = [entry for entry in hub.get(HISTORY, []) if 'metrics' in entry]
        rows = [('final', format_metrics(validated[-1]['metrics']))] if validated else []
        best = hub.get('best_ckpt')
        if best and 'best_score' in hub:
            when = ' '.join(Path(best).stem.split('_')[-2:])  # best_<metric>_epoch_3.pth
            rows.append(('best', f'{float(hub["best_score"]):.4g} at {when}'))
            rows.append(('best weights', _short_path(best)))
        record = next(hook for hook in self.hooks if isinstance(hook, RecordHook))
        rows += [
            ('time', format_duration(record.elapsed)),
            ('last weights', _short_path(hub.get('last_ckpt', 'none'))),
            ('log', _short_path(self.logger.log_file or 'none')),
            ('curves', _short_path(Path(self.work_dir) / 'curves.png')),
        ]
        self.logger.info(format_table('training done', rows))


def with_own_loop(loop: Any) -> Any:
    """The config of a training loop, ours for mmengine's that goes by epochs."""
    if not isinstance(loop, Mapping):
        return loop
    kind = node_class(root.LOOPS, loop) if 'type' in loop else None
    if kind is EpochBasedTrainLoop or (kind is None and loop.get('by_epoch')):
        return {**{k: v for k, v in loop.items() if k != 'by_epoch'}, 'type': EpochTrainLoop}
    return loop


def build_runner(cfg: Config) -> _Runner:
    """The runner that the config names, with what it builds at once."""
    if not callable(find_class(root.RUNNERS, cfg.runner_type)):
        raise ConfigError(
            f"runner_type={type_path(cfg.runner_type)!r}: no such runner; use 'effvit_mm.Runner'"
        )
    return root.RUNNERS.build(cfg)


def _short_path(path: str | Path) -> str:
    """Relative where the file lies below the current folder."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
