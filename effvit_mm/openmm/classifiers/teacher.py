"""Teachers for distillation: found by a config's dict, asked for logits, never trained."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain import get_model
from torch import Tensor, nn

from ...errors import ConfigError, UserError
from ...models import create_model, list_models
from ...weights import load_checkpoint

KINDS = ('config', 'timm', 'mmpretrain', 'model')
INTERPOLATIONS = ('bilinear', 'bicubic')
# What a config's model can be changed in; the other two kinds take their constructors' arguments.
PARTS = ('backbone', 'neck', 'head')


class Normalisation(NamedTuple):
    """What was done to the pixels (0 to 255) that a network takes.

    Attributes:
        mean: Of each channel, in the network's order.
        std: Of each channel.
        to_rgb: The channels were flipped from the order of the data set's loader, which is BGR.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    to_rgb: bool

    @classmethod
    def of(cls, preprocessor: nn.Module) -> Normalisation:
        """What a model's ``data_preprocessor`` does."""
        mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
        flips = getattr(preprocessor, '_channel_conversion', False)  # mmengine's preprocessors
        return cls(
            (0.0,) if mean is None else tuple(mean.flatten().tolist()),
            (1.0,) if std is None else tuple(std.flatten().tolist()),
            bool(getattr(preprocessor, 'to_rgb', flips)),
        )


class Conversion(nn.Module):
    """Images as the student takes them to images as the teacher takes them, ``(B, C, H, W)``.

    What is the same for both costs nothing. Mixup and CutMix are linear in the pixels, so it does
    not matter that they came before.

    Args:
        student: The student's normalisation.
        teacher: The teacher's.
        size: (H, W) to resize to; None leaves the size.
        interpolation: ``'bilinear'`` or ``'bicubic'``, both with antialiasing.
    """

    def __init__(
        self,
        student: Normalisation,
        teacher: Normalisation,
        size: tuple[int, int] | None = None,
        interpolation: str = 'bicubic',
    ) -> None:
        super().__init__()
        self.flips = student.to_rgb != teacher.to_rgb
        self.size, self.interpolation = size, interpolation
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in student[:2])
        own_mean, own_std = (torch.tensor(v, dtype=torch.float64) for v in teacher[:2])
        if self.flips:
            mean, std = mean.flip(0), std.flip(0)
        scale, shift = std / own_std, (mean - own_mean) / own_std
        # A preprocessor keeps its numbers in single precision.
        self.scales = bool(((scale - 1).abs() > 1e-6).any() or (shift.abs() > 1e-6).any())
        self.register_buffer('scale', scale.float().view(-1, 1, 1))
        self.register_buffer('shift', shift.float().view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.flips and x.shape[1] == 3:
            x = x.flip(1)
        if self.scales:
            x = x * self.scale + self.shift
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode=self.interpolation, antialias=True)
        return x


@dataclass(frozen=True)
class TeacherSettings:
    """The dict that names a teacher, checked as far as that goes without building it."""

    kind: str
    name: str
    checkpoint: str | None = None
    pretrained: bool = False
    untrained: bool = False
    trust: bool = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    to_rgb: bool | None = None
    input_size: tuple[int, int] | None = None
    interpolation: str = 'bicubic'
    further: Mapping = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Any) -> TeacherSettings:
        """Settings from ``dict(timm='regnety_160.deit_in1k', pretrained=True)``, for one.

        Raises:
            ConfigError: No kind or several; no weights or several; a key or value that cannot be.
        """
        kinds = ', '.join(KINDS)
        if not isinstance(config, Mapping):
            raise ConfigError(
                f'model.teacher={config!r}: a dict is needed, with one of the keys {kinds}'
            )
        given = [kind for kind in KINDS if config.get(kind) is not None]
        if len(given) != 1:
            raise ConfigError(
                f'model.teacher has {" and ".join(given) or "none"} of the keys {kinds}: exactly '
                'one of them names the teacher'
            )
        kind, known = given[0], set(cls.__dataclass_fields__) - {'kind', 'name', 'further'}
        common = {key: value for key, value in config.items() if key in known}
        common = {key: value for key, value in common.items() if value is not None}
        further = {k: v for k, v in config.items() if k not in known and k not in KINDS}
        _check_further(kind, further, known)
        _check_common(kind, config[kind], common)
        for key in ('mean', 'std'):
            if key in common:
                common[key] = tuple(float(value) for value in common[key])
        if isinstance(size := common.get('input_size'), int):
            common['input_size'] = (size, size)
        elif size is not None:
            common['input_size'] = tuple(size)
        return cls(kind, str(config[kind]), **common, further=further)


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_further(kind: str, further: Mapping, known: set[str]) -> None:
    """Keys that are not ours go to a constructor, unless they look like misspelt ones."""
    for key in further:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        if near or (kind in ('config', 'mmpretrain') and key not in PARTS):
            hint = f'; did you mean {near[0]!r}?' if near else ''
            allowed = ', '.join(sorted(known | set(PARTS)))
            raise ConfigError(
                f'model.teacher.{key}={further[key]!r}: no such key'
                f'{hint or f" beside {kind}; there are {allowed}"}'
            )


