"""Which packages are there: those that the package declares, and what each extra would add."""

import importlib
import importlib.util
import platform
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import temporal

from ._finding import Finding, State

__all__ = ["EXTRAS", "declared", "extras", "needed"]

EXTRAS = {
    "demo": "the embedded spoken digits",
    "test": "the tests",
    "gpu": "kernels on a GPU, where torch did not bring Triton",
    "dev": "lint, types and building",
    "bench": "the libraries that `temporal bench` compares with",
    "docs": "the manual",
    "mic": "live input from a microphone",
    "nir": "networks to and from other tools",
    "cluster": "studies over several machines",
    "onnx": "front ends as ONNX files",
}
# Their layers are accepted and compared with; nothing on the way from a recording to a decision imports them.
_ACCEPTED = {"torchaudio", "spikingjelly"}
# Compiled code, which may be there and not load. What is plain Python, or loads for seconds, is only looked for.
_LOADED = {
    "torch", "torchaudio", "numba", "llvmlite", "numpy", "scipy", "h5py", "soundfile", "soxr", "safetensors",
    "triton", "matplotlib",
}  # fmt: skip
_MODULES = {"tomli-w": "tomli_w", "espeakng-loader": "espeakng_loader", "dcls": "DCLS", "pillow": "PIL"}
_REQUIREMENT = re.compile(r"([\w.-]+)\s*(?:\[[\w,]*\])?\s*([^;]*)(?:;\s*(.*))?")


def declared() -> dict[str, list[tuple[str, str]]]:
    """Packages and the versions that are right, by extra; "" holds those that are always needed."""
    try:
        lines = metadata.requires("temporal") or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        file = Path(temporal.__path__[0]).parent / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"] if file.is_file() else {}
        lines = list(project.get("dependencies", []))
        for extra, of_it in project.get("optional-dependencies", {}).items():
            lines += [f"{line}{' and' if ';' in line else ';'} extra == '{extra}'" for line in of_it]
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for line in lines:
        name, wanted, marker = _REQUIREMENT.fullmatch(line.strip()).groups(default="")  # type: ignore[union-attr]
        extra = re.search(r"""extra == ['"](\w+)['"]""", marker)
        system = re.search(r"""platform_system == ['"](\w+)['"]""", marker)
        if system is None or system[1] == platform.system():
            found.setdefault(extra[1] if extra else "", []).append((name, wanted.strip()))
    return found


def needed() -> Iterator[Finding]:
    """temporal and Python themselves, then what temporal cannot do without."""
    here = Path(temporal.__path__[0])
    yield Finding("temporal", f"{temporal.__version__} in {here}", data={"version": temporal.__version__})
    yield Finding(
        "Python",
        f"{platform.python_version()} in {sys.prefix}; {platform.platform(terse=True)}",
        data={"version": platform.python_version()},
    )
    for name, wanted in sorted(declared()[""]):
        yield _package(name, wanted)


def _package(name: str, wanted: str) -> Finding:
    spare = name in _ACCEPTED
    bad: State = "note" if spare else "problem"
    install = f"pip install '{name}{wanted}'"
    why = "; only its own layers need it" if spare else ""
    version = _version(name)
    data = {"version": version, "wanted": wanted}
    if version is None:
        return Finding(name, f"not installed{why}", bad, install, data)
    if fault := _fault(name):
        return Finding(name, f"{version} is installed and cannot be loaded{why}: {fault}", bad, install, data)
    if not satisfied(version, wanted):
        return Finding(name, f"{version}, and {wanted} is right", bad, install, data)
    return Finding(name, version, data=data)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fault(name: str) -> str:
    """Why it cannot be imported; empty if it can."""
    module = _MODULES.get(name, name)
    try:
        if name in _LOADED:
            with warnings.catch_warnings(action="ignore"):  # of old ways in other libraries: nothing to be done here
                importlib.import_module(module)
        elif importlib.util.find_spec(module) is None:
            return f"there is no module {module}"
    except Exception as error:  # of a library that does not fit another, anything
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def satisfied(version: str, wanted: str) -> bool:
    """Whether a version is what a list of >= and == asks for; everything else is taken to be.

    >>> satisfied("2.14.1+cpu", ">=2.9"), satisfied("2.8.0", ">=2.9"), satisfied("0.1.2", "==0.1.1")
    (True, False, False)
    """
    for operator, bound in re.findall(r"(>=|==)\s*([\d.]+)", wanted):
        have, least = _numbers(version), _numbers(bound)
        if have < least or (operator == "==" and have != least):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"[\d.]*", version)
    return tuple(int(part) for part in (release[0] if release else "").strip(".").split(".") if part)


def extras() -> Iterator[Finding]:
    """What is missing of each, and what for."""
    for extra, packages in sorted(declared().items()):
        if not extra:
            continue
        versions = {name: _version(name) for name, _ in packages}
        missing = [name for name, version in versions.items() if version is None]
        about = EXTRAS.get(extra, "")
        there = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        data = {"versions": versions}
        if missing:
            text = f"{about}: {', '.join(missing)} not installed{'; ' if there else ''}{there}"
            yield Finding(extra, text, "note", f"pip install 'temporal[{extra}]'", data)
        else:
            yield Finding(extra, f"{about}: {there}", data=data)
