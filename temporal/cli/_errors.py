"""The one place where a failure becomes the line or two that its user reads, and the command's status.

Expected is what the user, the data or the machine can be the reason of:

- an argument that is wrong: what the package raises with a message of its own;
- a file, a disk, a network (``OSError``), memory, a package that is not installed, a loss that is not finite;
- an exception in a recipe of the user's own: said with its file and line.

Everything else is a bug of this package, and is called one.
"""

import contextlib
import dis
import errno
import os
import select
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from types import TracebackType

from cyclopts import CycloptsError

__all__ = ["debugging", "explain", "explained"]

FAILED, MISUSED, BUG, INTERRUPTED, CLOSED = (
    1,
    2,
    70,
    130,
    141,
)  # the shell's own numbers: 64 and up of sysexits.h, 128 + signal

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RAISE = dis.opmap["RAISE_VARARGS"]
_INSTALLED = tuple(os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "purelib", "platlib"))


def debugging(arguments: list[str]) -> tuple[bool, list[str]]:
    """Whether tracebacks are wanted, and the arguments without the word that says so, wherever it stands."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [word for word in arguments[:end] if word != "--debug"]
    asked = len(options) < end or os.environ.get("TEMPORAL_DEBUG", "0") not in ("", "0")
    return asked, options + arguments[end:]


@contextlib.contextmanager
def explained(debug: bool) -> Iterator[None]:
    """Around a command: what it raises is explained on standard error, and ends the process with its status."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, not at the interpreter's end: a full disk or a closed pipe shows when this fails
    except (Exception, KeyboardInterrupt) as error:
        status, text = explain(error)
        _abandon_output(error)
        with contextlib.suppress(OSError):  # nobody reads standard error either
            if debug:
                traceback.print_exception(error)
            if text:
                print(f"temporal: {text}", file=sys.stderr, flush=True)
        sys.exit(status)


def explain(error: BaseException) -> tuple[int, str]:
    """The status and the text, of one or two lines, of a failure. No text if nobody is there to read.

    >>> explain(ValueError("raised by nobody"))[0]
    70
    >>> explain(FileNotFoundError(2, "No such file or directory", "a.wav"))
    (1, 'a.wav: no such file or directory')
    """
    if isinstance(error, CycloptsError):
        return MISUSED, _short(str(error))
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, str(error) or "stopped"
    if isinstance(error, BrokenPipeError) and _nobody_reads():
        return CLOSED, ""
    for link in _chain(error):
        if text := _expected(link):
            return FAILED, _short(text)
    if text := _of_the_users_code(error):
        return FAILED, _short(f"{text}\n  --debug shows how it came there")
    what = f"unexpected {type(error).__name__}: {_message(error).splitlines()[0] if _message(error) else 'no message'}"
    return BUG, f"{what}\n  this is a bug in temporal: run the same line with --debug, and report what it shows"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error; what it was raised from; and the failures of the machine that somebody ran into while handling another."""
    seen: set[int] = set()
    link: BaseException | None = error
    direct = True
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if direct or _is_memory(link) or (isinstance(link, OSError) and link.errno in _FULL):
            yield link
        if isinstance(link, BaseExceptionGroup):
            link = link.exceptions[0]
        elif link.__cause__ is not None:
            link = link.__cause__
        else:
            direct, link = False, None if link.__suppress_context__ else link.__context__


def _expected(error: BaseException) -> str | None:
    """What to say of it, or None if nobody expects it."""
    if _is_memory(error):
        sentence = _message(error).partition("\n")[0] or "the system gave no more"
        return f"out of memory: {sentence}\n  smaller batches and networks need less; temporal train --dry-run says how much"
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, ImportError):
        name = error.name or ""
        return None if name.split(".")[0] == "temporal" else _message(error)
    if isinstance(error, (FloatingPointError, UnicodeError)):  # a loss that is not finite; a text file that is none
        return _message(error)
    # A check that somebody wrote, and a mistake that the interpreter or compiled code found, come as the same classes.
    # The first is an answer to its user, the second is not: the first ran into a `raise`.
    frame = _last(error.__traceback__)
    if frame is None or frame.tb_frame.f_code.co_code[frame.tb_lasti] != _RAISE:
        return None
    ours = frame.tb_frame.f_globals.get("__name__", "").split(".")[0] == "temporal"
    if isinstance(error, ValueError) or (ours and isinstance(error, (TypeError, RuntimeError, LookupError))):
        return _message(error) or None
    return None


def _of_the_system(error: OSError) -> str:
    if error.errno is None or error.strerror is None:
        return _message(error)  # raised with a message
    reason = error.strerror[:1].lower() + error.strerror[1:]
    files = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    return f"{files}: {reason}" if files else reason


def _is_memory(error: BaseException) -> bool:
    """Also torch's: a class of its own for a GPU, plain RuntimeErrors for a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _of_the_users_code(error: BaseException) -> str | None:
    """File and line, if it was raised in, or beneath, code that is neither this package's nor installed."""
    said = f"{type(error).__name__}: {_message(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    found = None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        file = os.path.realpath(frame.f_code.co_filename)
        known = frame.f_globals.get("__name__", "").split(".")[0] == "temporal" or file.startswith(_INSTALLED)
        if not known and os.path.isfile(file):
            found = f"{frame.f_code.co_filename}, line {trace.tb_lineno}: {said}"
        trace = trace.tb_next
    return found


def _last(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _message(error: BaseException) -> str:
    """Its text; of one that another process sent with its traceback, the last line."""
    text = str(error).strip()
    if "Traceback (most recent call last)" in text:
        text = text.splitlines()[-1].strip()
    return text.strip("'\"") if isinstance(error, KeyError) else text  # KeyError shows its argument quoted


def _short(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if len(lines) > 2:
        lines[1:] = [f"{lines[1]} ... (--debug shows all)"]
    return "\n".join(lines)


def _nobody_reads() -> bool:
    """Whether the reader of standard output has gone (`temporal recipes | head -1`), and not that of some other pipe."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # a system without poll; no file
        return True


def _abandon_output(error: BaseException) -> None:
    """What is left in the buffer of standard output cannot be written: the interpreter must not try again at its end."""
    if isinstance(error, OSError):
        with contextlib.suppress(OSError, ValueError):
            try:
                sys.stdout.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
