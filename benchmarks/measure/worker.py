"""The process in which one subject of a benchmark lives; :class:`.turns.Worker` starts it.

Run by its path, before anything of effvit_mm is imported: where another tree is named, all of
effvit_mm is taken from there, but for the modules of this folder that the other does not have.
"""

import os
import pickle
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import NoReturn

HERE = Path(__file__).resolve().parent


def main(descriptor: str, tree: str) -> NoReturn:
    """Answer questions until the one who asks has closed the pipe.

    A question is ``(function of .answers, *arguments)``, an answer ``(result, error, traceback)``.
    """
    sys.path[0] = tree
    connection = Connection(int(descriptor))
    answers, failure = None, None
    try:
        answers = import_answers()
    except Exception as error:
        failure = describe(error)
    while True:
        try:
            # Not unpickled yet: what is in it is of modules that import_answers() makes known.
            question = connection.recv_bytes()
        except EOFError:
            os._exit(0)  # nothing is left to be done, and to take torch down would take a while
        connection.send(failure or answer(answers, question))


def import_answers() -> ModuleType:
    """The module of this folder that knows what to do, within whichever effvit_mm there is."""
    import benchmarks.measure

    folders = benchmarks.measure.__path__
    if str(HERE) not in folders:
        folders.append(str(HERE))
    from . import answers

    return answers


def answer(answers: ModuleType, question: bytes) -> tuple[object, str, str]:
    """Call the function that is asked for."""
    try:
        name, *arguments = pickle.loads(question)
        return getattr(answers, name)(*arguments), '', ''
    except Exception as error:
        return describe(error)


def describe(error: Exception) -> tuple[None, str, str]:
    """An error as an answer; those meant for users say enough without their class."""
    text = ' '.join(str(error).split())
    meant = any(kind.__name__ == 'UserError' for kind in type(error).__mro__)
    message = text if meant else f'{type(error).__name__}: {text}'
    return None, message, traceback.format_exc()


if __name__ == '__main__':
    main(*sys.argv[1:])
