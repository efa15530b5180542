"""Our networks in timm's registry: :func:`register_timm`, which the import calls.

``custom_imports = dict(imports=['effvit_mm.timm'])`` does so in a config of OpenMMLab's;
``python -m effvit_mm.timm script.py ...`` runs a script of timm's with them registered.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch.nn.functional as F
from timm.models import (
    FeatureInfo,
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    is_model,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor, nn

from .backbones import PSLT, Backbone, CrossViT, LeViT, MViTv2, VisionTransformer
from .backbones.base import normalise_indices
from .errors import ConfigError
from .heads import DistilledHeads, Head, LeViTHead, LinearHead, TokenHeads
from .models import (
    MODEL_TABLE,
    Classifier,
    backbone_arguments,
    build_head,
    create_model,
    list_models,
)
from .utils.scripts import run_as_main, script_main
from .weights import allow_training_logs, load_checkpoint

logger = logging.getLogger(__name__)

PREFIX = 'effvit_mm_'  # of names that timm has networks of its own for
# The first convolutions' names, and side of the last map at 224 pixels (None: it has several).
_STEMS: dict[type[Backbone], tuple[str | tuple[str, ...], int | None]] = {
    PSLT: ('backbone.stem.0.0', 7),
    CrossViT: (('backbone.stem.0.proj', 'backbone.stem.1.proj'), None),
    LeViT: ('backbone.stem.0.0', 4),
    MViTv2: ('backbone.stem', 7),
    VisionTransformer: ('backbone.stem.proj', None),
}
_CLASSIFIERS: dict[type[nn.Module], str | tuple[str, ...]] = {
    LinearHead: 'head.fc',
    TokenHeads: ('head.fcs.0', 'head.fcs.1'),
    DistilledHeads: ('head.fcs.0', 'head.fcs.1'),
    LeViTHead: ('head.head.linear', 'head.head_dist.linear'),
}
# Parameters that our recipes spare weight decay, besides biases and norms: parts of their names.
_SPARED = ('relative_position_bias', 'rel_pos', '.cls_token', '.dist_token', '.pos_embed')
# Of timm's arguments, those that say nothing to a network that gives maps.
_OF_CLASSIFIERS = ('num_classes', 'global_pool', 'drop_rate', 'feature_cls', 'output_fmt')
# Where timm looks for the pretrained_cfg of what a module registers, by the registered name.
default_cfgs: dict = {}


def register_timm() -> dict[str, str]:
    """Put every network of :func:`effvit_mm.list_models` into timm's registry.

    ``timm.create_model('pslt_tiny', num_classes=10)`` and timm's scripts then know them. May be
    called again. Names that timm has networks of its own for (``levit_128s``, ``mvitv2_tiny``,
    ``crossvit_15_dagger_408``) stay timm's; ours are called ``effvit_mm_levit_128s`` and so on.

    The process may read checkpoints of our trainings from then on: their log is allowed in
    ``torch.load(weights_only=True)``, nothing that could run code.

    Returns:
        ``{our name: the name in timm}``.
    """
    allow_training_logs()
    names = {}
    for name in list_models():
        taken = is_model(name) and model_entrypoint(name).__module__ != __name__
        names[name] = PREFIX + name if taken else name
        if not is_model(names[name]):
            default_cfgs.update(generate_default_cfgs({names[name]: _pretrained_cfg(name)}))
            # timm lists the function in this module's __all__: so it is to be found here.
            globals()[names[name]] = register_model(_entrypoint(name, names[name]))
    return names


def _pretrained_cfg(name: str) -> PretrainedCfg:
    """What timm asks of a network besides its code: how our configs prepare its images."""
    family, preset = MODEL_TABLE[name]
    settings = family.backbone.settings(preset['arch'])
    first_conv, side = _STEMS[family.backbone]
    if settings.get('patch_embed') == 'conv':
        first_conv = tuple(f'{conv}.0' for conv in first_conv)
    size = settings.get('img_size', 224)
    return PretrainedCfg(
        input_size=(3, size, size),
        crop_pct=1.0 if size == 408 else 0.875,
        interpolation='bicubic',
        pool_size=None if side is None else (side, side),
        first_conv=first_conv,
        classifier=_CLASSIFIERS[family.head],
    )


def _entrypoint(name: str, registered: str) -> Callable[..., nn.Module]:
    """The function that timm calls for a name of its registry."""

    def build(pretrained: bool = False, **kwargs) -> nn.Module:
        return _build(name, registered, pretrained, **kwargs)

    build.__name__ = build.__qualname__ = registered
    build.__doc__ = f"effvit_mm's {name}, with timm's methods."
    return build


def _build(
    name: str,
    registered: str,
    pretrained: bool,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    **kwargs,
) -> TimmClassifier | TimmFeatures:
    """A network as timm's ``create_model`` gives it.

    Raises:
        ConfigError: ``pretrained`` without a file; an argument that the network does not have.
    """
    cfg = resolve_pretrained_cfg(
        registered, kwargs.get('pretrained_cfg'), kwargs.get('pretrained_cfg_overlay')
    )
    if pretrained and not (cfg.has_weights or cfg.state_dict or cfg.source):
        raise ConfigError(
            f'pretrained=True: there are no weights of {name} to download. Give pretrained=False '
            "to start from noise, checkpoint_path='FILE', or pretrained=True with "
            "pretrained_cfg_overlay=dict(file='FILE'), which takes published names and a head of "
            'another class count too'
        )
    if out_indices is not None and not features_only:
        raise ConfigError(f'out_indices={out_indices!r} goes with features_only=True')
    features = partial(TimmFeatures, name, out_indices=out_indices)
    make = features if features_only else partial(TimmClassifier, name)
    own_file = cfg.file if pretrained and cfg.source != 'local-dir' else None
    model = build_model_with_cfg(make, registered, pretrained and not own_file, **kwargs)
    if features_only:  # what timm leaves out there, too
        wanted = {k: v for k, v in model.pretrained_cfg.items() if k != 'num_classes'}
        model.pretrained_cfg = model.default_cfg = {**wanted, 'classifier': None}
    if own_file:
        logger.info('%s: %s', registered, load_checkpoint(model, own_file))
    return model


def _check_arguments(name: str, in_chans: int, kwargs: Mapping) -> None:
    """Say in a line what timm would end with a TypeError of a constructor."""
    if in_chans != 3:
        raise ConfigError(f'in_chans={in_chans!r}: {name} takes images of 3 channels')
    parameters = backbone_arguments(MODEL_TABLE[name][0])
    allowed = sorted({*parameters} - {'arch', 'out_type', 'out_indices'})
    for key, value in kwargs.items():
        if key not in allowed:
            raise ConfigError(f'{key}={value!r}: {name} has no such argument; it has {allowed}')


def _feature_info(backbone: Backbone) -> list[dict]:
    """Channels and strides of all maps that a backbone could give."""
    last = len(backbone.stages) - 1
    return [
        {
            'num_chs': channels,
            'reduction': int(stride) if stride == int(stride) else stride,
            'module': f'backbone.stages.{min(i, last)}',
        }
        for i, (channels, stride) in enumerate(
            zip(backbone.stage_channels, backbone.stage_strides, strict=True)
        )
    ]


def _taken(count: int, indices: int | Sequence[int] | None) -> tuple[int, ...]:
    """timm's ``indices`` of maps: None for all, an int for the last ones, or a sequence.

    Raises:
        ConfigError: Out of range, repeated or not ascending.
    """
    if indices is None:
        return tuple(range(count))
    if isinstance(indices, int):
        if not 0 < indices <= count:
            raise ConfigError(f'indices={indices!r}: the last 1 to {count} maps can be had')
        return tuple(range(count - indices, count))
    try:
        return normalise_indices(tuple(indices), count)
    except ValueError as error:
        raise ConfigError(str(error)) from error


class TimmNetwork(nn.Module):
    """What classifiers and feature extractors have in common: a ``backbone``, and timm's switches.

    Attributes:
        feature_info: What maps there are.
        pretrained_cfg, default_cfg: How images are prepared; timm puts them here.
    """

    backbone: Backbone
    output_fmt = 'NCHW'
    in_chans = 3

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute each block again in the backward pass instead of keeping its activations."""
        self.backbone.with_cp = enable

    @property
    def grad_checkpointing(self) -> bool:
        return self.backbone.with_cp

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that our recipes do not decay, besides biases and norms."""
        names = (name for name, _ in self.named_parameters())
        return {name for name in names if any(part in name for part in _SPARED)}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Names of parameters to layers, for layer-wise decay: those of our own constructor.

        ``coarse``: the stem is 0, each stage is one, the rest is the last.
        """

        def layer(name: str) -> int:
            depth, count = self.backbone.get_layer_depth(name, 'backbone.')
            if not coarse or depth in (0, count - 1):
                return depth
            return 1 + int(name.split('.')[2])

        return layer