def _check_common(kind: str, name: Any, common: Mapping) -> None:
    if not isinstance(name, str | Path) or not str(name):
        raise ConfigError(f'model.teacher.{kind}={name!r}: a name is needed')
    if kind == 'model' and name not in list_models():
        near = difflib.get_close_matches(str(name), list_models(), n=1)
        hint = f'; did you mean {near[0]!r}?' if near else ''
        raise ConfigError(f'model.teacher.model={name!r}: not one of effvit_mm.list_models(){hint}')
    for key in ('pretrained', 'untrained', 'trust', 'to_rgb'):
        if key in common and type(common[key]) is not bool:
            raise ConfigError(f'model.teacher.{key}={common[key]!r}: True or False is needed')
    if not isinstance(common.get('checkpoint', ''), str | Path):
        raise ConfigError(f'model.teacher.checkpoint={common["checkpoint"]!r}: a file is needed')
    if common.get('pretrained') and kind not in ('timm', 'mmpretrain'):
        raise ConfigError(
            f'model.teacher.pretrained=True: nothing is published for {kind}={name!r}; name a file '
            'with checkpoint'
        )
    weights = [key for key in ('checkpoint', 'pretrained', 'untrained') if common.get(key)]
    if len(weights) != 1:
        raise ConfigError(
            f'model.teacher ({kind}={name!r}) has {" and ".join(weights) or "no weights"}: exactly '
            'one is needed of checkpoint=file, pretrained=True (timm, mmpretrain) and, for a trial '
            'without sense, untrained=True'
        )
    _check_images(common)


def _check_images(common: Mapping) -> None:
    """What the teacher's images are like."""
    if ('mean' in common) != ('std' in common):
        raise ConfigError('model.teacher: mean and std come together, in pixels of 0 to 255')
    for key in ('mean', 'std'):
        values = common.get(key, (1.0,))
        if (
            not isinstance(values, Sequence)
            or isinstance(values, str)
            or len(values) not in (1, 3)
            or not all(is_number(value) for value in values)
            or (key == 'std' and min(values) <= 0)
        ):
            above = ' above 0' if key == 'std' else ''
            raise ConfigError(
                f'model.teacher.{key}={values!r}: a list of 3 numbers (or 1){above} is needed'
            )
    size = common.get('input_size', 1)
    sides = size if isinstance(size, Sequence) and len(size) == 2 else [size]
    if not all(type(side) is int and side > 0 for side in sides):
        raise ConfigError(f'model.teacher.input_size={size!r}: pixels, or (H, W), are needed')
    if common.get('interpolation', 'bicubic') not in INTERPOLATIONS:
        raise ConfigError(
            f'model.teacher.interpolation={common["interpolation"]!r}: one of '
            f'{", ".join(INTERPOLATIONS)} is needed'
        )


class _Built(NamedTuple):
    """A network, what it takes (None: what the student takes), where its weights are."""

    model: nn.Module
    normalisation: Normalisation | None
    weights: str | None


def _build_timm(settings: TeacherSettings, num_classes: int | None) -> _Built:
    try:
        import timm
    except ImportError as error:
        raise ConfigError('timm is not installed: pip install timm') from error
    arguments = {'num_classes': num_classes, **settings.further}
    if settings.pretrained and 'num_classes' not in settings.further:
        del arguments['num_classes']  # timm would give it a new, untrained layer
    model = timm.create_model(settings.name, pretrained=settings.pretrained, **arguments)
    published = model.pretrained_cfg.get('num_classes')
    if settings.pretrained and published != model.num_classes:
        raise ConfigError(
            f'num_classes={model.num_classes}, but the published weights are of {published} classes'
        )
    data = timm.data.resolve_model_data_config(model)
    mean, std = (tuple(255 * value for value in data[key]) for key in ('mean', 'std'))
    return _Built(model, Normalisation(mean, std, True), settings.checkpoint)


