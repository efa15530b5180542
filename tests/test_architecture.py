"""The rooms of the package: imports run downwards only, and the lower ones need torch alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'effvit_mm'
# From the ground up: a room may import those before it, and no two rooms import each other.
# docs/architecture.md says what is in each.
ROOMS = (
    'errors', 'version', 'utils', 'ops', 'attention', 'backbones', 'heads', 'weights', 'models',
    'deploy', 'flops', 'runtime', 'sample_data', 'evaluation', 'reid', 'tracking', 'visualization',
    'timm',
    'torchreid', 'openmm', 'registry', 'inference', '__init__',
    '__main__',
)  # fmt: skip
# Rooms that need torch, torchvision and NumPy alone (and, of runtime, reid, what a function names).
CORE = ROOMS[: ROOMS.index('visualization') + 1]
FRAMEWORKS = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')


def imported_modules(path: Path) -> set[tuple[str, ...]]:
    """Modules that a file imports, within functions too: ``('effvit_mm', 'reid', 'search')``."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {tuple(alias.name.split('.')) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = base + tuple((node.module or '').split('.') if node.module else ())
            modules |= {(*module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, 'attr', getattr(node.func, 'id', None))
            target = node.args[0]
            if name == 'import_module' and isinstance(target, ast.Constant):
                modules.add(tuple(str(target.value).split('.')))
    return modules


def room_of(module: tuple[str, ...]) -> str:
    """The room of a module of ours; a name of the package itself is in ``__init__``."""
    return module[1] if len(module) > 1 and module[1] in ROOMS else '__init__'


def files() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob('*.py') if '.mim' not in p.parts)


def test_every_module_is_in_a_room():
    tops = {p.relative_to(PACKAGE).parts[0].removesuffix('.py') for p in files()}
    assert tops == set(ROOMS)


def test_imports_run_downwards():
    wrong = []
    for path in files():
        inner = path.relative_to(PACKAGE).with_suffix('').parts
        room = inner[0] if len(inner) > 1 else inner[-1]
        for module in imported_modules(path):
            if module[0] != 'effvit_mm':
                continue
            target = room_of(module)
            if target != room and ROOMS.index(target) > ROOMS.index(room):
                wrong.append(f'{"/".join(inner)} -> {".".join(module)}: {room} is below {target}')
    assert not wrong, '\n'.join(wrong)


def test_only_openmm_and_what_is_above_it_names_a_framework():
    wrong = [
        f'{path.relative_to(PACKAGE)} imports {".".join(module)}'
        for path in files()
        for module in imported_modules(path)
        if module[0] in FRAMEWORKS
        and path.relative_to(PACKAGE).parts[0].removesuffix('.py') in CORE
        # The stand-in is for mmcv: it takes the place of its missing extension.
        and path.relative_to(PACKAGE).parts[0] != 'ops'
    ]
    assert not wrong, '\n'.join(wrong)


def test_attention_knows_torch_alone():
    standard = sys.stdlib_module_names | {'torch', 'effvit_mm'}
    for path in sorted((PACKAGE / 'attention').glob('*.py')):
        for module in imported_modules(path):
            assert module[0] in standard, f'{path.name} imports {module}'
            assert module[0] != 'effvit_mm' or module[1] == 'attention', f'{path.name}: {module}'


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name.split('.')[0])

sys.meta_path.insert(0, Blocked())
import torch
import effvit_mm
"""
ALL = (*FRAMEWORKS, 'timm', 'torchreid', 'pyppbox_torchreid')


@pytest.fixture
def run_without(pythons):
    """Run code in an interpreter in which these packages cannot be imported."""

    def run(blocked: tuple[str, ...], code: str) -> subprocess.CompletedProcess:
        program = BLOCKED.format(blocked=set(blocked)) + code
        return pythons.run('-c', program, cwd=PACKAGE.parent)

    return run


CORE_WORK = {
    'networks by name': """
assert 'pslt_tiny' in effvit_mm.list_models('pslt*')
model = effvit_mm.create_model('crossvit_9', num_classes=3).eval()
assert model(torch.rand(1, 3, 240, 240)).shape == (1, 3)
maps = effvit_mm.create_model('pslt_tiny', features_only=True).eval()(torch.rand(1, 3, 64, 96))
assert [m.shape[1] for m in maps] == [48, 96, 192, 384]
""",
    'deployment': """