class TimmClassifier(TimmNetwork, Classifier):
    """A classifier of ours with timm's methods. Weights are named as ours.

    Args:
        name: Of :func:`effvit_mm.list_models`.
        num_classes: 0 for pooled features.
        in_chans: 3.
        global_pool: ``'avg'``, for CrossViT and vision transformers ``'token'``; ``''``, without
            classes, for the last map as it is.
        drop_rate: Dropout of pooled features in training.
        **kwargs: Of the backbone: ``drop_path_rate``, ``attention``, ``window_size``, ...

    Raises:
        ConfigError: An argument that is out of range or that the backbone does not have.
    """

    def __init__(
        self,
        name: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str | None = None,
        drop_rate: float = 0.0,
        **kwargs,
    ) -> None:
        _check_arguments(name, in_chans, kwargs)
        if not 0 <= drop_rate < 1:
            raise ConfigError(f'drop_rate={drop_rate!r}: a number in [0, 1) is needed')
        self.family, preset = MODEL_TABLE[name]
        backbone = self.family.backbone(**{**preset, **self.family.classifier, **kwargs})
        super().__init__(backbone, None)
        self.pooling = 'token' if self.family.classifier else 'avg'
        self.global_pool, self.drop_rate = self.pooling, drop_rate
        self.feature_info = _feature_info(backbone)
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head of ``num_classes``, 0 for none; ``global_pool`` None is as before.

        Raises:
            ConfigError: A pooling that the network does not have, or classes without one.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in ('', self.pooling):
            raise ConfigError(f"global_pool={pool!r}: this network has {self.pooling!r} and ''")
        if not isinstance(num_classes, int) or num_classes < 0 or (num_classes and not pool):
            raise ConfigError(
                f'num_classes={num_classes!r}: 0 or more is needed, and with them '
                f'global_pool={self.pooling!r}, not {pool!r}'
            )
        if self.pooling == 'token':
            self.backbone.out_type = 'cls_token' if pool else 'featmap'
        head = build_head(self.family, self.backbone, num_classes) or Head()
        old = next(self.backbone.parameters())
        self.head = head.to(old.device, old.dtype).train(self.training)
        self.num_classes, self.global_pool = num_classes, pool
        widths = self.backbone.token_widths if pool == 'token' else self.backbone.out_channels[-1:]
        self.num_features = self.head_hidden_size = sum(widths)

    def get_classifier(self) -> nn.Module:
        """The head, with all of its branches."""
        return self.head

    def forward_head(self, features: Tensor | list[Tensor], pre_logits: bool = False) -> Tensor:
        """What :meth:`forward_features` returns to logits, or to the vectors before them."""
        if not self.global_pool:
            return features
        x = F.dropout(self.head.pre_logits((features,)), self.drop_rate, self.training)
        return x if pre_logits else self.head.logits(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor | list[Tensor], list[Tensor]]:
        """Maps on the way, and what :meth:`forward_features` returns.

        Where that is class tokens, they come from a pass of their own.

        Args:
            x: Images ``(B, 3, H, W)``.
            indices: Which maps: None for all, an int for the last ones, or a sequence.
            norm: Norm the last map. CrossViT's maps are always normed.
            stop_early: Leave out stages behind the last map; with ``intermediates_only`` alone.
            output_fmt: ``'NCHW'``.
            intermediates_only: Return the maps alone.

        Returns:
            ``(features, [(B, C, H', W'), ...])``, or the list of maps.
        """
        if output_fmt != 'NCHW':
            raise ConfigError(f"output_fmt={output_fmt!r}: maps are 'NCHW'")
        backbone, last = self.backbone, self.backbone.num_maps - 1
        taken = _taken(backbone.num_maps, indices)
        if intermediates_only:
            return list(_with_maps(backbone, taken, norm, stop_early)(x))
        if self.global_pool == 'token':
            return self.forward_features(x), list(_with_maps(backbone, taken, norm)(x))
        maps = list(_with_maps(backbone, sorted({*taken, last}), norm=False)(x))
        normed = backbone.norm_behind(last)(maps[-1].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if last not in taken:
            maps.pop()
        elif norm:
            maps[-1] = normed
        return normed, maps


def _with_maps(
    backbone: Backbone, indices: Sequence[int], norm: bool, stop_early: bool = False
) -> Backbone:
    """The same modules as a backbone that returns other maps, the last one normed or raw."""
    other = copy.copy(backbone)
    other._modules = dict(backbone._modules)
    other.out_indices = tuple(indices)
    if hasattr(backbone, 'out_type'):
        other.out_type = 'featmap'
    if not norm:
        other._modules.pop('norm', None)
    if stop_early and backbone.num_stages is None:
        other.stages = backbone.stages[: indices[-1] + 1]
    return other


class TimmFeatures(TimmNetwork):
    """``create_model(name, features_only=True)`` with timm's methods: a list of raw NCHW maps.

    Args:
        name: Of :func:`effvit_mm.list_models`.
        out_indices: None for all maps, an int for the last ones, or a sequence.
        in_chans: 3.
        **kwargs: Of the backbone. What is meant for a classifier or for timm's own wrappers is left
            out, as timm does.

    Raises:
        ConfigError: An argument that is out of range or that the backbone does not have.
    """

    def __init__(
        self,
        name: str,
        out_indices: int | Sequence[int] | None = None,
        in_chans: int = 3,
        **kwargs,
    ) -> None:
        super().__init__()
        kwargs = {key: value for key, value in kwargs.items() if key not in _OF_CLASSIFIERS}
        _check_arguments(name, in_chans, kwargs)
        taken = _taken(MODEL_TABLE[name][0].backbone.num_maps, out_indices)
        self.backbone = create_model(name, features_only=True, out_indices=taken, **kwargs)
        self.feature_info = FeatureInfo(_feature_info(self.backbone), taken)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Images ``(B, 3, H, W)`` to maps ``(B, C, H', W')``."""
        return list(self.backbone(x))

    def load_state_dict(self, state_dict: Mapping, strict: bool = True, assign: bool = False):
        """As PyTorch's; what a classifier has besides (head, norm, later stages) is left out."""
        own = self.state_dict()
        known = {
            name: value
            for name, value in state_dict.items()
            if name in own or not name.startswith(('backbone.', 'head.'))
        }
        return super().load_state_dict(known, strict=strict, assign=assign)


def run_script(script: str, arguments: Sequence[str]) -> None:
    """Run a script of timm's as ``python script arguments`` would, after registration."""
    register_timm()
    run_as_main(script, arguments)


if __name__ == '__main__':
    from . import timm as canonical

    script_main('effvit_mm.timm', canonical.run_script)
else:
    register_timm()
