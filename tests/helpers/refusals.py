"""Configs that are refused before work starts, of a sound one to which lines are added."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from effvit_mm.errors import ConfigError
from effvit_mm.openmm import cli
from effvit_mm.openmm.config.preparing import prepare_training

# Of a misspelt value of these the value is replaced, of what else is misspelt the key.
NAMES = ('type', 'constructor', 'ema_type')
MEANT = re.compile(r"(\w+)(?:=(?:'(\w+)')?.*?)?: .*did you mean '(\w+)'")


def prepared(base: Path, line: str) -> Config:
    """The config ``base`` with a line more, as a training gets it."""
    path = base.with_name('own.py')
    path.write_text(f'{base.read_text()}{line}\n')
    return prepare_training(cli.train_parser().parse_args([str(path), '--work-dir', 'w']))


def check_refused(base: Path, line: str, message: str) -> None:
    """The line ends in one of this form; what it says was meant is then taken."""
    with pytest.raises(ConfigError, match=message) as error:
        prepared(base, line)
    assert '\n' not in str(error.value)
    if meant := MEANT.search(str(error.value)):
        key, value, word = meant.groups()
        wrong = value if key in NAMES else key
        prepared(base, line.replace(wrong, word, 1))
