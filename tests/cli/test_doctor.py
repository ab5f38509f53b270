"""``temporal doctor`` on this machine, and on ones that lack something: blocked packages, no GPU, no room, old caches."""

import json
import os
import pathlib
import subprocess
import sys
import tomllib

import pytest
import torch

import temporal
from temporal.benchmarks._measure import QUICK
from temporal.cli import _doctor, main
from temporal.cli._doctor import (
    Finding,
    Section,
    _caches,
    _cases,
    _check,
    _kernels,
    _machine,
    _packages,
    _sound,
    guarded,
)

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def command(*arguments):
    try:
        main(["doctor", *arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def named(findings) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_this_machine_is_healthy_and_json_says_all(capsys):
    assert command("--no-check", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"]
    sections = {name: {one["name"]: one for one in findings} for name, findings in found["sections"].items()}
    assert list(sections) == ["packages", "extras", "kernels", "threads", "memory and disk", "caches", "sound"]
    assert sections["packages"]["torch"]["data"]["version"] == torch.__version__.split("+")[0]
    assert {"lif", "delayed", "cochlea"} <= set(sections["kernels"]["cpu"]["data"]["operators"])
    assert sections["threads"]["torch"]["data"]["threads"] == torch.get_num_threads()
    assert sections["memory and disk"]["memory"]["data"]["free"] > 0


def test_a_problem_is_seen_and_is_the_status(monkeypatch, capsys):
    ill = Section("packages", [Finding("numba", "not installed", "problem", "pip install numba"), Finding("h5py", "3")])
    monkeypatch.setattr(_doctor, "examine", lambda check: [ill])
    assert command() == 1
    said = capsys.readouterr().out
    assert "PROBLEM" in said and "pip install numba" in said and said.splitlines()[-1] == "1 problem; 0 notes"
    assert command("--json") == 1 and not json.loads(capsys.readouterr().out)["healthy"]
    ill.findings[0].state = "note"
    assert command() == 0 and "what must work works; 1 note" in capsys.readouterr().out


def test_looking_never_fails():
    def find():
        yield Finding("first", "there")
        raise OSError("unreadable\nand more")

    found = guarded("disk", find)
    assert [finding.state for finding in found.findings] == ["ok", "problem"]
    assert found.problems[0].text == "OSError: unreadable"


# --- packages ---


def test_without_torch_it_still_answers():
    """In a process in which torch and soundfile cannot be imported."""
    code = "import sys; sys.modules['torch'] = sys.modules['soundfile'] = None\n"
    code += "from temporal.cli import main; main(['doctor', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    sections = json.loads(done.stdout)["sections"]
    problems = {name: [one["name"] for one in found if one["state"] == "problem"] for name, found in sections.items()}
    assert {"torch", "soundfile"} <= set(problems["packages"]) and problems["sound"] == ["sound"]
    assert problems["kernels"] and problems["threads"] and "numba" not in problems["packages"]
    assert any(one["name"] == "numba" for one in sections["caches"])


@pytest.mark.parametrize(("name", "state"), [("h5py", "problem"), ("torchaudio", "note"), ("networkx", "problem")])
def test_a_package_that_cannot_be_loaded(name, state, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    found = _packages._package(name, ">=0")
    assert found.state == state and "cannot be loaded" in found.text and "pip install" in found.hint


def test_a_package_that_is_missing_or_old(monkeypatch):
    absent = _packages._package("no-such-package", ">=1")
    assert (absent.state, absent.text, absent.hint) == ("problem", "not installed", "pip install 'no-such-package>=1'")
    monkeypatch.setattr(_packages, "_version", lambda name: "3.1.9")
    old = _packages._package("h5py", ">=3.10")
    assert (old.state, old.text) == ("problem", "3.1.9, and >=3.10 is right")


def test_what_is_declared_is_read_with_and_without_an_installation(monkeypatch):
    extras = {"", *PROJECT["optional-dependencies"]}

    def gone(name):
        raise _packages.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_packages.metadata, "requires", gone)
    found = _packages.declared()
    assert set(found) == extras and ("torch", ">=2.9") in found[""] and ("dcls", "==0.1.1") in found["test"]
    assert ("triton", ">=3.5") in found["gpu"] or sys.platform != "linux"
    monkeypatch.setattr(_packages.platform, "system", lambda: "Darwin")
    assert "gpu" not in _packages.declared()


def test_each_extra_says_what_it_is_for(monkeypatch):
    assert set(_packages.EXTRAS) == set(PROJECT["optional-dependencies"])
    monkeypatch.setattr(
        _packages, "declared", lambda: {"": [], "nir": [("nir-of-nowhere", ">=1")], "test": [("pytest", "")]}
    )
    found = named(_packages.extras())
    assert found["nir"].state == "note" and "nir-of-nowhere not installed" in found["nir"].text
    assert found["nir"].hint == "pip install 'temporal[nir]'" and found["test"].state == "ok"


# --- kernels ---


def test_numba_that_does_not_load_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "temporal.kernels.binning.cpu", raising=False)
    found = _kernels._loaded("cpu", "numba", ["binning"])
    assert (
        found.state == "problem" and "1 of 1 operators do not load; binning: " in found.text and "numba" in found.text
    )


@pytest.mark.parametrize(
    ("variable", "state"), [("auto", "ok"), ("", "ok"), ("reference", "note"), ("fast", "problem")]
)
def test_the_choice_of_kernels(variable, state, monkeypatch):
    monkeypatch.setenv("TEMPORAL_KERNELS", variable)
    assert next(_kernels.backends()).state == state


def test_why_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    assert "is built without CUDA" in _kernels._cuda(["lif"]).text
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "with CUDA_VISIBLE_DEVICES=''" in _kernels._cuda(["lif"]).text
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "nvidia-smi" in _kernels._cuda(["lif"]).hint
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with monkeypatch.context() as blocked:
        blocked.setitem(sys.modules, "triton", None)
        found = _kernels._cuda(["lif"])
        assert "Triton cannot be loaded" in found.text and found.hint == "pip install 'temporal[gpu]'"
    monkeypatch.setitem(sys.modules, "triton", torch)  # any module
    assert "sm_75" in _kernels._cuda(["lif"]).text


# --- the machine ---


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8.0),
        ({"cpu.max": "max 100000"}, 8.0),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8.0),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
    ],
)
def test_processors_are_those_that_a_container_allows(files, cores, monkeypatch):
    monkeypatch.setattr(_machine, "_words", lambda file: files.get(file.removeprefix("/sys/fs/cgroup/"), "").split())
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert _machine.processors()[0] == cores
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert _machine.processors() == (1.0, " (affinity)")


