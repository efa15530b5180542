"""Teachers for distillation: named by a config's dict, asked for logits, never trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
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
from ...utils.text import suggest
from ...weights import load_checkpoint
from ..config.arguments import is_number
from ..config.building import one_line
from ..config.loading import load_config
from ..data_checks.labels import head_classes

KINDS = ('config', 'timm', 'mmpretrain', 'model')
# What a config's model can be changed in; the other two kinds take their constructors' arguments.
PARTS = ('backbone', 'neck', 'head')


class Normalisation(NamedTuple):
    """What was done to the pixels (0 to 255) that a network takes.

    ``mean`` and ``std`` are those of each channel, in the network's order.

    Attributes:
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

    Resizes to ``size``, (H, W), with antialiasing; None leaves the size.
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
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
            for values in (*student[:2], *teacher[:2])
        )
        if self.flips:
            mean, std = mean.flip(0), std.flip(0)
        scale, shift = std / own_std, (mean - own_mean) / own_std
        # A preprocessor keeps its numbers in single precision.
        self.scales = bool(((scale - 1).abs() > 1e-6).any() or (shift.abs() > 1e-6).any())
        self.register_buffer('scale', scale.float())
        self.register_buffer('shift', shift.float())

    def forward(self, x: Tensor) -> Tensor:
        if self.flips and x.shape[1] == 3:
            x = x.flip(1)
        if self.scales:
            x = x * self.scale + self.shift
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode=self.interpolation, antialias=True)
        return x


def _are_channels(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return listed and len(value) in (1, 3) and all(map(is_number, value))


def _is_size(value: Any) -> bool:
    sides = value if isinstance(value, Sequence) and len(value) == 2 else [value]
    return all(type(side) is int and side > 0 for side in sides)


# Key -> (whether a value can be, what is needed).
OPTIONS = {
    'checkpoint': (lambda value: isinstance(value, str | Path), 'a file'),
    **dict.fromkeys(
        ('pretrained', 'untrained', 'trust', 'to_rgb'),
        (lambda value: type(value) is bool, 'True or False'),
    ),
    'mean': (_are_channels, 'a list of 3 numbers (or 1)'),
    'std': (lambda v: _are_channels(v) and min(v) > 0, 'a list of 3 numbers (or 1) above 0'),
    'input_size': (_is_size, 'pixels, or (H, W), above 0'),
    'interpolation': (('bilinear', 'bicubic').__contains__, 'one of bilinear, bicubic'),
}


def check_values(path: str, values: Mapping, options: Mapping) -> None:
    """Raise a ConfigError at the first value that ``options``, a dict like ``OPTIONS``, refuses."""
    for key, value in values.items():
        is_possible, needed = options[key]
        if not is_possible(value):
            raise ConfigError(f'{path}.{key}={value!r}: {needed} is needed')


class TeacherSettings:
    """The dict that names a teacher, checked as far as that goes without building it.

    For one, ``dict(timm='regnety_160.deit_in1k', pretrained=True)``.

    Raises:
        ConfigError: No kind or several; no weights or several; a key or value that cannot be.
    """

    def __init__(self, config: Any) -> None:
        kinds = ', '.join(KINDS)
        if not isinstance(config, Mapping):
            raise ConfigError(
                f'model.teacher={config!r}: a dict is needed, with one of the keys {kinds}'
            )
        further = {key: value for key, value in config.items() if value is not None}
        given = [kind for kind in KINDS if kind in further]
        if len(given) != 1:
            raise ConfigError(
                f'model.teacher has {" and ".join(given) or "none"} of the keys {kinds}: exactly '
                'one of them names the teacher'
            )
        self.kind, self.name = given[0], further.pop(given[0])
        self.title = f'model.teacher ({self.kind}={self.name!r})'
        self.options = {key: further.pop(key) for key in OPTIONS if key in further}
        self.further = further
        self._check_name_and_further()
        self._check_options()

    def _check_options(self) -> None:
        check_values('model.teacher', self.options, OPTIONS)
        if ('mean' in self.options) != ('std' in self.options):
            raise ConfigError('model.teacher: mean and std come together, in pixels of 0 to 255')
        weights = [k for k in ('checkpoint', 'pretrained', 'untrained') if self.options.get(k)]
        if 'pretrained' in weights and self.kind not in ('timm', 'mmpretrain'):
            raise ConfigError(
                f'model.teacher.pretrained=True: nothing is published for {self.kind}='
                f'{self.name!r}; name a file with checkpoint'
            )
        if len(weights) != 1:
            raise ConfigError(
                f'{self.title} has {" and ".join(weights) or "no weights"}: exactly one is needed '
                'of checkpoint=file, pretrained=True (timm, mmpretrain) and, for a trial without '
                'sense, untrained=True'
            )

    def _check_name_and_further(self) -> None:
        """The name, and keys for a constructor, which may be misspelt ones of ours."""
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f'model.teacher.{self.kind}={self.name!r}: a name is needed')
        if self.kind == 'model' and self.name not in list_models():
            hint = suggest(self.name, list_models())
            raise ConfigError(
                f'model.teacher.model={self.name!r}: not one of effvit_mm.list_models(){hint}'
            )
        for key, value in self.further.items():
            near = difflib.get_close_matches(key, OPTIONS, n=1, cutoff=0.8)
            if near or (self.kind in ('config', 'mmpretrain') and key not in PARTS):
                allowed = f' beside {self.kind}; there are {", ".join((*PARTS, *OPTIONS))}'
                hint = suggest(key, near) if near else allowed
                raise ConfigError(f'model.teacher.{key}={value!r}: no such key{hint}')


