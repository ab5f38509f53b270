"""The application, how a command enters it, and the kinds of arguments that commands share."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

import temporal

__all__ = ["Flag", "Folder", "Overrides", "RecipeName", "app", "command", "examples"]

app = App(
    name="temporal",
    help="Train spiking networks with learned delays on recordings, evaluate them, and run them on a stream.",
    help_epilogue=(
        "Examples:\n\n    temporal train digits\n    temporal train --help\n\n"
        "Anywhere on the line, `--debug` shows the traceback of an error (so does TEMPORAL_DEBUG=1). The status is 0 on "
        "success, 1 after an error, 2 if the line cannot be understood, 130 after Ctrl-C, 70 if temporal has a bug."
    ),
    version=temporal.__version__,
    suppress_keyboard_interrupt=False,  # what was interrupted says how to go on
    result_action="return_value",  # a command returns its status, or nothing
)

Folder = Annotated[Path | None, Parameter(accepts_keys=False)]
Overrides = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
# Of the named recipes, so that shells complete them: asking temporal.training would load torch at every Tab.
RecipeName = (
    Literal[
        "digits",
        "fsdd",
        "commands",
        "commands-small",
        "shd",
        "ssc",
        "gsc",
        "fsdd-cochlea",
        "fsdd-mel",
        "shd-published",
        "ssc-published",
        "gsc-published",
    ]
    | str
)
Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function as the command of its name. Its help ends with the examples of its docstring, as they stand."""
    lines = "\n".join(f"    {line}" for line in examples(function))
    app.command(function, help_epilogue=f"Examples:\n\n{lines}" if lines else None)
    return function


def examples(function: Callable[..., Any]) -> list[str]:
    """The lines under "Examples:" of a docstring."""
    text = inspect.getdoc(function) or ""
    found = re.search(r"^Examples:\n((?: +\S.*\n?)+)", text, flags=re.MULTILINE)
    return inspect.cleandoc(found[1]).splitlines() if found else []
