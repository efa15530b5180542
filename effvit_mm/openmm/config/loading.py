"""From a command line to a checked config and a runner."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import RUNNERS

from ...errors import ConfigError
from ...utils.files import check_writable
from ..console import import_quietly
from ..engine.reid_testing import FEATURE_SUFFIXES, is_reid, prepare_test
from ..engine.runner import Runner
from .checks import check_config, check_override
from .data_root import (
    NAMES,
    evaluated_files,
    follow_annotation_files,
    spread_data_root,
    spread_names,
)
from .evaluators import use_own_metrics

AMP_WRAPPERS = {
    'OptimWrapper', 'AmpOptimWrapper', 'mmengine.OptimWrapper', 'mmengine.AmpOptimWrapper',
    'effvit_mm.CPUAmpOptimWrapper', 'CPUAmpOptimWrapper',
}  # fmt: skip
CPU_WRAPPER = 'effvit_mm.CPUAmpOptimWrapper'
COCO_METRICS, COCO_LIMITS = ('CocoMetric', 'FasterCocoMetric'), (1, 10, 100)
OUT_SUFFIXES = ('.pkl', '.pickle', '.json')


def load_config(path: str, overrides: Sequence[str]) -> Config:
    """Read a config file and apply ``key=value`` overrides.

    Raises:
        ConfigError: The file is missing or no config; an override is malformed or names a key that
            there cannot be.
    """
    if not Path(path).is_file():
        raise ConfigError(f'config {path}: no such file')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ConfigError(f'config {path}: a .py, .json or .yaml file is needed')
    try:
        cfg = Config.fromfile(path)
    except SyntaxError as error:
        raise ConfigError(
            f'config {path}, line {error.lineno}: {error.msg}: {(error.text or "").strip()}'
        ) from error
    except Exception as error:  # a config is a program: it can raise anything
        text = ' '.join(str(error).split())
        raise ConfigError(f'config {path}: {type(error).__name__}: {text}') from error
    import_quietly(cfg.get('default_scope', 'mmengine'))
    data_root, annotation_files = cfg.get('data_root'), evaluated_files(cfg)
    names = {name: cfg.get(name) for name in NAMES}
    for key, value in parse_overrides(overrides).items():
        check_override(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
            text = ' '.join(str(error.args[0] if error.args else error).split())
            raise ConfigError(f'--cfg-options {key}={value}: {text}') from error
    spread_data_root(cfg, data_root)
    spread_names(cfg, names)
    follow_annotation_files(cfg, annotation_files)
    use_own_metrics(cfg)
    return cfg


def parse_overrides(overrides: Sequence[str]) -> dict:
    """``['a.b=1']`` to ``{'a.b': 1}``, with mmengine's rules for values."""
    result = {}
    for item in overrides:
        key, separator, value = item.partition('=')
        if not separator or not key:
            raise ConfigError(f'--cfg-options {item}: KEY=VALUE is needed')
        try:
            result[key] = DictAction._parse_iterable(value)
        except AssertionError as error:
            raise ConfigError(f'--cfg-options {item}: brackets do not match') from error
    return result


def prepare_training(args: argparse.Namespace) -> Config:
    """The config of a training, complete and checked."""
    cfg = load_config(args.config, args.cfg_options)
    _common(cfg, args)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.seed is not None:
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': args.seed}
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise ConfigError(
                '--auto-scale-lr: the config has no auto_scale_lr=dict(base_batch_size=...)'
            )
        cfg.auto_scale_lr.enable = True
    check_config(cfg, training=True)
    _choose_precision(cfg, args.amp)
    _check_save_best(cfg)
    return cfg


def prepare_testing(args: argparse.Namespace) -> Config:
    """The config of a test, complete and checked."""
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        raise ConfigError(f'checkpoint {args.checkpoint}: no such file')
    cfg = load_config(args.config, args.cfg_options)
    _common(cfg, args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    reid = is_reid(cfg)
    if args.out is not None:
        _check_out(args.out, reid)
    if args.rerank and not reid:
        raise ConfigError('--rerank: the config is not for re-identification')
    check_config(cfg, training=False)
    use_coco_limits(cfg)
    if reid:
        prepare_test(cfg, args)
    if args.show_dir is not None:
        if args.show_number is not None and args.show_number < 1:
            raise ConfigError(f'--show-number {args.show_number}: 1 or more is needed')
        check_writable(args.show_dir, '--show-dir')
        if not reid:  # rank lists are drawn when all features are known
            _enable_drawing(cfg, args.show_dir, args.show_number)
    if args.tta:
        _enable_tta(cfg)
    # Only what tests is built: a training's data or pretrained weights need not be there.
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'val_cfg',
                'val_dataloader', 'val_evaluator'):  # fmt: skip
        cfg[key] = None
    return cfg


