"""The process in which one workload is measured; :class:`.alternating.MeasuringProcess` starts it.

This folder is a package of its own there: the process begins in ``benchmarks``, and its PYTHONPATH
is the tree that is measured. So all of effvit_mm comes from that tree, and nothing of ours but this
folder: no module of it that is used here asks for more of effvit_mm than :mod:`.loading` says.
"""

import os
import sys
import traceback
from multiprocessing.connection import Connection
from typing import NoReturn


def main(descriptor: str, folder: str) -> NoReturn:
    """Answer questions until the one who asks has closed the pipe.

    Args:
        descriptor: Of the pipe. A question is ``(function of .costs, *arguments)``, an answer
            ``(result, error, traceback)``, all of plain values: a class has another name there.
        folder: To which relative names of files belong.
    """
    os.chdir(folder)
    connection = Connection(int(descriptor))
    while True:
        try:
            question = connection.recv()
        except EOFError:
            os._exit(0)  # nothing is left to be done, and to take torch down would take a while
        connection.send(answer(*question))


def answer(name: str, *arguments: object) -> tuple[object, str, str]:
    """Call the function that is asked for; what goes wrong is told to the one who asks."""
    try:
        from . import costs  # an older tree may fail to be imported

        return getattr(costs, name)(*arguments), '', ''
    except Exception as error:
        text = f'{type(error).__name__}: {" ".join(str(error).split())}'
        return None, text, traceback.format_exc()


if __name__ == '__main__':
    main(*sys.argv[1:])
