"""The Triton kernels under Triton's interpreter. It is switched on before Triton is imported, so in another process."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent

pytest.importorskip("triton", reason="the interpreter of Triton, which is not installed")


def run(*arguments: str) -> None:
    """pytest on the interpreted files, its own words where it fails."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(HERE / "interpreted.py"),
        str(HERE / "interpreted_bands.py"),
        str(HERE / "interpreted_dilated.py"),
        str(HERE / "interpreted_delayed.py"),
        "-q",
        "--no-header",
        "--tb=short",
        *arguments,
    ]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"under TRITON_INTERPRET=1:\n{done.stdout[-20000:]}\n{done.stderr[-2000:]}", pytrace=False)
    assert "passed" in done.stdout


def test_parity_with_the_reference():
    run()


@pytest.mark.slow
def test_more_of_the_same():
    run("-m", "slow")