model = effvit_mm.create_model('castling_levit_128s', num_classes=5).eval()
x = torch.rand(2, 3, 96, 96)
with torch.no_grad():
    before = model(x)
    assert torch.allclose(model.switch_to_deploy()(x), before, atol=1e-4)
""",
    'counting': """
assert effvit_mm.count_flops(effvit_mm.create_model('pslt_tiny'), (3, 224, 224)) > 8e8
""",
    'weights': """
import tempfile, pathlib
model = effvit_mm.create_model('deit_tiny', num_classes=2)
published = effvit_mm.export_state_dict(model.state_dict(), 'deit_tiny')
again = effvit_mm.convert_state_dict(published, 'deit_tiny')
assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())
with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / 'weights.pth'
    torch.save({'state_dict': model.state_dict()}, file)
    other = effvit_mm.create_model('deit_tiny', num_classes=2, checkpoint=file)
assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
""",
    'ranking': """
import numpy as np
from effvit_mm.reid.features import ReIDFeatures
from effvit_mm.reid.ranking import evaluate
rng = np.random.default_rng(0)
def some(n, cameras):
    return ReIDFeatures(
        features=rng.normal(size=(n, 8)).astype('f4'), pids=np.arange(n) % 4,
        camids=np.full(n, cameras), paths=[f'{i}.jpg' for i in range(n)],
    )
results = evaluate(some(4, 0), some(12, 1))
assert 0 < results.mAP <= 1
""",
}


def test_core_needs_no_framework(run_without):
    result = run_without(ALL, '\n'.join(CORE_WORK.values()))
    assert result.returncode == 0, result.stderr


def test_what_needs_a_missing_package_names_it_and_the_pip_line(run_without):
    code = """
needed = dict(
    Detector='mmengine', ReIDExtractor='mmengine',
    register_torchreid='torchreid', register_timm='timm',
)
for name, package in needed.items():
    try:
        found = getattr(effvit_mm, name)
        if name == 'register_torchreid':
            found()
    except Exception as error:
        text = str(error)
        assert package in text and 'pip install' in text, text
    else:
        raise AssertionError(f'no error of {name}')
try:
    import effvit_mm.openmm.cli  # as train.py and test.py do
except ModuleNotFoundError as error:
    assert 'needs mmengine' in str(error) and 'pip install' in str(error), error
else:
    raise AssertionError('no error of the command line')
"""
    result = run_without(ALL, code)
    assert result.returncode == 0, result.stderr


def test_a_python_without_torch_is_told_so():
    """As the system's own, where nobody has activated the environment."""
    program = PACKAGE.parent / 'tools' / 'train.py'
    command = [sys.executable, '-S', str(program), 'config.py']  # -S: no site-packages
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.count('\n') == 1, done.stderr
    line = done.stderr.rstrip('\n')
    assert line.startswith(f'error: effvit_mm needs torch, which {sys.executable} does not have')
    assert '. .venv/bin/activate' in line and done.returncode == 2
    done = subprocess.run([*command, '--debug'], capture_output=True, text=True)
    assert 'Traceback' in done.stderr and done.stderr.splitlines()[-1].endswith(line[6:])


def test_ranking_loads_no_runner(pythons):
    code = """
import sys
import effvit_mm.reid.ranking
heavy = [m for m in ('mmengine.runner', 'mmdet', 'mmpretrain', 'torchreid') if m in sys.modules]
assert not heavy, heavy
"""
    result = pythons.run('-c', code, cwd=PACKAGE.parent)
    assert result.returncode == 0, result.stderr


def test_reading_a_config_loads_no_trainer(pythons):
    code = """
import sys
from effvit_mm.openmm.config.checks import check_config
from effvit_mm.openmm.config.loading import load_config
cfg = load_config('configs/pslt/pslt-tiny_digits.py', ['train_cfg.max_epochs=3'])
check_config(cfg, training=True)
assert 'effvit_mm.openmm.engine.runner' not in sys.modules
"""
    result = pythons.run('-c', code, cwd=PACKAGE.parent)
    assert result.returncode == 0, result.stderr
