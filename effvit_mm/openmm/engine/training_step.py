"""A training step tried before the work, and what to say of a model that cannot do its part."""

from __future__ import annotations

import copy
import re
import traceback
import warnings
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.model import BaseDataPreprocessor, BaseModel, revert_sync_batchnorm
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import ConfigError, DataError, ImageSizeError, UserError
from ..config.arguments import has_type, items_within
from ..config.building import BUILD_ERRORS, one_line, typed_parts
from ..config.names import places_of
from ..data_checks.pipelines import load_sample
from ..error_messages import as_user_error
from .hooks import batch_files

KEY = 'train_dataloader'
GLOO = 'gloo/transport'  # in what it says of a lost connection, a plain RuntimeError
FED_BY_BACKBONE = ('model.head', 'model.neck')
# What PyTorch says of an input that is not as wide as a layer was made for.
OTHER_WIDTH = re.compile(
    r'cannot be multiplied \(\d+x(?P<linear>\d+) and (?P<rows>\d+)x\d+\)'
    r'|to have (?P<channels>\d+) channels, but got (?P<given>\d+) channels'
)


def check_training_step(runner) -> None:
    """Raise where the model cannot be trained on its first images, or on a last batch of one."""
    if smallest_batch(runner.train_dataloader) == 1:
        check_last_batch(runner)
    elif get_world_size() == 1:
        try_first_batch(runner)


def try_first_batch(runner) -> None:
    """Forward pass and loss of three images; of the whole batch where three are too few.

    A loss of triplets wants two images of one person, which come first in a batch, and another.
    """
    if getattr(type(runner.bare_model), 'train_step', None) is not BaseModel.train_step:
        return  # it does something else in a step
    batch = first_batch(runner.train_dataloader)
    if not batch:
        return
    try:
        model = _model_for_trials(runner)
    except (RuntimeError, TypeError):  # it holds what cannot be copied: its first step will tell
        return
    few = [*batch[:2], *batch[2:][-1:]]
    try:
        _try_step(runner, model, few)
    except BUILD_ERRORS:
        if few == batch:
            raise
        _try_step(runner, model, batch)


def first_batch(loader) -> list[int]:
    """The images of a batch as the first could be; none where only drawing one would tell."""
    if isinstance(loader.sampler, InfiniteSampler):  # any images in any order
        return list(range(min(_batch_size(loader) or 0, len(loader.dataset))))
    try:
        sampler = copy.deepcopy(loader.batch_sampler, {id(loader.dataset): loader.dataset})
    except TypeError:  # it holds a generator, which a batch would be missing from
        return []
    return list(next(iter(sampler or ()), ()))


def _try_step(runner, model: torch.nn.Module, indices: Sequence[int]) -> None:
    loader = runner.train_dataloader
    batch = loader.collate_fn([load_sample(loader.dataset, index, KEY) for index in indices])
    try:
        with warnings.catch_warnings(), torch.no_grad(), runner.optim_wrapper.optim_context(model):
            warnings.simplefilter('ignore')  # of what needs gradients
            losses = _forward(model, batch, 'loss')
        model.parse_losses(losses)
    except BUILD_ERRORS as error:
        raise explained(error, model, batch, 'train', runner.cfg) from error
    _check_finite(runner, losses, batch)


def _check_finite(runner, losses: Mapping, batch: Any) -> None:
    """Raise where a loss is infinite or NaN, but in float16, whose range is small."""
    if getattr(runner.optim_wrapper, 'loss_scaler', None) is not None:
        return
    for name, value in losses.items():
        values = value if isinstance(value, list | tuple) else [value]
        broken = [v for v in (each.mean().item() for each in values) if not isfinite(v)]
        if 'loss' in name and broken:
            raise UserError(
                f"the model's {name} is {broken[0]} for the first images of {KEY} "
                f'({batch_files(batch)}); look at them, at the settings of this loss, and at mean '
                'and std of the data_preprocessor'
            )


def _model_for_trials(runner) -> torch.nn.Module:
    """A copy: a forward pass changes the statistics of batch norms, and more in some models."""
    return revert_sync_batchnorm(copy.deepcopy(runner.bare_model)).train()


