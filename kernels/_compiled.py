"""What numba does not do for compiled kernels: to know the sources that they are made of, and to say when it compiles."""

import logging
import zlib
from pathlib import Path
from sys import modules
from typing import Any, ClassVar

from numba.core import event

__all__ = ["announced", "version"]


def version(*names: str) -> int:
    """A number that changes with the sources of these modules, for the cache's key: numba looks at the loops' own file."""
    number = 0
    for name in names:
        source = modules[name].__file__
        if source and Path(source).is_file():
            number = zlib.crc32(Path(source).read_bytes(), number)
    return number


_names: dict[Any, str] = {}  # of the kernels, by dispatcher


def announced(dispatcher: Any, name: str) -> Any:
    """The dispatcher, of whose first compilation the user will be told."""
    _names[dispatcher] = name
    return dispatcher


class _Announcer(event.Listener):
    """Says so when a kernel is compiled, not when it comes from numba's cache: the first call then takes seconds."""

    said: ClassVar[set[str]] = set()

    def on_start(self, event: Any) -> None:
        name = _names.get(event.data.get("dispatcher"))
        if name and name not in self.said:  # which is compiled again for other kinds of numbers
            self.said.add(name)
            logging.getLogger("temporal").warning("temporal: compiling %s for this machine, once", name)

    def on_end(self, event: Any) -> None:
        """Nothing more to say."""


event.register("numba:compile", _Announcer())
