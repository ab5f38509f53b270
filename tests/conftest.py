"""A hostile test process: warnings are errors (pyproject.toml), fresh memory is NaN, and no test reaches the network."""

import collections
import gc
import os
import pathlib
import socket
import warnings

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

import torch

from temporal.kernels import _memory

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("TEMPORAL_TEST_DATA", ROOT.parent / "shared" / "data"))

# A process that a test starts imports the copy that is tested here, not an installed one (pytest's `pythonpath` ends here).
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def pytest_xdist_auto_num_workers(config):
    """The whole suite runs in two processes, which halves its time on two cores; files that are named run in this one."""
    if config.args_source is config.ArgsSource.ARGS:
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads in each of two processes would wait for each other
    return 2


def pytest_collection_finish():
    """Ten thousand tests and their modules stay till the end: the collector need not look through them again each time."""
    gc.collect()
    gc.freeze()


def _poisoned(make):
    def made(*args, **kwargs):
        out = make(*args, **kwargs)
        if out.is_floating_point() or out.is_complex():
            with torch.no_grad():
                out.fill_(float("nan"))
        return out

    return made


class _PoisonedWork(collections.deque):
    """Workspaces of kernels, which forget what they held."""

    def pop(self):
        array = super().pop()
        array.fill(float("nan"))
        return array


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan(monkeypatch):
    """A kernel that leaves an element of torch.empty, or of memory that was used before, unwritten shows it as NaN."""
    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
    monkeypatch.setattr(torch.Tensor, "new_empty", _poisoned(torch.Tensor.new_empty))
    take = _memory._taken

    def taken(size):
        piece = take(size)
        piece.fill(0xFF)  # all bits set: NaN in every floating-point format
        return piece

    monkeypatch.setattr(_memory, "_taken", taken)
    monkeypatch.setattr(_memory, "_work", _PoisonedWork(maxlen=256))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    connect = socket.socket.connect

    def local_only(self, address):
        host = address[0] if isinstance(address, tuple) else "local"
        if isinstance(address, tuple) and host not in ("127.0.0.1", "localhost", "::1"):
            raise RuntimeError(f"a test tried to reach {host}: tests use the loopback address only")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _folder(name: str) -> pathlib.Path:
    path = DATA / name
    if not path.is_dir():
        message = f"real recordings are missing: {path} (set TEMPORAL_TEST_DATA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def fsdd() -> pathlib.Path:
    """Free Spoken Digit Dataset: DIGIT_SPEAKER_INDEX.wav, 8 kHz."""
    return _folder("fsdd/recordings")


@pytest.fixture(scope="session")
def arabic() -> pathlib.Path:
    """Arabic Speech Commands: class folders of FLAC files, one second at 16 kHz, with split lists."""
    return _folder("arabic_speech_commands")


@pytest.fixture(scope="session")
def speech_commands() -> pathlib.Path:
    """A small cut of Google Speech Commands v0.01, with split lists."""
    return _folder("speech_commands_mini")


@pytest.fixture
def torchaudio():
    """torchaudio, or a skip that says why: its releases do not load beside every torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchaudio
            import torchaudio.transforms
        except Exception as error:
            pytest.skip(f"torchaudio cannot be imported here, so its numbers were not compared: {error!r}")
    return torchaudio