def _forward(model: torch.nn.Module, batch: Any, mode: str) -> Any:
    data = model.data_preprocessor(batch, True)
    values, named = ((), data) if isinstance(data, dict) else (data, {})
    # The class's, as a compiled one belongs to the model that was copied.
    return type(model).forward(model, *values, **named, mode=mode)


# The last batch ---------------------------------------------------------------------------------


def check_last_batch(runner) -> None:
    """Raise where a batch of one image would stop the training at a batch norm."""
    loader = runner.train_dataloader
    size, count = loader.batch_size, len(loader.dataset)
    model = _model_for_trials(runner)
    seen: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(lambda *_, name=name: seen.append(name))
    batch = loader.collate_fn([load_sample(loader.dataset, count - 1, KEY)])
    alone = get_world_size() == 1
    try:
        with torch.no_grad():
            # A loss may wait for the other processes, which do not try.
            _forward(model, batch, 'loss' if alone else 'tensor')
    except BUILD_ERRORS as error:
        if 'more than 1 value per channel' not in str(error):
            if not alone:  # some models have no such pass; the first step will tell
                return
            raise explained(error, model, batch, 'train', runner.cfg) from error
        raise DataError(
            f'train_dataloader: the last batch of an epoch has one image ({count} images, '
            f'batch_size={size}), and the batch norm {seen[-1]} of the model cannot be trained on '
            f'a single value; set train_dataloader.{_remedy(size)}'
        ) from error


def _remedy(size: int) -> str:
    if size == 1:
        return 'batch_size=2 train_dataloader.drop_last=True'
    return 'drop_last=True'


def smallest_batch(loader) -> int | None:
    """Images of an epoch's smallest batch in a process; None where the loader does not say."""
    size = _batch_size(loader)
    if size is None or isinstance(loader.sampler, InfiniteSampler):
        return size
    rest = len(loader.sampler) % size
    dropped = loader.drop_last or getattr(loader.batch_sampler, 'drop_last', False)
    return rest if rest and not dropped else size


def _batch_size(loader) -> int | None:
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None)


# What to say ------------------------------------------------------------------------------------


