"""What is installed: the command `effvit-mm`, configs in the package, extras, one version."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pyproject import read_pyproject

import effvit_mm_command as command
from effvit_mm.errors import ConfigError
from effvit_mm.openmm.config import loading
from effvit_mm.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = read_pyproject()['project']
PROGRAMS = sorted(path for path in (ROOT / 'tools').rglob('*.py'))


def bare(requirement: str) -> str:
    """The package of a requirement."""
    return re.match(r'[\w.-]+', requirement)[0].lower()


# --- the command ----------------------------------------------------------------------------------


def test_each_tool_is_a_command_of_its_own_with_a_line_of_help(capsys):
    table = command.commands(ROOT / 'tools')
    assert sorted(table.values()) == PROGRAMS
    assert command.main(['--help']) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[2:-2]]
    assert [name for name, text in lines if text] == list(table)
    assert set(command.SHORT.values()) <= set(table)
    assert not set(command.SHORT) & set(table)


@pytest.mark.parametrize(
    'name', ['train', 'test', 'classify', 'detect', 'track', 'export', 'models']
)
def test_everyday_programs_have_short_names(name):
    assert command.commands(command.tools_folder())[name].stem == name


def test_a_command_is_its_program_with_its_flags_and_its_exit_code(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['effvit-mm'])
    monkeypatch.setattr(sys, 'path', [str(ROOT), *sys.path])
    with pytest.raises(SystemExit) as left:
        command.main(['models', 'pslt_t*'])
    assert left.value.code == 0
    assert capsys.readouterr().out.split()[:2] == ['pslt_tiny', '4.30']
    with pytest.raises(SystemExit) as left:
        command.main(['models', 'plst_tiny'])
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "error: plst_tiny: no model has such a name; did you mean 'pslt_tiny'?\n"
    )


def test_an_unknown_command_is_a_line_that_names_the_nearest(capsys):
    assert command.main(['evaluate-trakcs']) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and "no command 'evaluate-trakcs'" in said
    assert re.search(r"did you mean '([\w-]+)'", said)[1] in command.commands(ROOT / 'tools')
    assert command.main(['zzzzz']) == 2
    assert capsys.readouterr().err.endswith('; effvit-mm --help lists all\n')


def test_the_package_run_as_a_module_is_the_command():
    for argv, code in (['--help'], 0), (['zzzzz'], 2):
        done = subprocess.run(
            [sys.executable, '-m', 'effvit_mm', *argv], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert (done.stderr if code else done.stdout).startswith(
            'error: ' if code else command.USAGE
        )


@pytest.mark.parametrize('argv', [['train'], ['get-flops'], ['models']])
def test_the_help_of_a_command_has_its_name(argv):
    done = subprocess.run(
        [sys.executable, '-m', 'effvit_mm', *argv, '-h'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.startswith(f'usage: effvit-mm {argv[0]} '), done.stderr


def test_help_comes_without_torch():
    """It is there at once, and tools may set what torch reads when it is loaded."""
    code = (
        'import sys, effvit_mm_command as c; c.main(["--help"]); '
        'assert not {"torch", "effvit_mm"} & set(sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- configs in the package -----------------------------------------------------------------------


def test_a_config_of_the_package_is_found_from_any_folder(tmp_path, monkeypatch):
    name = 'configs/pslt/pslt-tiny_8xb128_in1k.py'
    monkeypatch.setattr(loading, 'PACKAGED', ROOT)
    monkeypatch.chdir(tmp_path)
    assert loading.load_config(name, []).model.backbone.arch == 'tiny'
    with pytest.raises(ConfigError, match=r'^config configs/pslt/none\.py: no such file$'):
        loading.load_config('configs/pslt/none.py', [])
    # One's own file of the name goes first; other folders are one's own alone.
    own = tmp_path / name
    own.parent.mkdir(parents=True)
    own.write_text("model = dict(type='mmpretrain.ImageClassifier')\n")
    assert 'backbone' not in loading.load_config(name, []).model
    with pytest.raises(ConfigError, match='no such file'):
        loading.load_config('pslt/pslt-tiny_8xb128_in1k.py', [])


# --- pyproject.toml -------------------------------------------------------------------------------


def test_opencv_comes_as_one_package():
    """Two of them put the same files into one folder."""
    named = {bare(each) for extra in PROJECT['optional-dependencies'].values() for each in extra}
    assert {name for name in named if name.startswith('opencv')} == {'opencv-python'}


def test_all_has_every_extra():
    extras = PROJECT['optional-dependencies']

    def resolved(name: str) -> set[str]:
        own = [re.match(r'effvit-mm\[(.*)\]$', each) for each in extras[name]]
        inner = [part for match in own if match for part in match[1].split(',')]
        return {name}.union(*map(resolved, inner))

    assert resolved('all') == set(extras)


def test_the_oldest_versions_that_are_tried_are_those_that_are_asked_for():
    text = (ROOT / '.ci' / 'matrix').read_text()
    oldest = re.search(r"^OLDEST=\('torch==(.+)\.\*' 'torchvision==(.+)\.\*'\)", text, re.M)
    for package, version in zip(('torch', 'torchvision'), oldest.groups(), strict=True):
        assert f'{package}>={version}' in PROJECT['dependencies']
    for name in re.search(r'^TESTS=\((.*?)\)', text, re.M | re.S)[1].split():
        assert (ROOT / 'tests' / f'test_{name}.py').is_file(), name
    low, high = re.match(r'>=3\.(\d+),<3\.(\d+)', PROJECT['requires-python']).groups()
    versions = [f'3.{minor}' for minor in range(int(low), int(high))]
    assert {versions[0], versions[-1]} <= set(re.findall(r"'(3\.\d+) \w+'", text))
    told = [each for each in PROJECT['classifiers'] if ':: 3.' in each]
    assert [each.rpartition(' ')[2] for each in told] == versions


def test_one_version_everywhere():
    changes = re.findall(r'^## \[(.+?)\] - (.+)$', (ROOT / 'CHANGELOG.md').read_text(), re.M)
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert changes[0] == (__version__, str(citation['date-released']))
    assert citation['version'] == __version__
    assert len(citation['references']) == 4
    assert set(PROJECT['urls'].values()) == {
        each.get('url', f'https://doi.org/{each.get("doi")}') for each in citation['references']
    }


def test_openmm_is_installed_by_one_rule_which_leaves_one_opencv():
    """By another pip would bring back the second, and take OpenCV from what runs meanwhile."""
    rules = re.split(r'\n(?=\S)', (ROOT / 'Makefile').read_text())
    installs = {
        rule.partition(':')[0]: rule for rule in rules if 'install -q $(PIP_FLAGS) -e' in rule
    }
    stamps = {name.removeprefix('$(VENV)/.ready-'): rule for name, rule in installs.items()}
    assert stamps.keys() == {'openmm', 'search', 'app', 'all', 'docs', 'dev'}
    assert '$(one_opencv)' in stamps.pop('openmm')
    for name, rule in stamps.items():
        extras = re.search(r"-e '\.\[(.+)\]'", rule)[1].split(',')
        assert not {'openmm', 'all'} & set(extras), name
        assert name == 'docs' or '$(VENV)/.ready-' in rule.partition('\n')[0].partition(':')[2]


def test_hooks_and_workflows_run_what_ci_runs():
    makefile = (ROOT / 'Makefile').read_text()
    lint = re.search(r'^lint:.*\n((?:\t.+\n)+)', makefile, re.M)[1]
    commands = [
        line.strip().removeprefix('$(BIN)/').removesuffix(' .') for line in lint.splitlines()
    ]
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
    entries = [each['entry'].removeprefix('.venv/bin/') for each in hooks]
    assert [each.removesuffix(' --force-exclude') for each in entries] == commands
    run = (ROOT / '.ci' / 'run').read_text()
    assert all(f'\nmake {each}\n' in run for each in ('test', 'lint'))
    assert re.search(r'^make dist .*exit 1; \}\n\.ci/try_wheel .*&.*\nwheel=\$!$', run, re.M)
    assert re.search(r'^wait \$wheel \|\| \{.*exit 1; \}$', run, re.M)
    jobs = yaml.safe_load((ROOT / '.github' / 'workflows' / 'ci.yml').read_text())['jobs']
    assert jobs['run']['steps'][-1] == {'run': '.ci/run'}
