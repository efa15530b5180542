"""Pythons that begin with libraries loaded: forks of one that has done nothing but load them.

A new Python takes seconds to load PyTorch and OpenMMLab, and most trainings of the tests less. A
fork is a process of its own, with its own signals, environment, output and end.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# What almost every new Python loads first: nothing of OpenMMLab's and nothing of ours.
LIGHT = ('torch', 'torchvision')
# What a training loads, ours first: mmdet needs the operators that we stand in for.
TRAINING = (
    'effvit_mm.openmm.cli', 'effvit_mm.openmm.engine.runner', 'effvit_mm.openmm.config.preparing',
    'effvit_mm.openmm.engine.testing', 'mmpretrain.datasets', 'mmpretrain.models', 'mmdet.datasets',
    'mmdet.models', 'mmdet.evaluation', 'mmdet.visualization', 'matplotlib.pyplot',
)  # fmt: skip
STORE = """
from torch.distributed import TCPStore
store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
import time
time.sleep(300)
"""


class Fork:
    """A process that runs: ``pid``, and ``returncode``, None until its end was seen."""

    def __init__(self, forks: Forks, pid: int, files: tuple[Path, Path]) -> None:
        self.forks, self.pid, self.files, self.returncode = forks, pid, files, None

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = self.forks.ask(poll=self.pid)
        return self.returncode

    def wait(self, seconds: float = 300) -> int:
        """The same, once it has ended."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f'{seconds} s: {self.communicate()}')
            time.sleep(0.01)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        """What it has written to standard output and to standard error until its end."""
        self.wait()
        out, err = (path.read_text() for path in self.files)
        return out, err


class Forks:
    """Starts processes that have these modules already."""

    def __init__(self, *modules: str) -> None:
        self.folder, self.count = tempfile.TemporaryDirectory(), 0
        self.server = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.answer() == 'ready'

    def close(self) -> None:
        self.server.terminate()  # forks of the tests' own process may hold its input open
        self.server.wait()
        self.server.stdin.close()
        self.server.stdout.close()
        self.folder.cleanup()

    def ask(self, **request: object) -> int | None:
        self.server.stdin.write(json.dumps(request) + '\n')
        self.server.stdin.flush()
        return self.answer()

    def answer(self) -> object:
        return json.loads(self.server.stdout.readline())

    def start(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        start_new_session: bool = False,
    ) -> Fork:
        """A process of Python's arguments: ``-c CODE``, ``-m MODULE`` or a script come first."""
        self.count += 1
        files = tuple(Path(self.folder.name) / f'{self.count}.{name}' for name in ('out', 'err'))
        for file in files:
            file.touch()
        pid = self.ask(
            arguments=list(map(str, arguments)),
            cwd=str(cwd or Path.cwd()),
            env=dict(os.environ if env is None else env),
            session=start_new_session,
            files=list(map(str, files)),
        )
        return Fork(self, pid, files)

    def run(self, *arguments: str | Path, **options) -> subprocess.CompletedProcess:
        """The same, ended; see :meth:`start`."""
        process = self.start(*arguments, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    @contextmanager
    def open_store(self) -> Iterator[dict[str, str]]:
        """The store that torchrun keeps, as what ranks find in their environment."""
        keeper = self.start('-c', STORE)
        try:
            while not (port := keeper.files[0].read_text().strip()):
                assert keeper.poll() is None, keeper.communicate()
                time.sleep(0.01)
            yield {
                'MASTER_ADDR': '127.0.0.1',
                'MASTER_PORT': port,
                'TORCHELASTIC_USE_AGENT_STORE': 'True',
            }
        finally:
            keeper.kill()
            keeper.wait()

    def run_ranks(
        self, *arguments: str | Path, count: int = 2, cwd: Path | None = None
    ) -> list[subprocess.CompletedProcess]:
        """Processes of one group, as torchrun starts them."""
        with self.open_store() as store:
            environments = (
                {**os.environ, **store, 'RANK': str(rank), 'LOCAL_RANK': str(rank),
                 'WORLD_SIZE': str(count), 'LOCAL_WORLD_SIZE': str(count)}
                for rank in range(count)
            )  # fmt: skip
            processes = [self.start(*arguments, cwd=cwd, env=env) for env in environments]
            said = [process.communicate() for process in processes]
        return [
            subprocess.CompletedProcess(arguments, process.returncode, *texts)
            for process, texts in zip(processes, said, strict=True)
        ]


# In the server ------------------------------------------------------------------------------------


def serve(modules: list[str]) -> dict:
    """Load modules and fork on request; comes back in a fork alone, with what it is to run."""
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)  # libraries may speak when they are loaded
    for name in modules:
        importlib.import_module(name)
    if 'mmengine' in sys.modules:
        from formatting import remember_layouts

        remember_layouts()
    gc.freeze()
    print(json.dumps('ready'), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if 'poll' in request:
            pid, status = os.waitpid(request['poll'], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                answers.close()
                return request
        print(json.dumps(answer), file=answers)
    sys.exit()


def become(request: dict) -> None:
    """Be the process of a request, up to the end of its program."""
    if request['session']:
        os.setsid()
    for number, path in zip((0, 1, 2), (os.devnull, *request['files']), strict=True):
        file = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request['cwd'])
    os.environ.clear()
    os.environ.update(request['env'])
    first, *rest = request['arguments']
    if first == '-c':
        code, *rest = rest
        sys.argv, sys.path[0] = ['-c', *rest], ''
        main = sys.modules['__main__'] = types.ModuleType('__main__')
        exec(compile(code, '<string>', 'exec'), main.__dict__)
    elif first == '-m':
        module, *rest = rest
        sys.argv, sys.path[0] = [module, *rest], ''
        runpy.run_module(module, run_name='__main__', alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *rest], str(Path(first).parent)
        runpy.run_path(first, run_name='__main__')


if __name__ == '__main__':
    _here = sys.modules['__main__']  # or what it holds goes when another takes its place
    become(serve(sys.argv[1:]))
