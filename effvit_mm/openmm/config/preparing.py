"""What the flags of ``tools/train.py`` and ``tools/test.py`` mean for a config."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping
from pathlib import Path

import mmengine.registry as root
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from ...errors import ConfigError
from ...utils.files import check_writable
from ...weights.checkpoint import no_such_file
from .arguments import find_class, has_type, metric_nodes, type_path
from .checks import check_config
from .extras import add_loggers, stop_early
from .loading import load_config
from .options import split_option

PLAIN_WRAPPER, GPU_WRAPPER = 'mmengine.OptimWrapper', 'mmengine.AmpOptimWrapper'
CPU_WRAPPER = 'effvit_mm.CPUAmpOptimWrapper'
COCO_METRICS, COCO_LIMITS = ('CocoMetric', 'FasterCocoMetric'), (1, 10, 100)
OUT_SUFFIXES, FEATURE_SUFFIXES = ('.pkl', '.pickle', '.json'), ('.npz', '.parquet')
# Zhong et al.'s, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
RERANK = {'k1': 20, 'k2': 6, 'lambda_value': 0.3}
NUM_RANK_LISTS = 8


def prepare_training(args: argparse.Namespace) -> Config:
    """The config of a training, complete and checked."""
    cfg = load_config(args.config, args.cfg_options)
    _complete(cfg, args)
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
    if pairs := cfg.train_cfg.get('dynamic_intervals'):  # lists, in JSON and as overrides
        cfg.train_cfg.dynamic_intervals = [tuple(pair) for pair in pairs]
    _choose_precision(cfg, args.amp)
    add_loggers(cfg, args)
    if args.early_stopping is not None:
        stop_early(cfg, args.early_stopping)
    return cfg


def prepare_testing(args: argparse.Namespace) -> Config:
    """The config of a test, complete and checked."""
    if not Path(args.checkpoint).is_file() and '://' not in args.checkpoint:
        raise ConfigError(no_such_file(args.checkpoint))
    cfg = load_config(args.config, args.cfg_options)
    _complete(cfg, args)
    cfg.load_from, cfg.resume = args.checkpoint, False
    reid = is_reid(cfg)
    if args.out is not None:
        _check_out(args.out, reid)
    if args.rerank and not reid:
        raise ConfigError('--rerank: the config is not for re-identification')
    check_config(cfg, training=False)
    use_coco_limits(cfg)
    if reid:
        _prepare_reid_test(cfg, args)
    if args.show_dir is not None:
        if args.show_number is not None and args.show_number < 1:
            raise ConfigError(f'--show-number {args.show_number}: 1 or more is needed')
        check_writable(args.show_dir, '--show-dir')
        if not reid:  # rank lists are drawn when all features are known
            cfg.setdefault('default_hooks', ConfigDict()).visualization = {
                'type': 'effvit_mm.DrawPredictionsHook',
                'folder': str(Path(args.show_dir).absolute()),
                'number': args.show_number,
            }
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


def _complete(cfg: Config, args: argparse.Namespace) -> None:
    """What training and testing share."""
    for key, text in map(split_option, args.cfg_options):
        if key == 'launcher' and text != args.launcher:
            raise ConfigError(
                f'--cfg-options launcher={text}: has no effect; use the flag --launcher'
            )
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
    kind = wrapper.get('type', PLAIN_WRAPPER)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        given, plain, gpu, cpu = (
            find_class(root.OPTIM_WRAPPERS, name)
            for name in (kind, PLAIN_WRAPPER, GPU_WRAPPER, CPU_WRAPPER)
        )
    if not amp and given is not gpu:
        return
    if given not in (plain, gpu, cpu):
        raise ConfigError(
            f'--amp: optim_wrapper.type={type_path(kind)!r} has no mixed-precision counterpart'
        )
    if torch.cuda.is_available():
        wrapper.type = GPU_WRAPPER
    else:
        wrapper.type = CPU_WRAPPER
        for key in ('loss_scale', 'use_fsdp'):
            wrapper.pop(key, None)


def use_coco_limits(cfg: Config) -> None:
    """Count up to 1, 10 and 100 detections an image and class, as COCO does.

    mmdet's metric takes limits for proposals by default, and AP50 of up to 1,000 detections.
    """
    for _, evaluator in metric_nodes(cfg.get('test_evaluator')):
        kinds = evaluator.get('metric', 'bbox')
        kinds = [kinds] if isinstance(kinds, str) else kinds
        is_coco = any(has_type(evaluator, name) for name in COCO_METRICS)
        if is_coco and set(kinds) <= {'bbox', 'segm'}:
            evaluator.setdefault('proposal_nums', COCO_LIMITS)


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


def is_reid(cfg: Mapping) -> bool:
    """Whether a config's model is for re-identification."""
    model = cfg.get('model')
    wrapped = model.get('module') if isinstance(model, Mapping) else None  # by augmentation
    return has_type(model, 'ReIDModel') or has_type(wrapped, 'ReIDModel')


def _prepare_reid_test(cfg: Config, args: argparse.Namespace) -> None:
    # Persons of the training have no part in a test, which may be on another set.
    cfg.model.num_classes = None
    metrics = [n for _, n in metric_nodes(cfg.get('test_evaluator')) if has_type(n, 'ReIDMetric')]
    if not metrics:
        raise ConfigError("test_evaluator: dict(type='effvit_mm.ReIDMetric') is needed")
    for node in metrics:
        if args.rerank:
            node['rerank'] = node.get('rerank') or dict(RERANK)
        if args.show_dir is not None:
            node['num_lists'] = args.show_number or NUM_RANK_LISTS
