"""A trained model of a config and a checkpoint, and the test pipeline, without the data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, DefaultScope
from torch import nn

from ..errors import CheckpointError, ConfigError, UserError
from ..weights import load_checkpoint, read_checkpoint
from .config.arguments import find_class
from .config.building import building, one_line
from .config.preparing import is_reid
from .data_checks.class_count import close_heads, count_classes, open_heads
from .data_checks.labels import class_keys, head_classes


class Labels(NamedTuple):
    """Names of the classes, and their colours where they are known."""

    classes: tuple[str, ...]
    palette: Sequence | None = None


def build_detector(
    cfg: Config, name: str, checkpoint: str | Path | None = None, trust: bool = False
) -> nn.Module:
    """The detector of a config with random weights; pretrained ones are not looked for.

    Args:
        cfg: The config; its backbone's ``init_cfg`` is taken out.
        name: How messages call it.
        checkpoint: Whose number of classes the model gets where the config leaves it open; where
            it names none, and without one, it is that of the config's data set.
        trust: Read a checkpoint that holds more than weights.

    Raises:
        ConfigError: It is no config of a detector, or the number of classes cannot be known.
    """
    _check_kind(cfg, name, 'detector', 'mmdet', ('backbone',))
    return _build_without_weights(cfg, name, checkpoint, trust)


def build_classifier(
    cfg: Config, name: str, checkpoint: str | Path | None = None, trust: bool = False
) -> nn.Module:
    """The classifier of a config with random weights; pretrained ones are not looked for.

    Args:
        cfg: The config; its backbone's ``init_cfg`` is taken out.
        name: How messages call it.
        checkpoint: Whose number of classes the model gets where the config leaves it open; where
            it names none, and without one, it is that of the config's data set.
        trust: Read a checkpoint that holds more than weights.

    Raises:
        ConfigError: It is no config of a classifier, or the number of classes cannot be known.
    """
    _check_kind(cfg, name, 'classifier', 'mmpretrain', ('backbone', 'head'))
    return _build_without_weights(cfg, name, checkpoint, trust)


def _check_kind(cfg: Config, name: str, kind: str, scope: str, parts: Sequence[str]) -> None:
    """Configs of a ``kind`` of model have this ``default_scope`` and these parts."""
    model = cfg.get('model') or {}
    if cfg.get('default_scope') != scope or any(part not in model for part in parts):
        needed = ' and '.join(f'model.{part}' for part in parts)
        raise ConfigError(f'config {name}: a {kind} is needed (default_scope "{scope}", {needed})')


def _build_without_weights(
    cfg: Config, name: str, checkpoint: str | Path | None, trust: bool
) -> nn.Module:
    model = cfg.model
    model.backbone.pop('init_cfg', None)
    model.pop('init_cfg', None)
    find_classes(cfg, name, checkpoint, trust)
    return _build(model, cfg)


def find_classes(
    cfg: Config, name: str, checkpoint: str | Path | None = None, trust: bool = False
) -> None:
    """Give heads that leave their number of classes open that of a checkpoint or the data set.

    Args:
        cfg: The config; numbers are put into its model.
        name: How messages call it.
        checkpoint: Asked first: it may name classes.
        trust: Read a checkpoint that holds more than weights.

    Raises:
        ConfigError: The data set of the test loader cannot be asked either.
    """
    key = next(iter(open_heads(cfg.model)), None)
    if key is None:
        return
    content = {} if checkpoint is None else read_checkpoint(checkpoint, trust=trust)
    described = (content.get('meta') or {}).get('dataset_meta') or {}
    classes = {name.lower(): value for name, value in described.items()}.get('classes')
    if isinstance(classes, list | tuple):
        close_heads(cfg.model, len(classes))
        return
    loader = cfg.get('test_dataloader') or {}
    try:
        with _quiet_scope(cfg.get('default_scope', 'mmpretrain')):
            close_heads(cfg.model, count_classes(loader, 'test_dataloader'))
    except (UserError, LookupError) as error:
        raise ConfigError(
            f'config {name}: {key}.num_classes is open, no checkpoint names classes, and the data '
            f'set cannot be asked ({one_line(error)}): give --cfg-options {key}.num_classes=N'
        ) from error


def _build(model: dict[str, Any], cfg: Config) -> nn.Module:
    """As mmengine's runner builds it, but without a word, and with norms of a single process."""
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    scope = cfg.get('default_scope', 'mmpretrain')
    with _quiet_scope(scope), building({'model': model, 'default_scope': scope}, 'model'):
        return revert_sync_batchnorm(MODELS.build(model))


