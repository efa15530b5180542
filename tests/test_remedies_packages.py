"""Where a package is missing, the line that a message gives brings the one that is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from programs import load_tool
from remedies import said, tries
from torch import nn

import effvit_mm
from effvit_mm import runtime
from effvit_mm import torchreid as adapter
from effvit_mm.errors import UserError
from effvit_mm.openmm.classifiers.teacher import Normalisation, TeacherSettings, build_network
from effvit_mm.reid.features import ReIDFeatures, load_features, save_features
from effvit_mm.reid.search import Gallery
from effvit_mm.runtime import DeployedNetwork
from effvit_mm.tracking.tracker import import_trackers


def features(path):
    vectors = np.eye(4, dtype=np.float32)
    labels = {'pids': np.arange(4), 'camids': np.zeros(4, int), 'paths': list('abcd')}
    save_features(ReIDFeatures(features=vectors, **labels), path)
    return load_features(path)


def gallery(index):
    return Gallery(4, index=index)


def timm_network():
    settings = TeacherSettings({'timm': 'test_vit', 'untrained': True})
    return build_network(settings, 3, Normalisation((0.0,) * 3, (1.0,) * 3, True))


def circle_loss():
    from effvit_mm.openmm.reid.losses import CircleLoss

    return CircleLoss()


def reranking():
    sys.modules.pop('effvit_mm.reid.reranking', None)
    from effvit_mm.reid.reranking import Reranking

    return Reranking()


def onnx_file(path):
    network = DeployedNetwork(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval())
    runtime.export_onnx(network, path.with_suffix('.onnx'), (9, 9))


# Words -> the module that is missing, what needs it, and what works without it, if anything.
Needs = tuple[str, Callable, Callable | None]
MISSING: dict[str, Needs] = {
    "tracking needs the package {}: `pip install 'effvit-mm[track]'` or `pip install trackers`": (
        'trackers', lambda _: import_trackers(), None,
    ),
    "the page needs the package gradio: `pip install 'effvit-mm[app]'` or `pip install gradio`": (
        'gradio', lambda _: load_tool('app').check_gradio(), None,
    ),
    'timm is not installed: pip install timm': ('timm', lambda _: timm_network(), None),
    '{} needs the package {}: pip install pytorch-metric-learning': (
        'pytorch_metric_learning', lambda _: circle_loss(), None,
    ),
    ".parquet files need pyarrow: `pip install 'effvit-mm[reid]'`, or use a .npz file": (
        'pyarrow', lambda path: features(path.with_suffix('.parquet')),
        lambda path: features(path.with_suffix('.npz')),
    ),
    're-ranking needs SciPy: `pip install scipy`': ('scipy', lambda _: reranking(), None),
    "needs FAISS: `pip install 'effvit-mm[reid]'` or `pip install faiss-cpu`; or take "
    "index='exact'": ('faiss', lambda _: gallery('approximate'), lambda _: gallery('exact')),
    "pip install 'effvit-mm[export]'": ('onnx', onnx_file, None),
    "torchreid needs {}, which its package does not ask for: pip install 'effvit-mm[reid]' brings "
    'what it needs': ('gdown', lambda _: adapter.import_torchreid('models'), None),
}  # fmt: skip


def distributions(target: str) -> set[str]:
    """What ``pip install target`` brings, of an extra of ours its packages."""
    extras = re.fullmatch(r'effvit-mm\[([\w,]+)\]', target)
    if not extras:
        return {re.match(r'[\w.-]+', target)[0]}
    lines = [
        line.partition(';')[0].strip()
        for line in requires('effvit-mm')
        if any(f'extra == "{extra}"' in line for extra in extras[1].split(','))
    ]  # an extra may name others: effvit-mm[onnx,openvino]
    own = (
        line if line.startswith('effvit-mm[') else re.match(r'[\w.-]+', line)[0] for line in lines
    )
    return set().union(*map(distributions, own))


def brings(text: str, module: str) -> bool:
    """Whether each ``pip install`` of a message brings the package of a module."""
    targets = [one.strip("'`") for one in re.findall(r"pip install ('[^']+'|[\w-]+)", text)]
    theirs = {name.lower() for name in packages_distributions()[module]}
    return bool(targets) and all(distributions(target) & theirs for target in targets)


@tries(*MISSING)
@pytest.mark.parametrize('words', MISSING)
def test_a_package_that_is_missing(words, tmp_path, monkeypatch):
    module, work, otherwise = MISSING[words]
    pytest.importorskip(module)
    with monkeypatch.context() as patch:
        for name in [n for n in sys.modules if n.split('.')[0] in (module, 'torchreid')]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, module, None)
        with pytest.raises(UserError) as error:
            work(tmp_path / 'a')
        if otherwise is not None:
            assert otherwise(tmp_path / 'b') is not None
    assert said(words, str(error.value)) and brings(str(error.value), module)
    work(tmp_path / 'a')


@tries("torchreid is not installed: pip install 'effvit-mm[reid]' brings it")
def test_torchreid_is_missing(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(adapter, 'find_spec', lambda name: None)
        with pytest.raises(UserError) as error:
            adapter.installed_package()
    text = str(error.value)
    assert said('torchreid is not installed: pip install', text) and brings(text, 'torchreid')
    assert adapter.installed_package()


class _WithoutTimm:
    """Finds no timm, as where it is not installed."""

    def find_spec(self, name, *_):
        if name == 'timm':
            raise ModuleNotFoundError(name, name=name)


@tries('effvit_mm.{} needs timm: `pip install timm` brings it')
def test_timm_is_missing_where_networks_are_to_enter_it(monkeypatch):
    pytest.importorskip('timm')
    with monkeypatch.context() as patch:
        for name in [n for n in sys.modules if n.split('.')[0] == 'timm' or n == 'effvit_mm.timm']:
            patch.delitem(sys.modules, name)
        patch.setattr(sys, 'meta_path', [_WithoutTimm(), *sys.meta_path])
        with pytest.raises(ModuleNotFoundError) as error:
            effvit_mm.register_timm()
    assert str(error.value) == 'effvit_mm.register_timm needs timm: `pip install timm` brings it'
    assert brings(str(error.value), 'timm')
    assert effvit_mm.register_timm()['pslt_tiny'] == 'pslt_tiny'


# OpenMMLab ----------------------------------------------------------------------------------------

LATER = "`pip install 'effvit-mm[openmm]'` brings the OneDL distributions; OpenMMLab's own packages"


@pytest.fixture
def run(pythons):
    seen = "import warnings\nwarnings.simplefilter('always')\n"
    return lambda code: pythons.run('-c', seen + code)


@tries(
    'effvit_mm.{} needs {}: `pip install',
    'effvit_mm needs mmengine: `pip install',
)
def test_mmengine_is_missing(run):
    asks = (
        'import sys\n{}import effvit_mm\n'
        "for work in ('effvit_mm.Detector', '__import__(\"effvit_mm.registry\")'):\n"
        '    try:\n        eval(work)\n'
        '    except ModuleNotFoundError as error:\n        print(error)\n'
    )
    gone = (
        'class Finder:\n    def find_spec(self, name, *_):\n'
        "        if name.split('.')[0] == 'mmengine':\n"
        "            raise ModuleNotFoundError(name, name='mmengine')\n"
        'sys.meta_path.insert(0, Finder())\n'
    )
    (one, other) = run(asks.format(gone)).stdout.splitlines()
    assert said('effvit_mm.{} needs {}: `pip install', one) and LATER in one
    assert said('effvit_mm needs mmengine: `pip install', other) and LATER in other
    assert brings(one, 'mmengine') and brings(other, 'mmengine')
    assert run(asks.format('')).stdout == ''


@tries("mmcv is not installed, so nothing asks for its operators: 'pip install onedl-mmcv'")
def test_mmcv_is_missing(monkeypatch, capsys):
    import effvit_mm.ops.__main__ as table

    with monkeypatch.context() as patch:
        patch.setattr(sys, 'meta_path', [])
        for name in [name for name in sys.modules if name.split('.')[0] == 'mmcv']:
            patch.delitem(sys.modules, name)
        assert table.main() == 0
    text = capsys.readouterr().out
    assert said('so nothing asks for its operators:', text)
    assert brings(text, 'mmcv')
    assert table.main() == 0 and 'roi_align' in capsys.readouterr().out


@tries("Put 'import effvit_mm' before the first import of mmdet.")
def test_mmdet_came_before(run):
    # By its file: what this process has for it may be another test's.
    if list(Path(find_spec('mmcv').origin).parent.glob('_ext*.so')):
        pytest.skip('mmcv is compiled here')
    works = (
        'import torch, mmcv.ops\n'
        'box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])\n'
        'print(len(mmcv.ops.nms(box, torch.ones(1), 0.5)[1]))\n'
    )
    # mmdet cannot be imported without the operators; another that survives that is pretended.
    late = run("import sys\nsys.modules['mmdet.models'] = sys\nimport effvit_mm")
    assert "Put 'import effvit_mm' before the first import of mmdet." in late.stderr, late.stderr
    early = run(f'import effvit_mm\nimport mmdet.models\n{works}')
    assert 'before the first import' not in early.stderr and early.stdout == '1\n', early.stderr