def _check_out(out: str, reid: bool) -> None:
    suffixes = FEATURE_SUFFIXES if reid else OUT_SUFFIXES
    if not out.endswith(suffixes):
        raise ConfigError(
            f'--out {out}: a name ending in {" or ".join((suffixes[0], suffixes[-1]))} is needed'
        )
    check_writable(Path(out).parent, f'--out {out}')


def build_runner(cfg: Config) -> Runner:
    """Our runner, or the one that the config names."""
    return RUNNERS.build(cfg) if cfg.get('runner_type') else Runner.from_cfg(cfg)


def _common(cfg: Config, args: argparse.Namespace) -> None:
    cfg.launcher = args.launcher
    if args.trust_checkpoint:
        cfg.trust_checkpoint = True
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    if cfg.get('runner_type') is None:
        cfg.runner_type = 'effvit_mm.Runner'
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if not isinstance(loader, dict):
            continue
        if torch.cuda.is_available():
            loader.setdefault('pin_memory', True)
        if cfg.get('default_scope') == 'mmpretrain':  # as mmpretrain's own tools do
            loader.setdefault('collate_fn', {'type': 'default_collate'})


def _choose_precision(cfg: Config, amp: bool) -> None:
    """Mixed precision where asked for, by the wrapper that the machine can use."""
    wrapper = cfg.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    wanted = amp or kind in ('AmpOptimWrapper', 'mmengine.AmpOptimWrapper')
    if not wanted:
        return
    if kind not in AMP_WRAPPERS:
        raise ConfigError(f'--amp: optim_wrapper.type={kind!r} has no mixed-precision counterpart')
    if torch.cuda.is_available():
        wrapper.type = 'AmpOptimWrapper'
    else:
        wrapper.type = CPU_WRAPPER
        for key in ('loss_scale', 'use_fsdp'):
            wrapper.pop(key, None)


def _check_save_best(cfg: Config) -> None:
    """A metric that no evaluator can give is known by its prefix."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    names = hook.get('save_best')
    if not names or cfg.get('val_evaluator') is None:
        return
    import mmengine.registry as root
    from mmengine.registry import DefaultScope

    from .arguments import find_class

    evaluators = cfg.val_evaluator
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    prefixes = set()
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        for evaluator in evaluators:
            metric = find_class(root.METRICS, evaluator['type']) if 'type' in evaluator else None
            prefix = evaluator.get('prefix') or getattr(metric, 'default_prefix', None)
            if prefix is None:
                return  # its names are known only after an evaluation
            prefixes.add(prefix)
    for name in [names] if isinstance(names, str) else names:
        if name != 'auto' and name.split('/')[0] not in prefixes:
            raise ConfigError(
                f'default_hooks.checkpoint.save_best={name!r}: the metrics of val_evaluator begin '
                f"with {', '.join(f'{p}/' for p in sorted(prefixes))} ('auto' takes the first)"
            )


def use_coco_limits(cfg: Config) -> None:
    """Count up to 1, 10 and 100 detections an image and class, as COCO does.

    mmdet's metric takes limits for proposals by default, and AP50 of up to 1,000 detections.
    """
    evaluators = cfg.get('test_evaluator')
    for evaluator in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        if not isinstance(evaluator, dict) or not isinstance(evaluator.get('type'), str):
            continue
        kinds = evaluator.get('metric', 'bbox')
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if evaluator['type'].split('.')[-1] in COCO_METRICS and set(kinds) <= {'bbox', 'segm'}:
            evaluator.setdefault('proposal_nums', COCO_LIMITS)


def _enable_drawing(cfg: Config, folder: str, number: int | None) -> None:
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hooks.visualization = {
        'type': 'effvit_mm.DrawPredictionsHook',
        'folder': str(Path(folder).absolute()),
        'number': number,
    }


def _enable_tta(cfg: Config) -> None:
    """The config's own test-time augmentation, or the mean over a flip, but for detection."""
    pipeline = cfg.test_dataloader.dataset.get('pipeline')
    if ('tta_model' in cfg) != ('tta_pipeline' in cfg):
        raise ConfigError('--tta: the config has only one of tta_model and tta_pipeline')
    if 'tta_model' not in cfg:
        if cfg.get('default_scope') != 'mmpretrain' or not pipeline:
            raise ConfigError('--tta: the config has no tta_model and tta_pipeline')
        mean = 'effvit_mm.AverageFeatureTTA' if is_reid(cfg) else 'mmpretrain.AverageClsScoreTTA'
        cfg.tta_model = {'type': mean}
        flips = [{'type': 'RandomFlip', 'prob': float(p)} for p in (1, 0)]
        branches = [flips, [copy.deepcopy(pipeline[-1])]]
        cfg.tta_pipeline = [*pipeline[:-1], {'type': 'TestTimeAug', 'transforms': branches}]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
