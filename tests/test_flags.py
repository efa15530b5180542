"""Flags are written out: a shortened one is a misspelt one, of which the nearest is named."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest
from programs import TOOLS, load_tool

from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli

ROOT = TOOLS.parent
NAMES = sorted(
    str(path.relative_to(TOOLS).with_suffix(''))
    for path in TOOLS.rglob('*.py')
    if 'def make_parser' in path.read_text()
)


def with_commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from with_commands(inner)


@pytest.mark.parametrize('name', ['train', 'test', *NAMES])
def test_no_tool_takes_a_shortened_flag(name):
    make = {'train': cli.train_parser, 'test': cli.test_parser}.get(name)
    parser = make() if make else load_tool(name).make_parser()
    for each in with_commands(parser):
        for action in each._actions:  # what else is needed is not the question here
            action.required = False
        flags = {flag for flag in each._option_string_actions if flag.startswith('--')}
        assert '--debug' in flags
        for short in {flag[:-1] for flag in flags} - {*flags, '--'}:
            with pytest.raises(ConfigError, match=f"{short}; did you mean '--"):
                each.parse_args([short])


def test_help_and_wrong_flags_wait_for_torch_alone():
    """torchvision brings PyTorch's compiler, mmengine.model its distributed tensors: 2 s each."""
    program = f"""
import sys
sys.path[:0] = [{str(ROOT / 'tests/helpers')!r}, {str(ROOT)!r}]
from programs import load_tool
from effvit_mm.openmm import cli

cli.train_parser(), cli.test_parser()
for name in {NAMES}:
    load_tool(name).make_parser()
    heavy = 'torchvision', 'torch._dynamo', 'mmengine.model', 'mmcv', 'mmdet', 'mmpretrain'
    loaded = [module for module in heavy if module in sys.modules]
    assert not loaded, (name, loaded)
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_flag_of_the_config_that_lacks_a_letter():
    with pytest.raises(ConfigError, match=r"--cfg-option a=1; did you mean '--cfg-options'\?"):
        cli.train_parser().parse_args(['c.py', '--cfg-option', 'a=1'])


def test_parsers_of_other_programs_take_none_either():
    wrong = [
        f'{path.relative_to(ROOT)}:{node.lineno}'
        for folder in ('benchmarks', 'effvit_mm', 'tools', 'tests')
        for path in sorted((ROOT / folder).rglob('*.py'))
        if '.mim' not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, 'attr', getattr(node.func, 'id', None)) == 'ArgumentParser'
        and not any(
            word.arg == 'allow_abbrev' and getattr(word.value, 'value', None) is False
            for word in node.keywords
        )
    ]
    assert not wrong, wrong
