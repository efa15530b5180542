"""Workloads of a benchmark: a model, the form in which it runs, and the images that it is given.

``MODEL[@FORM]`` is how a command names the first two: ``pslt_base@deployed+bf16``. Nothing here
loads a network's library: :mod:`.networks` knows their names, :mod:`.loading` builds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import NamedTuple

from effvit_mm.errors import ConfigError

EAGER = 'eager'  # no word at all: PyTorch's eager mode, float32, the form of training, eval()
DEPLOYED, CHANNELS_LAST, BF16, INT8, COMPILED, TRAINING, BEFORE = (
    'deployed', 'channels-last', 'bf16', 'int8', 'compiled', 'training', 'before',
)  # fmt: skip
RUNTIMES = OPENVINO, ONNXRUNTIME, INDUCTOR = 'openvino', 'onnxruntime', 'inductor'
# In the order in which a label has them.
FORMS: dict[str, str] = {
    DEPLOYED: "after switch_to_deploy(), timm's after reparameterize_model()",
    CHANNELS_LAST: 'weights and images in channels-last memory',
    OPENVINO: 'deployed, and run by OpenVINO: effvit_mm.compile()',
    ONNXRUNTIME: 'the same, run by onnxruntime',
    INDUCTOR: 'the same, machine code by AOTInductor; needs a C++ compiler',
    BF16: "under autocast to bfloat16, or a runtime's bfloat16",
    INT8: "a runtime's eight bits, where it has them",
    COMPILED: 'torch.compile with its defaults; networks, not configs',
    TRAINING: 'a step of training: forward, backward, AdamW; networks, not configs',
    BEFORE: "built by the effvit_mm of --before's folder; our networks and configs",
}
# Words that exclude each other.
CLASHES = (
    (DEPLOYED, TRAINING),
    (BF16, INT8),
    *combinations(RUNTIMES, 2),
    *product(RUNTIMES, (DEPLOYED, CHANNELS_LAST, COMPILED, TRAINING)),
)
LIBRARIES = ('timm', 'torchvision', 'torchreid')
OURS, CONFIG = 'ours', 'config'
FOREIGN_FORMS = frozenset(FORMS) - {DEPLOYED, BEFORE}
ALLOWED_FORMS = {
    OURS: frozenset(FORMS),
    CONFIG: frozenset(FORMS) - {COMPILED, TRAINING},
    'timm': FOREIGN_FORMS | {DEPLOYED},
    'torchvision': FOREIGN_FORMS,
    'torchreid': FOREIGN_FORMS,
}
GEMM = 'products of matrices'  # no model: they show what the machine can do


class Workload(NamedTuple):
    """What is to be measured.

    Attributes:
        model: A name of :func:`effvit_mm.list_models`, ``library:name``, or a detector's config.
        form: Words of :data:`FORMS`, in their order.
        size: Height and width of the images in pixels.
        batch_size: Images of a batch.
        checkpoint: Weights; random ones where it is None.
        image: File of the image that is shown, scaled to ``size``; noise where it is None.
        model_config: A detector's ``model`` key, from :func:`read_detector_config`.
        cache: Folder of compiled files, of a runtime's form.
    """

    model: str
    form: tuple[str, ...]
    size: tuple[int, int]
    batch_size: int = 1
    checkpoint: str | None = None
    image: str | None = None
    model_config: dict | None = None
    cache: str | None = None

    @property
    def runtime(self) -> str | None:
        """Of the form; None where PyTorch runs it."""
        return next((word for word in self.form if word in RUNTIMES), None)

    @property
    def precision(self) -> str:
        """Of the form: ``'fp32'``, ``'bf16'`` or ``'int8'``."""
        return next((word for word in self.form if word in (BF16, INT8)), 'fp32')

    @property
    def label(self) -> str:
        """As a command names it: ``pslt_base@deployed``."""
        return '@'.join((self.model, '+'.join(self.form))) if self.form else self.model

    def __str__(self) -> str:
        if self.model == GEMM:
            return self.model
        height, width = self.size
        images = f'{self.batch_size} image{"s" * (self.batch_size > 1)}'
        return f'{self.label}, {height} x {width}, {images}'


def kind_of(model: str) -> str:
    """``'ours'``, ``'config'`` or the library that a model is from."""
    library, colon, _ = model.partition(':')
    if colon and library in LIBRARIES:
        return library
    return CONFIG if model.endswith('.py') else OURS


def parse_label(text: str) -> tuple[str, tuple[str, ...]]:
    """``MODEL[@FORM]`` as the model and its form's words, in :data:`FORMS`'s order.

    Raises:
        ConfigError: A word is unknown, clashes with another, or is not for this kind of model.
    """
    model, _, words = text.partition('@')
    given = words.split('+') if words else []
    given = [word for word in given if word != EAGER]
    for word in given:
        if word not in FORMS:
            raise ConfigError(f'{text}: no form {word!r}; allowed are {", ".join((EAGER, *FORMS))}')
    for first, second in CLASHES:
        if first in given and second in given:
            raise ConfigError(f'{text}: {first} and {second} exclude each other')
    if INT8 in given and not set(given) & set(RUNTIMES):
        raise ConfigError(f'{text}: int8 needs a runtime beside it: {", ".join(RUNTIMES)}')
    kind = kind_of(model)
    allowed = ALLOWED_FORMS[kind]
    for word in given:
        if word not in allowed:
            what = 'a config' if kind == CONFIG else f'a model of {kind}'
            names = ', '.join((EAGER, *(name for name in FORMS if name in allowed)))
            raise ConfigError(f'{text}: {what} has no form {word!r}; allowed are {names}')
    return model, tuple(word for word in FORMS if word in given)


def parse_size(text: str) -> tuple[int, int]:
    """``'224'`` or ``'800x1333'`` as height and width.

    Raises:
        ConfigError: It is neither, or fewer than 32 pixels.
    """
    numbers = text.split('x')
    if len(numbers) > 2 or not all(n.isdigit() and int(n) >= 32 for n in numbers):
        raise ConfigError(f'--sizes {text}: N or HxW is needed, 32 pixels or more each')
    return int(numbers[0]), int(numbers[-1])


def read_detector_config(path: str, overrides: Sequence[str] = ()) -> dict:
    """The ``model`` key of a detector's config as plain values, without pretrained weights.

    Args:
        path: File of the config.
        overrides: ``key=value`` pairs for it.

    Raises:
        ConfigError: It cannot be read, or is of no detector.
    """
    from effvit_mm.openmm.config.loading import load_config
    from effvit_mm.openmm.trained import find_classes

    cfg = load_config(path, overrides)
    if cfg.get('default_scope') != 'mmdet':
        raise ConfigError(
            f'config {path}: default_scope={cfg.get("default_scope")!r} cannot be measured; '
            "allowed is 'mmdet'. Networks of classifiers have names: pslt_tiny"
        )
    find_classes(cfg, path)
    model = cfg.model.to_dict()
    model.pop('init_cfg', None)
    model['backbone'].pop('init_cfg', None)
    return model
