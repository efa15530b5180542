"""Backbones build from every OpenMMLab project, with no custom_imports."""

import pytest
from remedies import tries

import effvit_mm
from effvit_mm.errors import CheckpointError, ConfigError

# mmdet cannot be imported at all without mmcv's operators: here is a "compiled" mmcv for it.
COMPILED = """
import sys, types
class Compiled(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *args: None
sys.modules['mmcv._ext'] = Compiled('mmcv._ext')
"""
BUILD = """
from {package}.registry import MODELS
model = MODELS.build(dict(type={name!r}, arch='tiny'))
print(type(model).__module__)
"""


NETWORKS = """
import sys
import effvit_mm
for name in {names}:
    effvit_mm.create_model(name)
print([name for name in ('mmdet', 'mmpretrain', 'torchreid') if name in sys.modules])
"""


@pytest.fixture
def run(pythons):
    return lambda code: pythons.run('-c', code)


def test_new_pythons_have_nothing_that_is_tested_here(run):
    names = ('effvit_mm', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'torchreid', 'timm')
    result = run(f'import sys; print([name for name in {names} if name in sys.modules])')
    assert result.stdout == '[]\n', result.stderr


@pytest.mark.parametrize('package', ['mmengine', 'mmpretrain', 'mmdet'])
def test_prefixed_type_builds_without_import(run, package):
    result = run(COMPILED + BUILD.format(package=package, name='effvit_mm.PSLT'))
    assert result.stdout.split()[-1:] == ['effvit_mm.openmm.backbones'], result.stderr


@pytest.mark.parametrize('package', ['mmengine', 'mmpretrain', 'mmdet'])
def test_plain_type_builds_after_import(run, package):
    result = run('import effvit_mm' + BUILD.format(package=package, name='PSLT'))
    assert result.stdout.split()[-1:] == ['effvit_mm.openmm.backbones'], result.stderr


@pytest.mark.parametrize('then', ['', "effvit_mm.create_model('castling_levit_128s')"])
def test_importing_and_building_are_light(run, then):
    heavy = ('mmdet', 'mmpretrain', 'mmcv', 'torchreid', 'timm', 'matplotlib.pyplot')
    code = (
        f'import sys, effvit_mm\n{then}\nprint([name for name in {heavy} if name in sys.modules])'
    )
    result = run(code)
    assert result.stdout.strip() == '[]', result.stderr


@pytest.mark.parametrize(
    ('library', 'module'),
    [
        ('mmpretrain', 'openmm.datasets'),
        ('mmdet', 'openmm.datasets.detection'),
        ('mmdet', 'openmm.metrics'),
        ('mmdet', 'inference.preprocessing'),
    ],
)
def test_what_imports_a_library_is_silent(run, library, module):
    """Both print that OneDL's platform is not there; mmdet warns of other packages."""
    missing = "import sys\nsys.modules['faster_coco_eval'] = None\n"
    loaded = f"assert '{library}.datasets' in sys.modules"
    result = run(f'{missing}import effvit_mm.{module}\n{loaded}')
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


@pytest.mark.parametrize(
    'asked',
    [
        "import data_checks.detection as d; list(d.judged_sets({}, 'x', dict(type='Accuracy')))",
        'import compiling as c; c._head(__import__("torch").nn.Linear(1, 1))',
    ],
)
def test_what_looks_whether_a_model_or_metric_is_mmdet_s_is_silent(run, asked):
    """It imports mmdet where a config of another package has not."""
    asked = asked.replace('import ', 'import effvit_mm.openmm.', 1)
    result = run(f"{asked}\nimport sys; assert 'mmdet' in sys.modules")
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_a_config_that_imports_a_library_says_what_it_prints_itself(run, tmp_path):
    (tmp_path / 'c.py').write_text(
        'from mmdet.datasets import CocoDataset\nprint(1)\nmodel = dict(type=CocoDataset)\n'
    )
    load = 'from effvit_mm.openmm.config.loading import load_config\n'
    result = run(f'{load}load_config({str(tmp_path / "c.py")!r}, [])')
    assert (result.returncode, result.stdout, result.stderr) == (0, '1\n', '')