def _build_timm(
    name: str, pretrained: bool, num_classes: int | None, further: Mapping
) -> tuple[nn.Module, Normalisation]:
    try:
        import timm
    except ImportError as error:
        raise ConfigError('timm is not installed: pip install timm') from error
    arguments = {'num_classes': num_classes, **further}
    if pretrained and 'num_classes' not in further:
        del arguments['num_classes']  # timm would give it a new, untrained layer
    model = timm.create_model(name, pretrained=pretrained, **arguments)
    published = model.pretrained_cfg.get('num_classes')
    if pretrained and published != model.num_classes:
        raise ConfigError(
            f'num_classes={model.num_classes}, but the published weights are of {published} classes'
        )
    data = timm.data.resolve_model_data_config(model)
    mean, std = (tuple(255 * value for value in data[key]) for key in ('mean', 'std'))
    return model, Normalisation(mean, std, True)


def _build_openmm(settings: TeacherSettings) -> nn.Module:
    """The model of a config or of mmpretrain's name, without its weights."""
    if settings.kind == 'mmpretrain':
        return get_model(settings.name, pretrained=False, **settings.further)
    config = load_config(settings.name, ())
    if not isinstance(config.get('model'), Mapping):
        raise ConfigError('the config has no model')
    # Without the data: they need not be there.
    parts = {key: config[key] for key in ('model', 'data_preprocessor') if config.get(key)}
    return get_model(Config(parts), pretrained=False, **settings.further)


def build_network(
    settings: TeacherSettings, num_classes: int | None, student: Normalisation
) -> tuple[nn.Module, Normalisation]:
    """A teacher's network with its weights, and what its images are like.

    A network that is made to measure gets the student's ``num_classes``, where they are known; one
    that does not say what its images are like takes the student's.
    """
    options, weights, own = settings.options, settings.options.get('checkpoint'), student
    pretrained = options.get('pretrained', False)
    # The student's randomness is not touched; an untrained teacher is always the same.
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        if settings.kind == 'timm':
            model, own = _build_timm(settings.name, pretrained, num_classes, settings.further)
        elif settings.kind == 'model':
            arguments = {'num_classes': num_classes or 1000, **settings.further}
            model = create_model(settings.name, **arguments)
        else:
            model = _build_openmm(settings)
            own = Normalisation.of(model.data_preprocessor)
    if pretrained and settings.kind == 'mmpretrain':
        weights = getattr(model._metainfo, 'weights', None)
        if weights is None:
            raise ConfigError('mmpretrain has no published weights for it; name a checkpoint')
    if weights is not None:
        source, trust = f'checkpoint {weights}', options.get('trust', False)
        report = load_checkpoint(model, weights, source=source, require='all', trust=trust)
        MMLogger.get_current_instance().info(f'teacher {settings.name}: {report}')
    given = {key: options[key] for key in Normalisation._fields if key in options}
    return model.eval().requires_grad_(False), own._replace(**given)


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

        ``student`` is what the student's images are like; its ``num_classes``, where they are
        known, must be the teacher's.
        """
        if self.model is not None:
            return
        title = self.settings.title
        try:
            model, own = build_network(self.settings, num_classes, student)
        except UserError as error:
            raise type(error)(f'{title}: {error}') from error
        except Exception as error:  # constructors of other packages can raise anything
            raise ConfigError(f'{title}: {one_line(error)}') from error
        classes = count_classes(model)
        if classes is not None and num_classes is not None and classes != num_classes:
            raise ConfigError(
                f'{title} tells apart {classes} classes, the student (model.head.num_classes) '
                f'{num_classes}'
            )
        options = self.settings.options
        size = options.get('input_size')
        size = (size, size) if isinstance(size, int) else size and tuple(size)
        self.conversion = Conversion(student, own, size, options.get('interpolation', 'bicubic'))
        self.model = model

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The student's images ``(B, C, H, W)`` to the teacher's logits ``(B, num_classes)``."""
        if self.conversion.scale.device != images.device:
            self.model.to(images.device)
            self.conversion.to(images.device)
        logits = self.model(self.conversion(images.float()))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f'{self.settings.title} gives {shape} instead of logits (B, num_classes)'
            )
        return logits


def count_classes(model: nn.Module) -> int | None:
    """How many classes a classifier of any of the kinds tells apart, where it says so."""
    own = getattr(model, 'num_classes', None)  # timm
    return own if isinstance(own, int) else head_classes(model)
