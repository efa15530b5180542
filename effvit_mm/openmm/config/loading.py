"""A config file read, with the overrides of a command line."""

from __future__ import annotations

import copy
import difflib
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from ...errors import ConfigError
from ...utils.text import did_you_mean, suggest
from ..console import import_quietly, without_asides, without_lines_of_variables
from .arguments import metric_nodes, type_path
from .bases import missing_base
from .building import one_line
from .checks import check_override
from .data_root import EVALUATORS, follow_annotation_files, follow_layout
from .kinds import check_kinds
from .names import follow_assignments, is_name, set_names
from .options import check_path, look_up, read_value, split_option
from .own_parts import use_own_readers
from .own_sets import use_own_sets
from .unread import check_top_level
from .values import IN_A_DICT, called_import, keep_plain, make_sizes_tuples

# mmdet's metrics of which effvit_mm has its own, which keep what they computed.
OWN_METRICS = ('CocoMetric', 'FasterCocoMetric', 'VOCMetric')
# Where an installed package has `configs`, as commands name them from the repository's root.
PACKAGED = Path(__file__).resolve().parents[2] / '.mim'
# Of packages with models.
SCOPES = {'mmpretrain': 'mmpretrain', 'mmdet': 'mmdet', 'effvit_mm': 'mmpretrain'}
KNOWN_SCOPES = (*SCOPES, 'mmengine')


@without_asides()
@without_lines_of_variables()
def load_config(path: str, overrides: Sequence[str]) -> Config:
    """Read a config file and apply ``key=value`` overrides.

    The file's faults, and overrides of keys that there cannot be, are ConfigErrors. A file
    ``configs/...`` that is not there is the installed package's.
    """
    path = find_config(path)
    if not Path(path).is_file():
        raise ConfigError(f'config {path}: no such file{_meant_config(path)}')
    if Path(path).suffix in ('.pth', '.pt', '.safetensors'):
        raise ConfigError(f'config {path}: this is a checkpoint; the config comes before it')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ConfigError(f'config {path}: a .py, .json or .yaml file is needed')
    try:
        cfg = follow_assignments(Config.fromfile(path), path)
        keep_plain(cfg)
    except ConfigError:
        raise
    except SyntaxError as error:
        raise ConfigError(
            f'config {path}, line {error.lineno}: {error.msg}: {(error.text or "").strip()}'
        ) from error
    except Exception as error:  # a config is a program: it can raise anything
        if text := called_import(error, path):
            raise ConfigError(f'{text}; {IN_A_DICT}') from error
        if text := missing_base(error, path):
            raise ConfigError(f'config {path}: {text}') from error
        called = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        words = str(error)
        imports = 'import_modules_from_strings' in (*called, *re.findall(r'\w+', words))
        key = 'custom_imports: ' if imports or 'custom modules' in words else ''
        text = f'{key}{type(error).__name__}: {error}'
        raise ConfigError(f'config {path}: {" ".join(text.split())}') from error
    before = copy.deepcopy(cfg)
    options = [split_option(item) for item in overrides]
    for key, _ in options:
        check_override(cfg, key)
    cfg = set_names(cfg, path, [option for option in options if is_name(option[0])])
    keep_plain(cfg)  # of the file as it is read again
    named = copy.deepcopy(cfg)
    for key, text in (option for option in options if not is_name(option[0])):
        value = read_value(key, text, look_up(before, key))
        check_path(cfg, key)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
            raise ConfigError(f'--cfg-options {key}={value}: {one_line(error)}') from error
    check_top_level(cfg, path)  # before anything that is missing is put in
    check_kinds(cfg)
    make_sizes_tuples(cfg)
    complete_scope(cfg)
    import_quietly(cfg.get('default_scope', 'mmengine'))
    follow_annotation_files(cfg, named)
    follow_layout(cfg)
    use_own(cfg)
    use_own_readers(cfg)
    use_own_sets(cfg)
    return cfg


def find_config(path: str) -> str:
    """The path, or that of the package's own config where there is no such file."""
    packaged = PACKAGED / path
    ours = Path(path).parts[:1] == ('configs',) and not Path(path).exists() and packaged.is_file()
    return str(packaged) if ours else path


def _meant_config(path: str) -> str:
    """The config of a near name in the folder where one was looked for; of all of ours where there
    is none, no such folder, or one of just this name, written without its folder or ending."""
    folder, name = Path(path).parent, Path(path).name
    root = Path() if Path('configs').is_dir() else PACKAGED
    ours = {file.name: str(file.relative_to(root)) for file in root.glob('configs/*/*.py')}
    there = {file.name: str(file) for file in folder.glob('*.py')} if folder.is_dir() else {}
    for files in (there, ours):
        if near := difflib.get_close_matches(name, files, n=1):
            return did_you_mean(files.get(f'{name}.py', files[near[0]]))
    return ''


def complete_scope(cfg: Config) -> None:
    """Where a config of classes names no ``default_scope``, it is the package of its model.

    Raises:
        ConfigError: The one that it names is no package, but nearly the name of one.
    """
    if (scope := cfg.get('default_scope')) is not None:
        hint = '' if scope in KNOWN_SCOPES or '.' in scope else suggest(scope, KNOWN_SCOPES)
        if hint and find_spec(scope) is None:
            raise ConfigError(f'default_scope={scope!r}: no such package{hint}')
        return
    cfg.pop('default_scope', None)
    model = cfg.get('model')
    package, *path = type_path(model.get('type') if isinstance(model, Mapping) else '').split('.')
    if len(path) > 1 and package in SCOPES:
        cfg.default_scope = SCOPES[package]


def use_own(cfg: Config) -> None:
    """Let our classes stand for those that say less.

    They are ``effvit_mm``'s detection metrics for mmdet's of the same names and figures, and the
    backbones that know ``init_cfg`` for the bare networks.
    """
    use_own_metrics(cfg)
    for node in _nodes(cfg.get('model')):
        path, _, name = type_path(node.get('type')).rpartition('.')
        if path.startswith('effvit_mm.backbones'):
            node['type'] = f'effvit_mm.{name}'


def use_own_metrics(cfg: Mapping) -> None:
    """Let ``effvit_mm``'s detection metrics stand for mmdet's of the same names and figures."""
    for _, node in (found for key in EVALUATORS for found in metric_nodes(cfg.get(key))):
        path, _, name = type_path(node.get('type')).rpartition('.')
        scope = path.partition('.')[0] or cfg.get('default_scope')
        if name in OWN_METRICS and scope == 'mmdet':
            node['type'] = f'effvit_mm.{name}'


def _nodes(value: object) -> Iterator[Mapping]:
    """A dict of a config, and those within."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else ():
        yield from _nodes(item)
