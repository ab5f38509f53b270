"""The command ``temporal``. Each file holds one family of commands, thin functions that load a package when they need it.

A new command is one file with a function under ``@command``, and its name in the imports below.
"""

import sys

from . import bench, completion, evaluate, report, spikes, stream, train
from ._app import app
from ._errors import debugging, explained

__all__ = ["app", "main"]

_FAMILIES = (bench, completion, evaluate, report, spikes, stream, train)  # loading them registers their commands


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an expected failure is one or two lines on standard error, and a status that is not 0.

    Args:
        arguments: those after the program's name; of this process otherwise.
    """
    debug, arguments = debugging(sys.argv[1:] if arguments is None else arguments)
    with explained(debug):
        status = app(arguments, exit_on_error=False, print_error=False)
        if status:
            sys.exit(status)
