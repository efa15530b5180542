"""Networks by name: ours, timm's, torchvision's and torchreid's."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from torch import nn

import effvit_mm
from effvit_mm.errors import ConfigError

from .workload import OURS, kind_of

PEOPLE = 751  # classes of torchreid's models: as on Market-1501
SHOWN = 8  # names in a message


def check_network(model: str) -> None:
    """Raise where a name is of no network, or of a library that is not there.

    Raises:
        ConfigError: With the names that are most alike.
    """
    name = model.partition(':')[2] or model
    names = network_names(kind_of(model))
    if kind_of(model) == 'timm':
        name = name.partition('.')[0]  # behind the point: which pretrained weights
    if name not in names:
        start = name.partition('_')[0]
        alike = [other for other in names if other.startswith(start)] or names
        more = f' and {len(alike) - SHOWN} more' if len(alike) > SHOWN else ''
        raise ConfigError(
            f'there is no network {model!r}; there are {", ".join(alike[:SHOWN])}{more}'
        )


def network_names(kind: str) -> list[str]:
    """Names of the networks of a kind, one of those that :func:`.workload.kind_of` gives."""
    if kind == 'timm':
        return _library('timm').list_models()
    if kind == 'torchvision':
        models = _library('torchvision.models')
        return models.list_models(module=models)
    if kind == 'torchreid':
        return sorted(vars(_torchreid_models())['__model_factory'])
    return effvit_mm.list_models()


def build_network(model: str, size: tuple[int, int], checkpoint: str | None = None) -> nn.Module:
    """A network for images of this height and width.

    Only timm's models of a fixed size are built for it; others take the size or fail.

    Args:
        model: Its name, as ``pslt_tiny`` or ``timm:deit_tiny_patch16_224``.
        size: Height and width.
        checkpoint: Weights, of a network of ours; random ones where it is None.
    """
    kind, name = kind_of(model), model.partition(':')[2]
    if kind == 'timm':
        timm = _library('timm')
        cfg = timm.get_pretrained_cfg(name)
        fixed = cfg is not None and cfg.fixed_input_size
        return timm.create_model(name, **({'img_size': size} if fixed else {}))
    if kind == 'torchvision':
        return _library('torchvision.models').get_model(name, weights=None)
    if kind == 'torchreid':
        build = _torchreid_models().build_model
        return build(name, num_classes=PEOPLE, pretrained=False, use_gpu=False)
    return effvit_mm.create_model(model, checkpoint=checkpoint)


def deploy(model: str, network: nn.Module) -> nn.Module:
    """A network in the form that its library has for inference, changed in place.

    Ours after ``switch_to_deploy()``, timm's after timm's ``reparameterize_model()``, which joins
    RepViT's branches and folds LeViT's norms; others as they are.

    Args:
        model: Its name.
        network: In evaluation mode.
    """
    kind = kind_of(model)
    if kind == 'timm':
        return _library('timm.models').reparameterize_model(network, inplace=True)
    if kind == OURS:
        network.switch_to_deploy()
    return network


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'the package {error.name} is missing: pip install {error.name}'
        ) from error


def _torchreid_models() -> ModuleType:
    from effvit_mm.torchreid import import_torchreid

    return import_torchreid('models')
