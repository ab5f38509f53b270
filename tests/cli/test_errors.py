"""What a failure looks like: a line or two with a status, by what it was, and a traceback where one is wanted."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from temporal.cli import _errors, main
from temporal.cli._errors import explain
from temporal.frontends import MelSpectrogram
from temporal.neurons import LIF


def caught(call) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def chained(outer, cause=None, context=None):
    """An error raised from another, or while another was handled."""

    def call():
        try:
            raise cause or context
        except type(cause or context):
            if cause:
                raise outer from cause
            raise outer  # noqa: B904

    return caught(call)


class Broken(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError("a.wav: no samples")


FULL = OSError(errno.ENOSPC, "No space left on device", "runs/a/checkpoint.pt")
EXPECTED = {
    "a check of ours": (lambda: MelSpectrogram(16000, fmax=9000.0), "fmax=9000"),
    "a type that is wrong": (lambda: LIF(tau="two"), "tau must be a number"),
    "a check of others": (lambda: torch.optim.SGD([torch.zeros(1)], lr=-1.0), "Invalid learning rate: -1.0"),
    "no file": (lambda: os.open("nowhere.toml", os.O_RDONLY), "nowhere.toml: no such file or directory"),
    "a folder": (lambda: os.open("/", os.O_WRONLY), "/: is a directory"),
    "two files": (lambda: os.rename("nowhere", "elsewhere"), "nowhere -> elsewhere: no such file"),
    "no permission": (lambda: _raise(PermissionError(13, "Permission denied", "/runs")), "/runs: permission denied"),
    "read-only": (lambda: _raise(OSError(errno.EROFS, "Read-only file system", "runs/a")), "runs/a: read-only file"),
    "full disk": (lambda: _raise(FULL), "runs/a/checkpoint.pt: no space left on device"),
    "a package": (lambda: __import__("sounddevise"), "No module named 'sounddevise'"),
    "no UTF-8": (lambda: b"\xff".decode(), "can't decode byte 0xff"),
    "NaN": (lambda: _raise(FloatingPointError("the loss is nan in epoch 3")), "the loss is nan in epoch 3"),
    "NumPy's memory": (lambda: np.empty(1 << 50), "out of memory: Unable to allocate"),
    "torch's memory": (lambda: torch.zeros(1 << 50), "out of memory: "),
    "a GPU's memory": (lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried")), "out of memory: CUDA out"),
    "of many": (lambda: _raise(ExceptionGroup("two", [FULL, KeyError(1)])), "no space left on device"),
    "in a data loader": (lambda: list(DataLoader(Broken(), num_workers=1)), "a.wav: no samples"),
}  # fmt: skip


def _raise(error):
    raise error


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.filterwarnings("ignore:This process")  # DataLoader forks beside threads of earlier tests
def test_an_expected_failure_says_what_and_nothing_more(name):
    call, message = EXPECTED[name]
    status, text = explain(caught(call))
    assert status == 1 and message in text and len(text.splitlines()) <= 2


def test_what_it_was_raised_from_counts(monkeypatch):
    """torch writes a checkpoint and says only that writing failed; the disk is full beneath."""
    monkeypatch.setattr(_errors, "_INSTALLED", ("/",))  # this file is no user's recipe

    def writer():
        return RuntimeError("PytorchStreamWriter failed writing file data/0")

    missing = FileNotFoundError(2, "No such file or directory", "x")
    assert explain(caught(lambda: _raise(writer())))[0] == 70
    assert explain(chained(writer(), cause=FULL)) == explain(chained(writer(), context=FULL)) == explain(FULL)
    assert explain(chained(writer(), cause=missing)) == (1, "x: no such file or directory")
    # A bug in code that handles a missing file is no missing file.
    assert explain(chained(AttributeError("nope"), context=missing))[0] == 70


def test_errors_of_threads_keep_their_text():
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: MelSpectrogram(16000, fmax=9000.0))
        assert "fmax=9000" in explain(caught(future.result))[1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: LIF().no_such_name,
        lambda: LIF(2.0, 3.0),  # TypeError of the interpreter
        lambda: int("three"),  # ValueError of the interpreter
        lambda: torch.zeros(2) + torch.zeros(3),
        lambda: np.zeros(2) + np.zeros(3),
        lambda: {}["key"],
        lambda: __import__("temporal.nowhere"),
    ],
)
def test_a_bug_is_called_one(call, monkeypatch):
    monkeypatch.setattr(_errors, "_INSTALLED", ("/",))  # this file is no user's recipe
    status, text = explain(caught(call))
    assert status == 70 and text.startswith("unexpected ") and "a bug in temporal" in text and "--debug" in text
    assert len(text.splitlines()) == 2


def test_a_message_of_many_lines_is_cut():
    status, text = explain(caught(lambda: _raise(ValueError("one\n\ntwo\nthree\nfour"))))
    assert (status, text) == (1, "one\ntwo ... (--debug shows all)")


@pytest.mark.parametrize(
    ("lines", "message"),
    [("x = 1\nreciep", "mine.py, line 2: NameError: name 'reciep' is not defined"), ("a b", "mine.py, line 1: Syntax")],
)
def test_a_mistake_in_a_recipe_names_its_line(lines, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(lines)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "mine.py"])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and message in said and len(said.splitlines()) <= 2


@pytest.mark.parametrize("words", [["--debug", "train", "digit"], ["train", "digit", "--debug"], ["train", "digit"]])
@pytest.mark.parametrize("variable", ["", "0", "1"])
def test_a_traceback_where_one_is_wanted(words, variable, monkeypatch, capsys):
    monkeypatch.setenv("TEMPORAL_DEBUG", variable)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr().err
    assert ("Traceback (most recent call last)" in said) == ("--debug" in words or variable == "1")
    assert stopped.value.code == 1 and "did you mean 'digits'" in said.splitlines()[-1]


def test_after_two_dashes_nothing_is_an_option():
    assert _errors.debugging(["evaluate", "--", "--debug"]) == (False, ["evaluate", "--", "--debug"])


CODE = """
import sys, temporal.cli._app as app
from temporal.cli import main
@app.command
def shout():
    {body}
main(["shout"])
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full disk to write to")
def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "temporal", "completion", "bash"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and done.stderr == "temporal: no space left on device\n"


def test_a_reader_who_leaves_is_no_error():
    """`temporal ... | head -1`: silence, and the status of a process that SIGPIPE ends."""
    code = CODE.format(body="for _ in range(100000): print('a line')")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_another_pipe_that_breaks_is_an_error():
    body = "raise BrokenPipeError(32, 'Broken pipe')"
    done = subprocess.run([sys.executable, "-c", CODE.format(body=body)], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "temporal: broken pipe\n"


def test_a_status_is_the_process_status_and_ctrl_c_is_said():
    for body, status, said in [
        ("return 3", 3, ""),
        ("raise KeyboardInterrupt", 130, "temporal: stopped\n"),
        ("raise KeyboardInterrupt('stopped in epoch 2')", 130, "temporal: stopped in epoch 2\n"),
    ]:
        code = CODE.format(body=body)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (status, said)
