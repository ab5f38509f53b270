"""Which backend runs an operator: the user's choice, or the first that can."""

import contextlib
import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["Backends", "use", "wanted"]

_KNOWN = ("auto", "reference", "cpu", "cuda")
_VARIABLE = "TEMPORAL_KERNELS"
_chosen: list[str] = []  # the open `use` contexts, innermost last


class use(contextlib.ContextDecorator):
    """Choose the backend of every operator while the context is open; also a decorator.

    "auto" lets each operator take the first backend that can do what is asked, fastest first; any other name is obeyed
    or refused, never replaced. Outside a context the environment variable TEMPORAL_KERNELS rules, else "auto". The
    choice holds for the whole process, because autograd runs backward passes in threads of its own.

    Args:
        backend: "auto", "reference", "cpu" (numba) or "cuda" (Triton).
    Raises:
        ValueError: an unknown backend.

    >>> with use("reference"):
    ...     pass
    """

    def __init__(self, backend: str):
        self.backend = _checked(backend, "temporal.kernels.use")

    def __enter__(self) -> "use":
        _chosen.append(self.backend)
        return self

    def __exit__(self, *exception: object) -> None:
        # The last entry of this name, not the last entry: contexts of two threads may close out of order.
        del _chosen[len(_chosen) - 1 - _chosen[::-1].index(self.backend)]


class Backends:
    """The backends of one operator, fastest first.

    Args:
        operator: its name, for messages.
        package: the package whose modules are the backends, loaded when first chosen.
        refusals: for each backend, named as its module, a function that is given the request and returns None, or the
            reason why this backend cannot do it, worded to follow the backend's name ("needs a CPU tensor").
    """

    def __init__(self, operator: str, package: str, **refusals: Callable[..., str | None]):
        self.operator = operator
        self.package = package
        self.refusals = refusals
        self._loaded: dict[str, Any] = {}

    def choose(self, *request: Any) -> Any:
        """The module of the backend that runs this request.

        Raises:
            NotImplementedError: the chosen backend cannot do it; the message names those that can.
        """
        backend = wanted()
        name = self._fastest(request) if backend == "auto" else self._obey(backend, request)
        if name not in self._loaded:
            self._loaded[name] = import_module(f"{self.package}.{name}")
        return self._loaded[name]

    def _fastest(self, request: tuple) -> str:
        for name, refuses in self.refusals.items():  # not `next`: this is on the way of every step of a stream
            if refuses(*request) is None:
                return name
        raise NotImplementedError(f"{self.operator}: no backend can do this; there are {', '.join(self.refusals)}")

    def _obey(self, wanted: str, request: tuple) -> str:
        reason = self.refusals[wanted](*request) if wanted in self.refusals else "does not have this operator"
        if reason is not None:
            able = [name for name, refuses in self.refusals.items() if refuses(*request) is None]
            raise NotImplementedError(f"{self.operator}: backend {wanted!r} {reason}; use: {', '.join(able)}")
        return wanted


def wanted() -> str:
    """The backend that the user has chosen, or "auto"."""
    return _chosen[-1] if _chosen else _checked(os.environ.get(_VARIABLE) or "auto", _VARIABLE)


def _checked(backend: str, source: str) -> str:
    if backend not in _KNOWN:
        raise ValueError(f"{source}: unknown backend {backend!r}; known: {', '.join(_KNOWN)}")
    return backend
