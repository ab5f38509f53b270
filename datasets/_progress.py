"""Progress of what takes long, shown on standard error where that is a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "bar"]

Progress = Callable[[int, int], None]


@contextmanager
def bar(what: str, progress: bool | Progress) -> Iterator[Progress]:
    """A function to call with (done, in all); what it does is up to ``progress``: a function, True (a bar), or False."""
    if callable(progress):
        yield progress
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    with Bars(console=console, transient=True, disable=not (progress and console.is_terminal)) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total or None)
