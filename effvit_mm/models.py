"""Models by name, without any config: what timm's users expect."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .backbones import PSLT, Backbone, CrossViT, Deployable, LeViT, MViTv2, VisionTransformer
from .errors import CheckpointError, ConfigError
from .heads import DistilledHeads, Head, LeViTHead, LinearHead, TokenHeads
from .utils.text import suggest
from .weights import count_classes, get_state_dict, load_checkpoint, read_checkpoint
from .weights.published import Shapes, to_ours, to_published

logger = logging.getLogger(__name__)


class Family(NamedTuple):
    """How models of a backbone are built.

    Attributes:
        backbone: Its class.
        head: Class of the classification head.
        classifier: Arguments of the backbone in a classifier.
        dense: Arguments of the backbone for feature maps.
    """

    backbone: type[Backbone]
    head: type[LinearHead | TokenHeads | LeViTHead] = LinearHead
    classifier: Mapping = {}
    dense: Mapping = {}


_JOINED = {'out_type': 'cls_token'}
_PSLT = Family(PSLT, dense={'final_norm': False})
_CROSSVIT = Family(CrossViT, TokenHeads, classifier=_JOINED)
_LEVIT = Family(LeViT, LeViTHead)
_MVITV2 = Family(MViTv2, dense={'final_norm': False})
_DEIT = Family(VisionTransformer, classifier=_JOINED, dense={'final_norm': False})
_CASTLING = {'attention': {'type': 'LinearAngularAttention'}}
# The first blocks see all tokens: their class token cannot tell yet which of them matter.
_E_ATTENTION = {'attention': {'type': 'EAttention'}, 'sampled_blocks': tuple(range(3, 12))}

# Names of models, for each size of a backbone; their family, and the backbone's other arguments.
_ROWS: tuple[tuple[str, Family, dict], ...] = (
    ('pslt_{}', _PSLT, {}),
    ('crossvit_{}', _CROSSVIT, {}),
    ('levit_{}', _LEVIT, {}),
    ('mvitv2_{}', _MVITV2, {}),
    ('deit_{}', _DEIT, {}),
    ('deit_{}_distilled', _DEIT._replace(head=DistilledHeads), {'distilled': True}),
    ('castling_deit_{}', _DEIT, _CASTLING),
    ('lightweight_vit_{}', _DEIT, _E_ATTENTION),
    ('castling_levit_{}', _LEVIT, _CASTLING),
    ('castling_mvitv2_{}', _MVITV2, _CASTLING),
)
# Name of a model: its family, and the backbone's arguments.
MODEL_TABLE: dict[str, tuple[Family, dict]] = {
    name.format(arch): (family, {'arch': arch, **options})
    for name, family, options in _ROWS
    for arch in family.backbone.arch_settings
}

# What timm adds to names: a tag of weights, sizes of patches and images.
TIMM_ENDINGS = (r'\..*', r'_patch\d+.*', r'_\d{3}$')
# Arguments of timm's that are not ours, and what there is in their place.
TIMM_ARGUMENTS = {
    'pretrained': 'no weights are published here; give create_model(name, checkpoint=FILE) yours',
    'checkpoint_path': 'it is called checkpoint here',
    'in_chans': 'images have 3 channels; repeat a grey one: x.expand(-1, 3, -1, -1)',
    'drop_rate': 'there is no dropout; use drop_path_rate, stochastic depth',
    'global_pool': 'give num_classes=0 for pooled features, features_only=True for maps',
}


class Classifier(Deployable):
    """A backbone, pooling and a head: images ``(B, 3, H, W)`` to logits.

    The names of the weights are those of mmpretrain's ``ImageClassifier``: checkpoints move freely
    between the two. Without a head it returns the pooled features.
    """

    def __init__(self, backbone: Backbone, head: Head | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Head() if head is None else head
        joined = getattr(backbone, 'out_type', 'featmap') == 'cls_token'
        self.num_features = sum(token_widths(backbone)) if joined else backbone.out_channels[-1]

    def forward_features(self, x: Tensor) -> Tensor | list[Tensor]:
        """The last map ``(B, C, H', W')``, or the class tokens, each ``(B, C)``."""
        return self.backbone(x)[-1]

    def forward_head(self, features: Tensor | list[Tensor]) -> Tensor:
        """Logits of what :meth:`forward_features` returns."""
        return self.head((features,))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def token_widths(backbone: Any) -> Sequence[int]:
    """Of the extra tokens that the backbone returns where it joins them."""
    return backbone.token_widths


def list_models(pattern: str = '*', **unknown: object) -> list[str]:
    """Names that :func:`create_model` takes, sorted; ``pattern`` as in a shell: ``'pslt*'``.

    Raises:
        ConfigError: An argument that there is not, as timm's ``pretrained``.
    """
    refuse_unknown('list_models', unknown, ('pattern',))
    return sorted(name for name in MODEL_TABLE if fnmatchcase(name, pattern.lower()))


def find_model(name: str) -> tuple[Family, dict]:
    """The row of a model.

    Raises:
        ConfigError: There is none of this name; it says which are near.
    """
    if name not in MODEL_TABLE:
        near = near_models(name) or ';'
        raise ConfigError(f'there is no model {name!r}{near} effvit_mm.list_models() has all')
    return MODEL_TABLE[name]


def near_models(name: str) -> str:
    """``"; did you mean 'deit_tiny'?"``, of timm's ``deit_tiny_patch16_224`` too, or nothing."""
    plain = str(name).lower().replace('-', '_')
    for ending in ('$', *TIMM_ENDINGS):
        plain = re.sub(ending, '', plain)
        if plain in MODEL_TABLE:
            return suggest(plain, [plain])
    return suggest(plain, MODEL_TABLE, most=3)


