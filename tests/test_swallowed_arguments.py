"""A config behind a flag that takes any number of values is read as one: the error says so."""

from __future__ import annotations

import pytest
from remedies import said, tries

from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli

OPTIONS = ['--cfg-options', 'train_cfg.max_epochs=1']


def refused(parser: cli.Parser, *words: str) -> str:
    with pytest.raises(ConfigError) as error:
        parser.parse_args(list(words))
    return str(error.value)


def inference_parser() -> cli.Parser:
    parser = cli.Parser(prog='detect.py')
    parser.add_argument('--classes', nargs='+')
    parser.add_argument('--sizes', nargs='+', type=int)
    cli.add_inputs(parser, 'detector', 'of a detector', 1)
    return parser


@tries(' of {}: put {} before it')
@pytest.mark.parametrize(
    ('flags', 'said_of_it'),
    [
        (['--resume'], 'mine.py was read as a value of --resume: put config before it'),
        (OPTIONS, 'mine.py was read as a value of --cfg-options: put config before it'),
        (['--amp', *OPTIONS], 'mine.py was read as a value of --cfg-options: put config before it'),
    ],
)
def test_a_config_that_a_flag_took(flags, said_of_it):
    line = refused(cli.train_parser(), *flags, 'mine.py')
    assert said(' of {}: put {} before it', line)
    assert line == (
        f'the following arguments are required: config; {said_of_it} (--help shows all arguments)'
    )
    assert cli.train_parser().parse_args(['mine.py', *flags]).config == 'mine.py'


def test_several_arguments_that_a_flag_took():
    line = refused(cli.test_parser(), *OPTIONS, 'mine.py', 'a.pth', '--tta')
    assert 'mine.py a.pth were read as values of --cfg-options: put config before it' in line
    line = refused(cli.test_parser(), 'mine.py', *OPTIONS, 'a.pth')
    assert 'a.pth was read as a value of --cfg-options: put checkpoint before it' in line
    line = refused(inference_parser(), '--classes', 'cat', 'mine.py', 'a.jpg')
    assert 'mine.py a.jpg were read as values of --classes: put model before it' in line


@pytest.mark.parametrize('words', [[], OPTIONS, ['--resume'], ['--launcher', 'none'], ['--amp']])
def test_what_is_only_missing_is_said_to_be_missing(words):
    line = refused(cli.train_parser(), *words)
    assert line == 'the following arguments are required: config (--help shows all arguments)'


def test_numbers_are_no_config():
    line = refused(inference_parser(), '--sizes', '3', '4')
    assert line == 'the following arguments are required: model, INPUT (--help shows all arguments)'


def test_a_command_of_a_tool_says_it_too():
    parser = cli.Parser(prog='tool')
    command = parser.add_subparsers(dest='command', required=True).add_parser('index')
    command.add_argument('config')
    cli.add_cfg_options(command)
    line = refused(parser, 'index', '--cfg-options', 'a=1', 'mine.py')
    assert 'mine.py was read as a value of --cfg-options: put config before it' in line
