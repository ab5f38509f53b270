"""The command ``temporal``. Each file holds one family of commands, thin functions that load a package when they need it.

A new command is one file with a function under ``@command``, and its name in the imports below.
"""

import sys as _sys

from . import bench, completion, doctor, evaluate, export, report, spikes, stream, study, train
from ._app import app as _application
from ._errors import debugging as _debugging
from ._errors import explained as _explained

__all__ = ["main"]

# Loading them registers their commands.
_FAMILIES = (bench, completion, doctor, evaluate, export, report, spikes, stream, study, train)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an expected failure is one or two lines on standard error, and a status that is not 0.

    Args:
        arguments: those after the program's name; of this process otherwise.
    """
    debug, arguments = _debugging(_sys.argv[1:] if arguments is None else arguments)
    with _explained(debug):
        status = _application(arguments, exit_on_error=False, print_error=False)
        if status:
            _sys.exit(status)