def build_reid(cfg: Config, name: str) -> nn.Module:
    """The re-ID model of a config with random weights, without what is for training alone.

    Args:
        cfg: The config.
        name: How messages call it.

    Raises:
        ConfigError: It is no config of a re-ID model.
    """
    if not is_reid(cfg):
        raise ConfigError(
            f'config {name}: a re-ID model is needed (model.type "effvit_mm.ReIDModel")'
        )
    model = dict(cfg.model, classifier=None, metric_loss=None, num_classes=None, init_cfg=None)
    model['backbone'] = {k: v for k, v in model['backbone'].items() if k != 'init_cfg'}
    return _build(model, cfg)


def load_trained(model: nn.Module, checkpoint: str | Path, trust: bool = False) -> Mapping:
    """Load all weights of a detector or re-ID model; gives the checkpoint's ``meta``.

    Raises:
        CheckpointError: The file cannot be read, has another number of classes, or is of another
            model.
    """
    return load_checkpoint(
        model,
        checkpoint,
        source=f'checkpoint {checkpoint}',
        require='all',
        trust=trust,
        classes=class_keys(model),
    ).meta


def find_labels(cfg: Config, meta: Mapping, model: nn.Module) -> Labels:
    """Names of a detector's classes: the checkpoint's, the config's, its data set's, or numbers.

    Args:
        cfg: Whose test set names classes, by ``metainfo`` or by its type.
        meta: Of the checkpoint.
        model: Whose head has the number of classes.

    Raises:
        CheckpointError: The checkpoint names another number of classes than the model has.
    """
    count = head_classes(model)
    dataset = test_dataset(cfg)
    with _quiet_scope():
        cls = find_class(DATASETS, dataset['type']) if 'type' in dataset else None
    descriptions = (
        meta.get('dataset_meta') or {},
        dataset.get('metainfo') or {},
        getattr(cls, 'METAINFO', None) or {},
    )
    for index, description in enumerate(descriptions):
        metainfo = {key.lower(): value for key, value in description.items()}
        classes = metainfo.get('classes')
        if not isinstance(classes, list | tuple):
            continue
        if count is None or len(classes) == count:
            return Labels(tuple(map(str, classes)), metainfo.get('palette'))
        if index == 0:
            raise CheckpointError(
                f'the checkpoint names {len(classes)} classes, the model has {count}'
            )
    return Labels(tuple(map(str, range(count or 0))))


def test_dataset(cfg: Config) -> Mapping[str, Any]:
    """The innermost data set of the config's test loader; empty where there is none."""
    return innermost_dataset((cfg.get('test_dataloader') or {}).get('dataset') or {})


def innermost_dataset(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a data set within wrappers that repeat it or join it, as first, with others."""
    while 'dataset' in node or node.get('datasets'):
        node = node['dataset'] if 'dataset' in node else node['datasets'][0]
    return node


def build_pipeline(cfg: Config) -> tuple[Callable[[dict], dict], Callable[[dict], dict]]:
    """What reads an image file, and all that follows without annotations.

    Raises:
        ConfigError: There is no test pipeline, or it does not begin with reading a file.
    """
    from mmcv.transforms import LoadAnnotations, LoadImageFromFile

    built = build_transforms(cfg)
    if not isinstance(built[0], LoadImageFromFile):
        raise ConfigError(
            f'test_dataloader.dataset.pipeline[0] ({type(built[0]).__name__}): a transform that '
            "reads an image is needed, as dict(type='effvit_mm.LoadImage')"
        )
    return built[0], Compose([step for step in built[1:] if not isinstance(step, LoadAnnotations)])


def pipeline_of_tests(cfg: Config) -> Sequence[Mapping]:
    """The steps of the config's test pipeline; none where there is none."""
    return test_dataset(cfg).get('pipeline') or cfg.get('test_pipeline') or ()


def build_transforms(cfg: Config) -> list[Callable[[dict], dict]]:
    """The transforms of the config's test pipeline.

    Raises:
        ConfigError: There is none.
    """
    steps = pipeline_of_tests(cfg)
    if not steps:
        raise ConfigError('test_dataloader.dataset.pipeline is missing')
    with _quiet_scope(cfg.get('default_scope', 'mmdet')):
        return [TRANSFORMS.build(step) for step in steps]


@contextmanager
def _quiet_scope(scope: str = 'mmdet') -> Iterator[None]:
    """A package's names; what a registry imports meanwhile may print, which nobody sees."""
    with DefaultScope.overwrite_default_scope(scope), redirect_stdout(StringIO()):
        yield


def find_device(name: str | None) -> torch.device:
    """The device of this name; CUDA where there is one without a name.

    Raises:
        ConfigError: There is no such device.
    """
    try:
        device = torch.device(name or get_device())
    except RuntimeError as error:  # which lists all that PyTorch was ever brought to
        raise ConfigError(f'device {name!r}: cpu, cuda, cuda:1 and so on are allowed') from error
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split('\n')[0]
        raise ConfigError(f'device {name!r} cannot be used: {reason}') from error