def test_too_many_threads_and_a_busy_machine_are_told(monkeypatch):
    monkeypatch.setattr(_machine, "processors", lambda: (1.0, ""))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    found = named(_machine.threads())
    assert found["torch"].state == "note" and "OMP_NUM_THREADS=1" in found["torch"].hint
    assert found["load"].state == "note" and "OMP_NUM_THREADS=16" in found["environment"].text


def test_little_room_is_told(monkeypatch):
    usage = type("Usage", (), {"free": 5 << 20})
    monkeypatch.setattr(_machine.shutil, "disk_usage", lambda folder: usage)
    assert named(_machine.memory())["runs"].state == "note"


# --- caches ---


def test_data_that_a_killed_process_left_are_stale(tmp_path, monkeypatch):
    monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path / "cache"))
    assert "not there yet" in _caches._data().text
    for name in (".digits.unfinished-00", ".digits.unfinished-01", "digits"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "a.flac").write_bytes(bytes(1000))
    assert _caches._data().state == "ok"
    os.utime(tmp_path / "cache" / ".digits.unfinished-00", (1, 1))
    (tmp_path / "cache" / "cochlea").mkdir()
    (tmp_path / "cache" / "cochlea" / "transfer-700-0123456789abcdef.bin").write_bytes(bytes(500))
    found = _caches._data()
    assert found.state == "note" and "3.5 kB, 1.5 kB of it stale" in found.text and len(found.data["stale"]) == 2


def test_a_cache_that_is_no_folder_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        monkeypatch.setenv("TEMPORAL_CACHE", str(tmp_path / name))
        assert _caches._data().state == "problem"


def test_compiled_kernels_older_than_their_source(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(temporal, "__path__", [str(tmp_path)])
    (tmp_path / "kernels" / "lif" / "__pycache__").mkdir(parents=True)
    source = tmp_path / "kernels" / "lif" / "_loops.py"
    source.touch()
    assert "nothing compiled yet" in _caches._compiled().text
    index = source.parent / "__pycache__" / "_loops.forward-12.py311.nbi"
    index.write_bytes(bytes(2000))
    found = _caches._compiled()
    assert found.state == "ok" and found.data["stale"] == 0 and "1 files, 2 kB" in found.text
    os.utime(index, (1, 1))
    assert _caches._compiled().data["stale"] == 1


# --- sound ---


def test_sound_without_its_extras(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    found = named(_sound.sound())
    assert found["files"].state == "ok"
    assert [found[name].hint for name in ("voice", "microphone")] == [
        "pip install 'temporal[demo]'", "pip install 'temporal[mic]'",
    ]  # fmt: skip


def test_a_library_that_changes_samples_is_a_problem(monkeypatch):
    import soundfile

    monkeypatch.setattr(soundfile, "read", lambda file, dtype: (None, 8000))
    assert _sound._files().state == "problem"


# --- the check ---


@pytest.mark.parametrize("name", dict(_cases.cases()))
def test_what_is_checked_is_exact(name, monkeypatch):
    monkeypatch.setattr(_cases, "_PACE", QUICK)
    monkeypatch.setattr(_cases, "_COPIED", 1 << 20)
    found = _cases.finding(name, dict(_cases.cases())[name])
    assert found.state == "ok" and found.data["rounds"] == 2, found.text
    assert "times the floor" in found.text or "a step" in found.text


def test_what_is_wrong_or_raises_is_a_problem(monkeypatch):
    monkeypatch.setattr(_cases, "_PACE", QUICK)
    wrong = _cases._case(lambda: 9.0, abs, 0.5, 1, shape="N=1", bytes=8)
    assert _cases.finding("wrong", lambda: wrong).state == "problem"
    found = _cases.finding("raises", lambda: torch.zeros(2) + torch.zeros(3))
    assert found.state == "problem" and found.text.startswith("RuntimeError: ")


def test_a_check_that_dies_is_a_problem(monkeypatch):
    line = json.dumps({"name": "LIF", "text": "exact"})

    def killed(command, **_):
        return subprocess.CompletedProcess(command, -11, f"{line}\nother words\n", "Fatal: illegal instruction\n")

    monkeypatch.setattr(subprocess, "run", killed)
    found = list(_check.check())
    assert [(one.name, one.state) for one in found] == [("LIF", "ok"), ("process", "problem")]
    assert "signal 11: Fatal: illegal instruction" in found[1].text

    def slow(command, **_):
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", slow)
    assert [one.state for one in _check.check()] == ["problem"]


@pytest.mark.slow
def test_the_check_runs_in_a_process_of_its_own():
    found = named(_check.check())
    assert list(found) == list(dict(_cases.cases())) and all(one.state == "ok" for one in found.values())
