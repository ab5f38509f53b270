"""Changing nested dataclasses by dotted names, with values that may come as text from a command line."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any


def override(record: Any, changes: dict[str, Any]) -> Any:
    """A copy of a nested frozen dataclass with the fields at dotted names replaced."""
    for name, value in changes.items():
        record = _replaced(record, name.split("."), value, name, names(record))
    return record


def names(record: Any, above: str = "") -> dict[str, Any]:
    """All dotted names of a nested dataclass with their present values."""
    out: dict[str, Any] = {}
    for item in dataclasses.fields(record):
        value = getattr(record, item.name)
        if dataclasses.is_dataclass(value):
            out |= names(value, f"{above}{item.name}.")
        else:
            out[f"{above}{item.name}"] = value
    return out


def plain(value: Any) -> Any:
    """Dataclasses as dicts without their ``None`` fields, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def flat(table: dict[str, Any], above: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return out


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted names at which two nested tables differ, with both values."""
    a, b = flat(before), flat(after)
    return {key: (a.get(key), b.get(key)) for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)}


def _replaced(record: Any, path: list[str], value: Any, full: str, known: dict[str, Any]) -> Any:
    types_of = {item.name: item.type for item in dataclasses.fields(record)}
    if path[0] not in types_of:
        raise ValueError(f"unknown option {full!r}{_nearest(full, known)}")
    current = getattr(record, path[0])
    if len(path) > 1:
        if not dataclasses.is_dataclass(current):
            raise ValueError(f"unknown option {full!r}: {path[0]} has no fields{_nearest(full, known)}")
        new = _replaced(current, path[1:], value, full, known)
    elif dataclasses.is_dataclass(current):
        raise ValueError(f"option {full!r} is a group: set one of {', '.join(k for k in known if k.startswith(full))}")
    else:
        new = _converted(value, typing.get_type_hints(type(record))[path[0]], full)
    return dataclasses.replace(record, **{path[0]: new})


def _nearest(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    close += [k for k in known if k.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1] and k not in close]
    return f"; did you mean {' or '.join(close)}?" if close else f"; known: {', '.join(known)}"


def _converted(value: Any, wanted: Any, name: str) -> Any:
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if type(None) in options:
            return None
        if value is None or str not in options:  # "none" is also the name of a choice
            raise ValueError(f"option {name!r}: none is not allowed here")
    for kind in options:
        if kind is Any:
            return value
        if kind is bool and isinstance(value, (bool, str)) and str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        if kind in (int, float) and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            try:
                number = kind(value)
            except ValueError:
                continue
            if number == number and (isinstance(value, str) or number == value):  # NaN, and 2.5 is no int
                return number
        if kind is str and isinstance(value, str):
            return value
    right = " or ".join("none" if kind is type(None) else getattr(kind, "__name__", str(kind)) for kind in options)
    raise ValueError(f"option {name!r}: {value!r} is not of type {right}")
