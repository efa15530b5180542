"""The command lines of ``tools/train.py`` and ``tools/test.py``."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ConfigError
from ..utils.allocator import keep_freed_memory
from ..utils.children import end_children
from ..utils.closed_output import until_closed
from .console import print_in_any_locale, silence_third_parties
from .ranks import leave_group, own_rank, print_error
from .swallowed import describe_swallowed

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
WORKER_TERMINATED = re.compile(r'DataLoader worker \(pid \d+\) is killed by signal: Terminated')
SIGNAL_RACE = re.compile(r'^Signal \d+ ignored due to race condition$')
AGAIN = 0.1  # seconds to a signal that could not be raised
TWICE = 1.0  # seconds in which a second signal is the same one
EXIT_USER_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED = 2, 130, 143


_raised = [-math.inf]  # when SIGTERM was raised


class Terminated(BaseException):
    """SIGTERM: what Slurm sends before it takes a machine away."""


# What flags of other projects' tools are in a config.
KEYS = {
    '--batch-size': 'train_dataloader.batch_size', '--bs': 'train_dataloader.batch_size',
    '--epochs': 'train_cfg.max_epochs', '--max-epochs': 'train_cfg.max_epochs',
    '--learning-rate': 'optim_wrapper.optimizer.lr', '--lr': 'optim_wrapper.optimizer.lr',
    '--weight-decay': 'optim_wrapper.optimizer.weight_decay',
    '--workers': 'train_dataloader.num_workers', '--num-workers': 'train_dataloader.num_workers',
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line instead of the whole usage; every tool has ``--debug``."""

    def __init__(self, *args, **kwargs) -> None:
        # A part of a flag is a misspelt flag, of which nobody would hear.
        super().__init__(*args, **{'allow_abbrev': False, **kwargs})
        if command := getattr(sys.modules.get('effvit_mm_command'), 'running', ''):
            self.prog = command
        self._words: list[str] = []
        self.add_argument('--debug', action='store_true', help='show tracebacks of all errors')

    def error(self, message: str) -> NoReturn:
        hint = describe_swallowed(self, self._words, message)
        raise ConfigError(f'{message}{hint} (--help shows all arguments)')

    def parse_known_args(self, args=None, namespace=None) -> Any:
        """argparse's; keeps the words for the error."""
        self._words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._words, namespace)

    def parse_args(self, args=None, namespace=None) -> Any:
        """argparse's; of the first flag that there is not, the error names the nearest, and in what
        reads a config how its keys are given."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            from ..utils.text import suggest

            wrong = next((word.partition('=')[0] for word in unknown if word.startswith('--')), '')
            flags = self._flags(known)
            # `--lr` is as near to `--help` as to nothing else.
            near = [flag for flag in flags if flag != '--help' or flag.startswith(wrong)]
            hint = suggest(wrong, near)
            if not hint and '--cfg-options' in flags:
                key = KEYS.get(wrong, 'KEY')
                hint = f'; give keys of the config behind --cfg-options: {key}=VALUE ...'
            self.error(f'unrecognized arguments: {" ".join(unknown)}{hint}')
        return known

    def _flags(self, known: argparse.Namespace) -> list[str]:
        """Those of the parser and of the command that was chosen, where it has several."""
        flags = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = action.choices.get(getattr(known, action.dest, None))
                flags += chosen._flags(known) if chosen else []
        return flags


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that train.py and test.py share, as OpenMMLab's users know them."""
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    add_cfg_options(parser)
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none')
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help='for launchers')
    add_trust_checkpoint(parser)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """The flag by which a tool changes the config that it reads."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='override config keys: a.b=1 a.c="[1,2]"',
    )


def add_trust_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The flag of tools that read checkpoints."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='read checkpoints that hold more than weights; this can run code they carry',
    )


def add_inference(
    parser: argparse.ArgumentParser, batch_size: int, subfolders: bool = True
) -> None:
    """The flags of tools that run a trained network on a user's own images.

    Args:
        parser: Gets them.
        batch_size: The default, for the help.
        subfolders: The tool looks into folders in folders if it is asked to.
    """
    text = f'images of a batch ({batch_size}; of cameras and addresses 1)'
    parser.add_argument('--batch-size', type=int, metavar='N', help=text)
    parser.add_argument(
        '--on-error',
        choices=('skip', 'stop'),
        default='skip',
        help='inputs that cannot be used are named, counted and left out; or the first one ends '
        'all (skip)',
    )
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on with what --out has of an interrupted run of the same command',
    )
    if subfolders:
        parser.add_argument(
            '--subfolders', action='store_true', help='look into folders in a folder, too'
        )
    add_model_flags(parser)


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """The flags by which a trained network is opened: device, runtime, trust, config keys."""
    parser.add_argument('--device', help='cpu, cuda:0; default: CUDA where there is one')
    add_runtime(parser)
    add_trust_checkpoint(parser)
    add_cfg_options(parser)


def add_inputs(parser: argparse.ArgumentParser, kind: str, file: str, batch_size: int) -> None:
    """A model, of a config and weights or a file alone, and what it is to look at.

    Args:
        kind: ``'detector'``, for the help.
        file: How export.py writes the file that will do for it.
        batch_size: The default.
    """
    parser.add_argument('model', help=f'config of the {kind}; or a file of export.py {file}')
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help="images, folders, patterns ('*/*.jpg'), videos, the number of a camera, addresses "
        '(rtsp://...); in front of them the weights of a config: .pth or .safetensors',
    )
    parser.add_argument(
        '--no-deploy', action='store_true', help='run the form of training: slower, same results'
    )
    add_inference(parser, batch_size)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """The flags of tools that run a trained network."""
    from ..runtime.compiled import NAMES

    parser.add_argument(
        '--runtime',
        choices=NAMES,
        help='compute the deployed network by this runtime on the CPU: compiled at the first use, '
        'then kept (default: PyTorch, without compiling)',
    )
    parser.add_argument(
        '--precision', choices=('fp32', 'bf16'), default='fp32', help='of the runtime (fp32)'
    )
    parser.add_argument(
        '--runtime-options',
        nargs='+',
        default=[],
        metavar='NAME=VALUE',
        help="the runtime's own: INFERENCE_NUM_THREADS=1",
    )


def runtime_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """``runtime``, ``precision`` and ``runtime_options`` of the flags; none without ``--runtime``.

    Raises:
        ConfigError: A flag that goes with ``--runtime`` alone, or that the runtime does not take.
        ExportError: The runtime is not installed.
    """
    from ..runtime import check_runtime
    from .compiling import read_options

    options = read_options(args.runtime_options)
    if args.runtime is None:
        if options or args.precision != 'fp32':
            raise ConfigError('--precision and --runtime-options go with --runtime')
        return {}
    check_runtime(args.runtime, args.precision, options)
    return {'runtime': args.runtime, 'precision': args.precision, 'runtime_options': options}


def train_parser() -> Parser:
    """The arguments of ``tools/train.py``."""
    parser = Parser(prog='train.py', description='Train a model from a config file.')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on with the newest checkpoint of the work dir, or with the one named',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (CPU: bfloat16)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size'
    )
    parser.add_argument('--seed', type=int, help='random seed; without one it is drawn and logged')
    parser.add_argument('--no-validate', action='store_true', help='train without validation')
    parser.add_argument(
        '--early-stopping',
        type=int,
        metavar='PATIENCE',
        help='end after so many validations without a better main figure',
    )
    parser.add_argument(
        '--tensorboard',
        action='store_true',
        help="write TensorBoard's files into the work dir, too",
    )
    parser.add_argument('--wandb', action='store_true', help='log to Weights & Biases, too')
    add_common_arguments(parser)
    return parser


def test_parser() -> Parser:
    """The arguments of ``tools/test.py``."""
    parser = Parser(prog='test.py', description='Evaluate a checkpoint.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        help='write predictions to this .pkl or .json file; re-ID: features to .npz or .parquet',
    )
    parser.add_argument(
        '--show-dir',
        help='draw predictions beside the truth into this folder; re-ID: rank lists of 8 queries',
    )
    parser.add_argument(
        '--show-number',
        type=int,
        metavar='N',
        help='with --show-dir: N images, evenly spaced, and all of them on one sheet.png; re-ID: '
        'N rank lists',
    )
    parser.add_argument('--rerank', action='store_true', help='re-ID: k-reciprocal re-ranking')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--deploy', action='store_true', help='test the form that switch_to_deploy() makes'
    )
    add_runtime(parser)
    add_common_arguments(parser)
    return parser


def train(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/train.py``; returns the exit code."""
    return run_guarded(_train, train_parser, argv)