def _build_mmpretrain(settings: TeacherSettings, num_classes: int | None) -> _Built:
    model = get_model(settings.name, pretrained=False, **settings.further)
    weights = settings.checkpoint
    if settings.pretrained:
        weights = getattr(model._metainfo, 'weights', None)
        if weights is None:
            raise ConfigError('mmpretrain has no published weights for it; name a checkpoint')
    return _Built(model, Normalisation.of(model.data_preprocessor), weights)


def _build_config(settings: TeacherSettings, num_classes: int | None) -> _Built:
    from ..config.loading import load_config

    config = load_config(settings.name, ())
    if not isinstance(config.get('model'), Mapping):
        raise ConfigError('the config has no model')
    # Without the data: they need not be there.
    parts = {key: config[key] for key in ('model', 'data_preprocessor') if config.get(key)}
    model = get_model(Config(parts), pretrained=False, **settings.further)
    return _Built(model, Normalisation.of(model.data_preprocessor), settings.checkpoint)


def _build_model(settings: TeacherSettings, num_classes: int | None) -> _Built:
    arguments = {'num_classes': num_classes or 1000, **settings.further}
    return _Built(create_model(settings.name, **arguments), None, settings.checkpoint)


BUILDERS = {
    'config': _build_config,
    'timm': _build_timm,
    'mmpretrain': _build_mmpretrain,
    'model': _build_model,
}


class Teacher:
    """A network that is asked and never trained: in evaluation mode, without gradients.

    It is no module, so it is in no state dict, no optimizer, no average and no DDP of the student.
    Copies of the student share it; a pickled student leaves it behind and builds it anew. It goes
    to where the images are.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings
        self.model: nn.Module | None = None
        self.conversion: Conversion | None = None

    def __deepcopy__(self, memo: dict) -> Teacher:
        return self

    def __getstate__(self) -> dict:
        return {**vars(self), 'model': None, 'conversion': None}

    def build(self, student: Normalisation, num_classes: int | None) -> None:
        """Build the network and load its weights, unless that was done before.

        Args:
            student: What the student's images are like.
            num_classes: The student's classes, which must be the teacher's; None: not known.

        Raises:
            ConfigError: It cannot be built, or tells apart another number of classes.
            CheckpointError: The weights cannot be read or are another network's.
        """
        if self.model is not None:
            return
        name = f'model.teacher ({self.settings.kind}={self.settings.name!r})'
        try:
            # The student's randomness is not touched; an untrained teacher is always the same.
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(0)
                built = BUILDERS[self.settings.kind](self.settings, num_classes)
            self._load(built)
        except UserError as error:
            raise type(error)(f'{name}: {error}') from error
        except Exception as error:  # constructors of other packages can raise anything
            from ..config.building import one_line

            raise ConfigError(f'{name}: {one_line(error)}') from error
        self._check_classes(count_classes(built.model), num_classes)
        chosen = self.settings
        own = built.normalisation or student
        own = Normalisation(
            chosen.mean or own.mean,
            chosen.std or own.std,
            own.to_rgb if chosen.to_rgb is None else chosen.to_rgb,
        )
        self.conversion = Conversion(student, own, chosen.input_size, chosen.interpolation)
        self.model = built.model.eval().requires_grad_(False)

    def _load(self, built: _Built) -> None:
        if built.weights is None:
            return
        report = load_checkpoint(
            built.model,
            built.weights,
            source=f'checkpoint {built.weights}',
            require='all',
            trust=self.settings.trust,
        )
        MMLogger.get_current_instance().info(f'teacher {self.settings.name}: {report}')

    def _check_classes(self, own: int | None, students: int | None) -> None:
        if own is not None and students is not None and own != students:
            raise ConfigError(
                f'model.teacher ({self.settings.kind}={self.settings.name!r}) tells apart {own} '
                f'classes, the student (model.head.num_classes) {students}'
            )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The student's images ``(B, C, H, W)`` to the teacher's logits ``(B, num_classes)``."""
        if self.conversion.scale.device != images.device:
            self.model.to(images.device)
            self.conversion.to(images.device)
        logits = self.model(self.conversion(images.float()))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            kind = f'a {type(logits).__name__}'
            found = tuple(logits.shape) if isinstance(logits, Tensor) else kind
            raise ConfigError(
                f'model.teacher ({self.settings.kind}={self.settings.name!r}) gives {found} '
                'instead of logits (B, num_classes)'
            )
        return logits


def count_classes(model: nn.Module) -> int | None:
    """How many classes a classifier of any of the kinds tells apart, where it says so."""
    from ..data_checks.labels import head_classes

    own = getattr(model, 'num_classes', None)  # timm
    return own if isinstance(own, int) else head_classes(model)