def test_attention_needs_torch_alone(run):
    code = """
import importlib.util, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'torchvision'):
            raise ImportError(name)
for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
import os, types
folder = {folder!r}
package = types.ModuleType('effvit_mm'); package.__path__ = [folder]
sys.modules['effvit_mm'] = package
import effvit_mm.attention
print('done')
"""
    result = run(code.format(folder=effvit_mm.__path__[0]))
    assert result.stdout.strip() == 'done', result.stderr


def test_list_models():
    assert effvit_mm.list_models('pslt*') == ['pslt_base', 'pslt_large', 'pslt_tiny']
    assert effvit_mm.list_models('PSLT*') == effvit_mm.list_models('pslt*')
    assert effvit_mm.list_models('no*') == []
    assert effvit_mm.list_models() == sorted(effvit_mm.list_models())


def test_create_model_refuses():
    with pytest.raises(ConfigError, match=r"no model 'no'; effvit_mm.list_models\(\) has all$"):
        effvit_mm.create_model('no')
    with pytest.raises(ValueError, match='num_classes=-1'):
        effvit_mm.create_model('pslt_tiny', num_classes=-1)
    with pytest.raises(ValueError, match='features_only'):
        effvit_mm.create_model('pslt_tiny', out_indices=(1, 2))


@tries('effvit_mm.list_models() has all')
@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('pslt-tiny', 'pslt_tiny'),
        ('PSLT_Tiny', 'pslt_tiny'),
        ('pslt_tinny', 'pslt_tiny'),
        ('deit_tiny_patch16_224', 'deit_tiny'),
        ('deit_tiny_distilled_patch16_224.fb_in1k', 'deit_tiny_distilled'),
        ('crossvit_9_240', 'crossvit_9'),
        ('levit_128s.fb_dist_in1k', 'levit_128s'),
    ],
)
def test_of_models_the_nearest_is_named_first(name, meant):
    message = f"no model '{name}'; did you mean '{meant}'.*has all"
    asked = (
        lambda: effvit_mm.create_model(name),
        lambda: effvit_mm.convert_state_dict({}, name),
        lambda: effvit_mm.export_state_dict({}, name),
    )
    for ask in asked:
        with pytest.raises(ConfigError, match=message):
            ask()
    assert meant in effvit_mm.list_models()


def test_weights_in_the_place_of_their_file_and_the_other_way_round():
    state = effvit_mm.create_model('pslt_tiny').state_dict()
    with pytest.raises(CheckpointError, match=r'name of a file .* is needed, no Ordered'):
        effvit_mm.create_model('pslt_tiny', checkpoint=state)
    for rename in (effvit_mm.convert_state_dict, effvit_mm.export_state_dict):
        with pytest.raises(CheckpointError, match=r'state: names with their tensors .*, no str'):
            rename('pslt_tiny.pth', 'pslt_tiny')


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ({'checkpoint_path': 'a.pth'}, 'it is called checkpoint here'),
        ({'global_pool': ''}, 'give num_classes=0 for pooled features'),
        ({'num_clases': 4}, "no such argument; did you mean 'num_classes'"),
        ({'drop_path_rte': 0.1}, "no such argument; did you mean 'drop_path_rate'"),
        ({'colour': 1}, 'pslt_tiny has no such argument; there are num_classes, .*with_cp'),
    ],
)
def test_arguments_that_there_are_not(argument, message):
    with pytest.raises(ConfigError, match=message):
        effvit_mm.create_model('pslt_tiny', **argument)


def test_networks_by_name_load_no_host(run):
    """A host prints, and takes seconds; mechanisms are looked up without one."""
    names = ['pslt_tiny', 'crossvit_tiny', 'castling_deit_tiny', 'levit_128s', 'mvitv2_tiny']
    result = run(NETWORKS.format(names=names))
    assert result.stdout == '[]\n', result.stderr