def test(argv: Sequence[str] | None = None) -> int:
    """Run ``tools/test.py``; returns the exit code."""
    return run_guarded(_test, test_parser, argv)


@dataclass
class Session:
    """What error messages need to know of a run: filled in as it gets on."""

    args: argparse.Namespace | None = None
    cfg: Config | None = None
    runner: Runner | None = None


def _train(args: argparse.Namespace, session: Session) -> None:
    from .config.preparing import prepare_training
    from .engine.runner import build_runner
    from .engine.work_dir import kept_work_dir

    session.cfg = prepare_training(args)
    with kept_work_dir(session):
        session.runner = build_runner(session.cfg)
        session.runner.train()


def _test(args: argparse.Namespace, session: Session) -> None:
    from .config.preparing import prepare_testing
    from .engine.runner import build_runner
    from .engine.testing import run_test
    from .engine.work_dir import kept_work_dir

    if args.show_number is not None and args.show_dir is None:
        raise ConfigError('--show-number goes with --show-dir')
    compiled = runtime_arguments(args)
    session.cfg = prepare_testing(args)
    # By default a test's folder is the training's, which may go on meanwhile.
    with kept_work_dir(session, alone=args.work_dir is not None):
        session.runner = build_runner(session.cfg)
        run_test(session.runner, args, compiled)


