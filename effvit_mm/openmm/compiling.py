"""Models of OpenMMLab whose network another runtime computes; what follows it stays theirs."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseTTAModel
from torch import Tensor, nn

from ..errors import ConfigError
from ..reid.network import ReIDNetwork
from ..runtime import compile
from ..utils.silence import silent_imports


def passed_on(x: Any) -> Any:
    """What a head does with what was computed for it: nothing."""
    return x


class Whole(nn.Module):
    """Backbone, neck and head of a model, as far as they depend on nothing but the images."""

    def __init__(self, model: nn.Module, head: nn.Module | None) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(self, images: Tensor) -> Any:
        features = self.model.extract_feat(images)
        return features if self.head is None else self.head(features)


class Feature(nn.Module):
    """The feature of a re-ID model, in a tuple as a backbone's maps are."""

    def __init__(self, model: ReIDNetwork) -> None:
        super().__init__()
        self.backbone, self.pool, self.neck = model.backbone, model.pool, model.neck

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.neck(self.pool(self.backbone(images)[-1])),)


def compile_model(
    model: nn.Module,
    runtime: str,
    precision: str = 'fp32',
    runtime_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Exchange a model's network, in place, for what a runtime makes of it.

    What the network gives is what its parts gave: preprocessing, boxes, suppression and metrics are
    the model's own. It is compiled for the sizes of the images as they come.

    Args:
        model: A trained classifier of mmpretrain, detector of mmdet or re-ID model. Of one-stage
            detectors the heads' convolutions are compiled too, of others backbone and neck.
        runtime: Name of a runtime.
        precision: ``'fp32'``, or ``'bf16'``.
        runtime_options: Of the runtime, by its own names.

    Raises:
        ConfigError: An argument or an option that cannot be used.
        ExportError: The runtime is not installed.
    """
    options = runtime_options or {}
    if isinstance(model, BaseTTAModel):
        compile_model(model.module, runtime, precision, runtime_options)
        return model
    if isinstance(model, ReIDNetwork):
        model.backbone = compile(Feature(model), runtime, precision=precision, **options)
        model.pool, model.neck = nn.Identity(), nn.Identity()
        return model
    head = _head(model)
    model.backbone = compile(Whole(model, head), runtime, precision=precision, **options)
    model.neck = None
    if head is not None:
        head.forward = passed_on  # its methods call it and go on from there
    return model


def _head(model: nn.Module) -> nn.Module | None:
    """The head that maps features to what a graph can hold, if there is one."""
    if hasattr(model, 'head'):
        return model.head
    try:
        with silent_imports():
            from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
            from mmdet.models.detectors import SingleStageDetector
    except ModuleNotFoundError:
        return None
    head = getattr(model, 'bbox_head', None)
    one_stage = isinstance(model, SingleStageDetector) and isinstance(head, BaseDenseHead)
    return head if one_stage else None


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Options of a runtime, of ``NAME=VALUE`` on a command line.

    Raises:
        ConfigError: One of them is no such pair.
    """
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition('=')
        if not name or not equals:
            raise ConfigError(f'--runtime-options {pair}: NAME=VALUE is needed')
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options