def is_of_a_step(error: BaseException) -> bool:
    """Whether an error comes of a model's training step, not of data, hooks or other processes."""
    if isinstance(error, torch.distributed.DistError) or GLOO in str(error):
        return False  # another has ended, which tells why
    return any(
        frame.f_code.co_name == 'train_step'
        and isinstance(frame.f_locals.get('self'), torch.nn.Module)
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def explained(
    error: Exception,
    model: torch.nn.Module,
    batch: Any,
    split: str,
    cfg: Config,
    when: str | None = None,
) -> UserError:
    """What ails a model that cannot do its part with an image, as far as that can be told.

    Args:
        error: What it raised.
        model: Names the part that raised it.
        batch: What it was given.
        split: ``'train'``, ``'val'`` or ``'test'``.
        cfg: The run's; names the settings that lack something.
        when: Words for the moment, where it is not at the split's first image.
    """
    if missing := missing_setting(error, cfg):
        return ConfigError(
            f'{missing} is missing: the model reads it {when or "at the first image"}'
        )
    if known := as_user_error(error):
        pipeline = f'{split}_dataloader.dataset.pipeline'
        return type(known)(f'{pipeline}: {known}') if type(known) is ImageSizeError else known
    given = cfg.get('data_preprocessor') or (cfg.get('model') or {}).get('data_preprocessor')
    bare = type(getattr(model, 'data_preprocessor', None)) is BaseDataPreprocessor
    if bare and not given and 'list' in str(error):  # what it leaves the images
        return ConfigError(
            'model.data_preprocessor is missing: without one the model gets the images as a list, '
            'not as a batch'
        )
    samples = batch.get('data_samples', ()) if isinstance(batch, Mapping) else ()
    assertion = isinstance(error, AssertionError) and split != 'train'
    if assertion and not all('scale_factor' in sample for sample in samples):  # mmdet's, wordless
        return ConfigError(
            f'{split}_dataloader.dataset.pipeline: nothing says how boxes are scaled back to the '
            'image (no scale_factor); add a Resize, and scale_factor to the meta_keys'
        )
    last = traceback.extract_tb(error.__traceback__)[-1]
    told, place = one_line(error), f' ({last.filename}:{last.lineno})'
    told += '' if told.endswith(place) else place
    path, part = failed_part(error, model)
    settings = getattr(part, 'train_cfg', True)
    lacking = isinstance(error, AttributeError | KeyError | TypeError) and not settings
    if split == 'train' and lacking:
        return ConfigError(
            f'model.train_cfg={settings!r}: {path} cannot be trained with it ({told}); give what '
            'it asks for, as assigner and sampler'
        )
    if wrong := wrong_width(error, path, cfg):
        return ConfigError(wrong)
    kind = '' if part is model else f' (type {type(part).__name__})'
    path = path if isinstance(part, torch.nn.Module) else place_in(cfg, path, part)
    when = when or f'at the first image of {split}_dataloader'
    return ConfigError(f'{path}{kind}: it fails {when}: {told}')


def missing_setting(error: Exception, cfg: Config) -> str:
    """``'model.train_cfg.allowed_border'``, where a dict of the config lacks what is looked up."""
    frame = list(traceback.walk_tb(error.__traceback__))[-1][0]
    settings, name = frame.f_locals.get('self'), frame.f_locals.get('name')
    if not isinstance(error, KeyError | AttributeError) or not isinstance(settings, ConfigDict):
        return ''
    place = next(places_of(cfg.get('model'), settings, 'model'), '')
    return f'{place}.{name}' if place else ''


def wrong_width(error: Exception, path: str, cfg: Config) -> str:
    """What ails ``in_channels`` of the part that a layer is in, where it is given another number.

    ``path``: of the layer, or of the part itself. Nothing where no such part says that number.
    """
    found = OTHER_WIDTH.search(str(error))
    if not found:
        return ''
    given = int(found['linear'] or found['given'])
    made = int(found['rows'] or found['channels'])
    parts = typed_parts(cfg.get('model'), 'model')
    around = [(place, node) for place, node in parts if f'{path}.'.startswith(f'{place}.')]
    place, node = max(around, key=lambda part: len(part[0]), default=('', {}))
    said = node.get('in_channels')
    if made not in items_within(said):
        return ''
    which = f'for {made} ' if isinstance(said, list | tuple) else ''
    other = ''
    if place in FED_BY_BACKBONE:
        other = ', or give model.backbone another width'
    elif cfg.model.get('neck') is None:
        other = ', or add model.neck, of which there is none'
    return (
        f'{place}.in_channels={said}: {which}it is given {given} channels; write {given} there'
        f'{other}'
    )


# Keys of a detector's train_cfg by the heads that use them.
STAGES = {'rpn_head': 'rpn', 'roi_head': 'rcnn'}


def place_in(cfg: Config, path: str, part: Any) -> str:
    """Where the config has the settings of an object: a head makes its assigner of ``train_cfg``'s.

    ``path``: of the part in the model, which it is where the config has it there, or more of them.
    """
    nodes = typed_parts(cfg.get('model'), 'model')
    places = [place for place, node in nodes if has_type(node, type(part).__name__)]
    stage = next((key for head, key in STAGES.items() if head in path), None)
    if len(places) > 1 and stage:  # both stages may have one of this type
        places = [place for place in places if f'train_cfg.{stage}.' in place]
    return places[0] if len(places) == 1 else path


def failed_part(error: BaseException, model: torch.nn.Module) -> tuple[str, Any]:
    """``'model.bbox_head.bbox_coder'`` and the innermost part that an error went through.

    A part is a module of the model, or an object that one of them keeps.
    """
    names = {id(module): f'model.{name}' for name, module in model.named_modules() if name}
    path, part = 'model', model
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get('self')
        if id(owner) in names:
            path, part = names[id(owner)], owner
        elif owner is not None and not isinstance(owner, Mapping):
            kept = getattr(part, '__dict__', {}).items()
            if name := next((name for name, value in kept if value is owner), ''):
                path, part = f'{path}.{name}', owner
    return path, part
