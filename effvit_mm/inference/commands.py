"""What the command lines of classifiers, detectors and extractors share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..openmm.cli import runtime_arguments
from ..utils.files import check_writable
from .batches import check_batch_size
from .faults import Faults
from .inputs import Found, OnFault, find_images
from .models import split_model
from .result_files import ResultFile, check_suffix
from .results import Result
from .videos import Image, Live


class Command(NamedTuple):
    """A command of ``add_inputs``, looked at before the model is built: a wrong name ends at once.

    Attributes:
        found: What is to be looked at.
        model: Arguments of the inferencer.
        faults: Of inputs that were left out.
        on_fault: What takes further ones; None: they end all.
    """

    found: Sequence[Found]
    model: dict[str, Any]
    faults: Faults
    on_fault: OnFault | None


def prepare(args: argparse.Namespace) -> Command:
    """Find a command's inputs, and check its flags.

    Raises:
        UserError: No input can be used, or a flag cannot.
    """
    faults, on_fault = fault_handling(args)
    model = model_arguments(args)
    model['checkpoint'], names = split_model(args.model, args.inputs)
    model['deploy'] = not args.no_deploy
    found = find_images(names, args.subfolders, on_fault=on_fault)
    live = next((one.name for one in found if isinstance(one, Live)), None)
    if live and args.resume:
        raise ConfigError(f'--resume: what {live} showed does not come again')
    return Command(found, model, faults, unless_alone(found, on_fault))


def fault_handling(args: argparse.Namespace) -> tuple[Faults, OnFault | None]:
    """What counts the inputs that are left out, and what takes them, by ``--on-error``."""
    faults = Faults()
    return faults, faults if args.on_error == 'skip' else None


def unless_alone(found: Sequence[Found], on_fault: OnFault | None) -> OnFault | None:
    """None of a single image: without it there is no result, so its error is the command's."""
    return None if len(found) == 1 and isinstance(found[0], Image) else on_fault


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of an inferencer, but for config and checkpoint, of ``add_inference``'s flags.

    Raises:
        ConfigError, ExportError: One cannot be used.
    """
    if args.batch_size is not None:
        check_batch_size(args.batch_size)
    return {
        **runtime_arguments(args),
        'device': args.device,
        'cfg_options': args.cfg_options,
        'trust_checkpoint': args.trust_checkpoint,
    }


def check_anew(out: str | Path, there: bool, args: argparse.Namespace) -> None:
    """Raise a ConfigError where results would be lost, or both of two flags are given.

    Args:
        out: What ``--out`` names.
        there: It holds results.
        args: With ``resume`` and ``overwrite``.
    """
    if args.resume and args.overwrite:
        raise ConfigError('--resume, --overwrite: only one of them can be')
    if there and not (args.resume or args.overwrite):
        raise ConfigError(
            f'--out {out}: there are results of an earlier run: --resume goes on with them or adds '
            'to them, --overwrite begins anew without them'
        )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """The flag ``--overwrite``, beside ``--resume``."""
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='begin anew where --out has results of an earlier run, which are lost',
    )


def open_results(
    args: argparse.Namespace,
    out: str | Path | None,
    kind: type[Result],
    made_with: Mapping[str, Any],
    to_line: Callable[[Any], str] | None = None,
) -> ResultFile | None:
    """The file that results go into; None where they are not written.

    ``made_with``: of these settings the file's results are, by the names of arguments.

    Raises:
        ConfigError: It cannot be written, or be gone on with.
    """
    if out is None:
        if args.resume:
            raise ConfigError('--resume goes with --out: it goes on with that file')
        return None
    out = Path(out)
    check_suffix(out)
    check_writable(out.parent, '--out')
    return ResultFile(out, kind, args.resume, to_line, made_with=made_with)


def model_files(command: Command, args: argparse.Namespace) -> dict[str, Any]:
    """By which it is known whether a file of results is of the same model."""
    files = {'config': args.model, 'checkpoint': command.model['checkpoint']}
    places = {name: path and os.path.abspath(path) for name, path in files.items()}
    return {**places, 'cfg_options': list(args.cfg_options)}
