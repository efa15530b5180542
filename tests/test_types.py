"""mypy's settings, and that what Protocols ask of mechanisms, backbones and runtimes is there."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path

import pytest
import torch
from foreign_parts import MeanAttention, MeanSession, Strided
from pyproject import read_pyproject

import effvit_mm
from effvit_mm.attention.mechanism import MECHANISMS, Mechanism
from effvit_mm.backbones import FeatureMaps
from effvit_mm.runtime.sessions import Session
from effvit_mm.runtime.table import RUNTIMES

ROOT = Path(__file__).parents[1]
MYPY = read_pyproject()['tool']['mypy']
# Modules that are not yet checked strictly. To grow shorter, never longer.
MOST_EXEMPT = 18


def exempt() -> list[str]:
    (override,) = MYPY['overrides']
    return override['module']


def test_few_modules_are_exempt_and_each_is_there():
    assert MYPY['strict'] and 'effvit_mm' in MYPY['files']
    assert len(exempt()) <= MOST_EXEMPT
    for name in exempt():
        place = ROOT.joinpath(*name.removesuffix('.*').split('.'))
        found = place.is_dir() if name.endswith('.*') else place.with_suffix('.py').is_file()
        assert found, name


def test_no_core_room_is_exempt_as_a_whole():
    core = ('attention', 'backbones', 'deploy', 'heads', 'models', 'ops', 'reid', 'runtime',
            'tracking', 'utils', 'weights')  # fmt: skip
    assert not {f'effvit_mm.{room}{end}' for room in core for end in ('', '.*')} & set(exempt())
    assert not [name for name in exempt() if name.split('.')[1] in ('attention', 'backbones')]


def test_annotations_are_told_to_be_there():
    assert (ROOT / 'effvit_mm' / 'py.typed').is_file()


# --- Protocols ------------------------------------------------------------------------------------


def asked(protocol: type) -> set[str]:
    """The names of what a Protocol asks for."""
    own = {name for name in vars(protocol) if not name.startswith('_')}
    return own | set(typing.get_type_hints(protocol))


def parameters(function) -> list[tuple]:
    """Names, kinds and whether they have defaults, of a method's parameters behind ``self``."""
    every = list(inspect.signature(function).parameters.values())[1:]
    return [(each.name, each.kind, each.default is each.empty) for each in every]


@pytest.mark.parametrize('cls', [*MECHANISMS.values(), MeanAttention], ids=lambda cls: cls.__name__)
def test_mechanisms_are_called_as_their_protocol_says(cls):
    mine, wanted = parameters(cls.forward), parameters(Mechanism.__call__)
    assert mine[: len(wanted)] == wanted
    assert all(not needed for _, _, needed in mine[len(wanted) :])


@pytest.mark.parametrize('cls', [row.session for row in RUNTIMES.values()] + [MeanSession])
def test_sessions_have_what_their_protocol_asks(cls):
    made = inspect.getsource(cls)
    assert not [name for name in asked(Session) if name not in made and not hasattr(cls, name)]
    assert parameters(cls.__init__)[:2] == parameters(Session.__init__)[:2]


@pytest.mark.parametrize(
    'name', ['pslt_tiny', 'crossvit_9', 'levit_128s', 'mvitv2_tiny', 'deit_tiny']
)
def test_backbones_have_what_their_protocol_asks(name):
    with torch.device('meta'):
        backbone = effvit_mm.create_model(name, features_only=True)
    for each in (backbone, Strided()):
        assert not [name for name in asked(FeatureMaps) if not hasattr(each, name)]


def test_what_inherits_nothing_of_ours_serves():
    """The mechanism in a host, the backbone below a head of ours."""
    x = torch.rand(1, 3, 64, 64)
    host = effvit_mm.create_model('levit_128s', num_classes=3, attention={'type': MeanAttention})
    assert host.eval()(x).shape == (1, 3)
    backbone = Strided()
    head = effvit_mm.models.LinearHead(backbone.out_channels[-1], 3)
    assert effvit_mm.models.Classifier(backbone, head)(x).shape == (1, 3)
    assert backbone(x)[-1].shape[-1] == 64 / backbone.out_strides[-1]
