"""The Triton kernels under Triton's interpreter. It is switched on before Triton is imported, so in another process."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent

pytest.importorskip("triton", reason="the interpreter of Triton, which is not installed")


# Two processes: each has about half of the work, and a core of its own where there are two.
SHARES = (("interpreted.py",), ("interpreted_bands.py", "interpreted_dilated.py", "interpreted_delayed.py"))


def run(shares: tuple[tuple[str, ...], ...], *arguments: str) -> None:
    """pytest on the interpreted files, its own words where it fails."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""}
    options = ("-q", "--no-header", "--tb=short", *arguments)
    with contextlib.ExitStack() as open_files:
        started = []
        for files in shares:
            said = open_files.enter_context(tempfile.TemporaryFile("w+"))
            command = [sys.executable, "-m", "pytest", *(str(HERE / file) for file in files), *options]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
            started.append((process, said))
        ended = [process.wait() for process, _ in started]
        for status, (_, said) in zip(ended, started, strict=True):
            said.seek(0)
            text = said.read()
            if status:
                pytest.fail(f"under TRITON_INTERPRET=1:\n{text[-20000:]}", pytrace=False)
            assert "passed" in text


def test_parity_with_the_reference():
    run(SHARES)


@pytest.mark.slow
def test_more_of_the_same():
    run(SHARES[:1], "-m", "slow")  # of the others there are no more
