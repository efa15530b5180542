"""Models by name, without any config: what timm's users expect."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from torch import Tensor, nn

from .backbones import PSLT, Backbone
from .checkpoint import get_state_dict, load_weights, read_checkpoint

# Name of a model: its backbone's class and arguments.
MODEL_TABLE: dict[str, tuple[type[Backbone], dict]] = {
    f'pslt_{arch}': (PSLT, {'arch': arch}) for arch in PSLT.arch_settings
}


class LinearHead(nn.Module):
    """Logits from pooled features: ``(B, C) -> (B, num_classes)``."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


class Classifier(nn.Module):
    """A backbone, mean pooling and a linear head: images ``(B, 3, H, W)`` to logits.

    The names of its weights are those of mmpretrain's ``ImageClassifier`` with the same backbone
    and a ``LinearClsHead``: checkpoints move freely between the two. With ``num_classes=0`` it
    returns the pooled features.
    """

    def __init__(self, backbone: Backbone, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.num_features = backbone.out_channels[-1]
        self.head = LinearHead(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, ``(B, C, H', W')``."""
        return self.backbone(x)[-1]

    def forward_head(self, x: Tensor) -> Tensor:
        """Logits of a map."""
        return self.head(x.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def list_models(pattern: str = '*') -> list[str]:
    """Names that :func:`create_model` takes, sorted; ``pattern`` as in a shell: ``'pslt*'``."""
    return sorted(name for name in MODEL_TABLE if fnmatch(name, pattern))


def create_model(
    name: str,
    num_classes: int = 1000,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    checkpoint: str | Path | None = None,
    **kwargs,
) -> nn.Module:
    """Build a model by name.

    Args:
        name: One of :func:`list_models`.
        num_classes: Classes of the head; 0 for pooled features.
        features_only: Return the backbone: a tuple of raw NCHW maps instead of logits.
        out_indices: Stages to return with ``features_only``; all by default.
        checkpoint: File to load the weights from, in our names (see
            :func:`effvit_mm.convert_state_dict` for others). A head of another class count is left
            at its initialisation.
        **kwargs: Further arguments of the backbone's class.

    Raises:
        ValueError: An unknown name, or an argument out of range.
        CheckpointError: Nothing in ``checkpoint`` fits.
    """
    if name not in MODEL_TABLE:
        raise ValueError(f'there is no model {name!r}; there are: {", ".join(list_models())}')
    if not isinstance(num_classes, int) or num_classes < 0:
        raise ValueError(f'num_classes={num_classes!r}: 0 (features) or more is needed')
    if out_indices is not None and not features_only:
        raise ValueError('out_indices goes with features_only=True: a classifier returns logits')
    backbone_class, preset = MODEL_TABLE[name]
    arguments = {**preset, **kwargs}
    if features_only:
        arguments.setdefault('final_norm', False)
        arguments['out_indices'] = (0, 1, 2, 3) if out_indices is None else out_indices
    model: nn.Module = backbone_class(**arguments)
    if not features_only:
        model = Classifier(model, num_classes)
    if checkpoint is not None:
        state = get_state_dict(read_checkpoint(checkpoint), source=str(checkpoint))
        nested = features_only and any(key.startswith('backbone.') for key in state)
        load_weights(model, state, source=str(checkpoint), prefix='backbone.' if nested else '')
    return model