def backbone_arguments(family: Family) -> tuple[str, ...]:
    """Names of what a family's backbone takes."""
    return tuple(inspect.signature(family.backbone).parameters)


def refuse_unknown(owner: str, given: Mapping[str, object], known: Sequence[str]) -> None:
    """Raise a ConfigError for an argument that there is not, with what there is in its place."""
    for key, value in given.items():
        if key in known:
            continue
        there = f'; there are {", ".join(known)}'
        told = TIMM_ARGUMENTS.get(key)
        hint = f': {told}' if told else suggest(key, known) or there
        raise ConfigError(f'{key}={value!r}: {owner} has no such argument{hint}')


def create_model(
    name: str,
    num_classes: int | None = 1000,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    checkpoint: str | Path | None = None,
    use_ema: bool = True,
    trust: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Build a model by name.

    Args:
        name: One of :func:`list_models`.
        num_classes: Classes of the head; 0 for pooled features, None for as many as the head in
            ``checkpoint`` has, 1000 where it has none.
        features_only: Return the backbone: a tuple of raw NCHW maps instead of logits.
        out_indices: Stages to return with ``features_only``; all by default.
        checkpoint: File or http(s) address to load the weights from, in our names or the published
            ones. A head of another class count is left at its initialisation. What matched is
            logged, as a warning where it was not all.
        use_ema: Load running averages of the weights where the checkpoint has them.
        trust: Unpickle whatever the file holds, which can run code.
        **kwargs: Further arguments of the backbone's class.

    Raises:
        ConfigError: An unknown name or argument.
        ValueError: An argument out of range.
        CheckpointError: ``checkpoint`` cannot be read, or is of another model: most tensors of
            either do not fit.
    """
    family, preset = find_model(name)
    own = tuple(inspect.signature(create_model).parameters)[1:-1]
    refuse_unknown(name, kwargs, list(dict.fromkeys((*own, *backbone_arguments(family)))))
    content = None if checkpoint is None else read_checkpoint(checkpoint, trust=trust)
    if num_classes is None:
        state = {} if content is None else get_state_dict(content, str(checkpoint), use_ema)
        num_classes = count_classes(state) or 1000
    if not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(
            f'num_classes={num_classes!r}: a whole number of at least 0 is needed (0: features)'
        )
    if out_indices is not None and not features_only:
        raise ValueError('out_indices goes with features_only=True: a classifier returns logits')
    if features_only:
        indices = range(family.backbone.num_maps) if out_indices is None else out_indices
        chosen = {**family.dense, 'out_indices': indices}
    else:
        chosen = dict(family.classifier)
    network: Any = family.backbone(**{**preset, **chosen, **kwargs})
    model: nn.Module = network
    if not features_only:
        model = Classifier(network, build_head(family, network, num_classes))
    if content is not None:
        report = load_checkpoint(model, content, source=str(checkpoint), use_ema=use_ema)
        partial = report.missing or report.mismatched
        random = '; what was not loaded is random, to be trained' if partial else ''
        if any(name.startswith('head.') for name in report.mismatched):
            random += ", or give the file's num_classes"
        logger.log(logging.WARNING if partial else logging.INFO, '%s: %s%s', name, report, random)
    return model


def build_head(family: Family, backbone: Backbone, num_classes: int) -> Head | None:
    """The head of a family's classifier, new; None for no classes: pooled features."""
    by_token = issubclass(family.head, TokenHeads)
    widths: Any = token_widths(backbone) if by_token else backbone.out_channels[-1]
    return family.head(widths, num_classes) if num_classes else None


def convert_state_dict(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the published weights of a model to those of ``create_model(name)``.

    ``{published name: tensor}`` of a whole classifier, or of a backbone alone, becomes ``{our name:
    the same tensor}``, ``backbone.*`` and ``head.*``.

    Raises:
        ConfigError: An unknown name of a model.
        CheckpointError: A name that no rule knows, or a shape that the model does not have (the
            head's class count is free).
    """
    return to_ours(state, name, _shapes_of(name))


def export_state_dict(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Rename the weights of ``create_model(name)`` to the published names: timm's.

    The inverse of :func:`convert_state_dict`. timm's models take the result with ``strict=True``;
    they are called as ours are, with the image size where timm has it in the name
    (``deit_tiny_patch16_224``, ``crossvit_9_240``). PSLT, which timm lacks, gets its authors'
    names.

    Args:
        state: ``{our name: tensor}``: a classifier (``backbone.*`` and ``head.*``), or a backbone
            alone, with or without the prefix.
        name: One of :func:`effvit_mm.list_models` whose attention is the published network's own.

    Raises:
        ConfigError: An unknown name.
        CheckpointError: The model's attention is none that timm has, or ``state`` has a name or a
            shape that the model does not have (the head's class count is free).
    """
    shapes = _shapes_of(name)
    attention = MODEL_TABLE[name][1].get('attention')
    if attention is not None:
        raise CheckpointError(
            f'{name} has {attention["type"]} where the network of these names has softmax '
            'attention: there, its weights would give other results'
        )
    return to_published(state, name, shapes)


def _shapes_of(name: str) -> Shapes:
    """The shapes of a model's tensors by their names."""
    find_model(name)
    with torch.device('meta'):
        return {key: value.shape for key, value in create_model(name).state_dict().items()}