def run_guarded(
    work: Callable[[argparse.Namespace, Session], int | None],
    make_parser: Callable[[], Parser],
    argv: Sequence[str] | None,
) -> int:
    """Run a command: errors of the user as one line, signals as an orderly end.

    Returns:
        The exit code: what ``work`` returns, 0 for None; 2, 130, 141 or 143 where it was cut short.
    """
    debug = os.environ.get('EFFVIT_MM_DEBUG', '0') not in ('', '0')
    session = Session()
    _raised[0] = -math.inf
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    unraised, sys.unraisablehook = sys.unraisablehook, _signal_again
    earlier = multiprocessing.active_children()
    try:
        args = session.args = make_parser().parse_args(argv)
        debug = debug or args.debug
        os.environ.setdefault('LOCAL_RANK', str(getattr(args, 'local_rank', 0)))
        silence_third_parties()
        print_in_any_locale()
        keep_freed_memory()
        try:
            from ..weights import unpickling_nothing

            with unpickling_nothing():
                return until_closed(lambda: work(args, session) or 0)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends already
            end_children(kept=earlier)
    except KeyboardInterrupt:
        return _interrupted(session, 'interrupted', EXIT_INTERRUPTED)
    except Terminated:
        return _interrupted(session, 'terminated (SIGTERM)', EXIT_TERMINATED)
    except Exception as error:
        from .config.data_root import how_to_find
        from .error_messages import as_user_error

        # Libraries turn signals into errors: mmengine, as it writes a config down, any of them.
        if _of_termination(error):
            return _interrupted(session, 'terminated (SIGTERM)', EXIT_TERMINATED)
        if any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error)):
            return _interrupted(session, 'interrupted', EXIT_INTERRUPTED)
        translated = as_user_error(error)
        if translated is None or debug:
            raise
        message = f'{translated}{how_to_find(session.cfg, translated)}'
        print_error(message, everywhere=session.runner is not None)
        return EXIT_USER_ERROR
    finally:
        signal.signal(signal.SIGTERM, previous)
        sys.unraisablehook = unraised
        leave_group()


def _raise_terminated(signum: int, frame: object) -> None:
    """Once: ``timeout`` sends a program the signal twice, and a second would cut the end short."""
    if time.monotonic() - _raised[0] > TWICE:
        _raised[0] = time.monotonic()
        raise Terminated


def _signal_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Send a signal anew that came while Python could raise nothing, as in a finaliser.

    There PyTorch's word of a worker that the same signal has ended is none of ours, nor Python's of
    a signal that came as its handler was taken away.
    """
    text = str(unraisable.exc_value)
    if WORKER_TERMINATED.search(text) or SIGNAL_RACE.search(text):
        return
    number = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}.get(unraisable.exc_type)
    if number is None:
        sys.__unraisablehook__(unraisable)
        return
    _raised[0] = -math.inf
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _of_termination(error: BaseException) -> bool:
    """Whether an error comes of SIGTERM to the whole group of processes.

    PyTorch raises its own where it sees a worker's end before we see the signal, or after it.
    """
    return any(
        isinstance(cause, Terminated) or WORKER_TERMINATED.search(str(cause))
        for cause in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those in whose handling it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _PlainForks:
    """Processes that are forked, as VOCMetric's pool, are ended by SIGTERM at once.

    They inherit our handler, which Python would run at its next step: a worker that is about to
    wait for work never gets to it, and its pool would wait for its end without an end. So the
    handler is put aside while a process is forked.
    """

    def __init__(self) -> None:
        self.aside = False

    def before(self) -> None:
        # Only the main thread may set handlers.
        if threading.current_thread() is threading.main_thread():
            self.aside = signal.getsignal(signal.SIGTERM) is _raise_terminated
            if self.aside:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def after_in_parent(self) -> None:
        if self.aside:
            self.aside = False
            signal.signal(signal.SIGTERM, _raise_terminated)

    def after_in_child(self) -> None:
        by_thread = signal.getsignal(signal.SIGTERM) is _raise_terminated
        if by_thread:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if by_thread or self.aside:
            self.aside = False
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends it


if hasattr(os, 'register_at_fork'):  # not on Windows, where nothing is forked
    _forks = _PlainForks()
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after_in_parent,
        after_in_child=_forks.after_in_child,
    )


def _interrupted(session: Session, what: str, code: int) -> int:
    """One line: where the last checkpoint is and how to go on."""
    from .interruption import how_to_go_on

    if own_rank() == 0:
        print(what + how_to_go_on(session), file=sys.stderr, flush=True)
    return code
