"""Compilation at first use: one line a kernel, then numba's cache, whose key changes with every source."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from temporal.kernels._scan import cpu
from temporal.kernels.adaptive import reference as adaptive
from temporal.kernels.adaptive_late import reference as adaptive_late
from temporal.kernels.lif import reference as lif

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRST_USE = """
import torch
from temporal.kernels import use
from temporal.neurons import LIF

with use("cpu"), torch.no_grad():
    for dtype in (torch.float32, torch.bfloat16):  # the second is compiled as well, and not announced again
        print(int(LIF(2.0)(torch.ones(3, 1, 4, dtype=dtype))[0].sum()))
"""


def first_use(root: pathlib.Path, cache: pathlib.Path) -> list[str]:
    """The lines that a new process shows, besides its results."""
    environment = {**os.environ, "PYTHONPATH": str(root), "NUMBA_CACHE_DIR": str(cache)}
    result = subprocess.run(
        [sys.executable, "-c", FIRST_USE], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["12", "12"]
    return result.stderr.splitlines()


def test_one_line_at_the_first_compilation_none_from_the_cache_one_after_a_change(tmp_path):
    root, cache = tmp_path / "checkout", tmp_path / "cache"
    for folder in ("kernels", "datasets", "temporal"):
        shutil.copytree(ROOT / folder, root / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    line = ["temporal: compiling lif, forward for this machine, once"]
    assert first_use(root, cache) == line
    compiled = set(cache.rglob("*.nbc"))
    assert len(compiled) == 2
    assert first_use(root, cache) == []
    assert set(cache.rglob("*.nbc")) == compiled
    equations = root / "kernels" / "lif" / "reference.py"
    equations.write_text(equations.read_text() + "\n# another version\n")
    assert first_use(root, cache) == line


@pytest.mark.parametrize("family", [lif, adaptive_late], ids=["lif", "adaptive_late"])
def test_the_caches_key_changes_with_every_source_that_is_compiled(family, monkeypatch, tmp_path):
    """Of adaptive_late that is another family's module too."""

    def version():
        return cpu.Compiled(family.FAMILY).version

    sources = {family, sys.modules[family.FAMILY.charge.__module__]}
    sources |= {sys.modules[f"temporal.kernels.{name}"] for name in ("_scan._rows", "_scan._slopes", "_float32")}
    assert (adaptive in sources) == (family is adaptive_late)
    seen = {version()}
    for source in sorted(sources, key=lambda module: module.__name__):
        copy = tmp_path / f"{source.__name__}.py"
        copy.write_text(pathlib.Path(source.__file__).read_text() + "\n# changed\n")
        monkeypatch.setattr(source, "__file__", str(copy))
        assert version() not in seen
        seen.add(version())
    assert version() == version()
