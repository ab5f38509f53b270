"""examples/gpu_check.py, as far as a machine without a GPU can try it."""

import importlib.util
import json
import pathlib

import pytest
import torch

SCRIPT = pathlib.Path(__file__).parents[3] / "examples" / "gpu_check.py"


@pytest.fixture
def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu_it_says_so(gpu_check, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "result.json")]) == gpu_check.NO_GPU == 3
    assert "there is no CUDA GPU here" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_rehearsal_runs_every_part(gpu_check, tmp_path, capsys):
    assert gpu_check.main(["--dry-run", "--out", str(tmp_path / "result.json")]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["failures"] == [] and "a rehearsal" in result["about"]["gpu"]
    assert len(result["parity"]) == len(gpu_check.NEURONS) * 9
    assert all(line["passed"] for section in ("parity", "no wait", "graph") for line in result[section])
    assert any(line["name"] == "temporal LIF, training, bfloat16" for line in result["speed"])
    assert {line["name"].split(",")[0] for line in result["conv"]} == {"depthwise", "dense"}
    assert {"synapse", "axon", "dendrite", "additive", "cuDNN", "dcls"} == {
        line["name"].split(",")[0] for line in result["delays"]
    }
    assert "0 failed" in capsys.readouterr().out


def test_the_help_names_the_exit_status(gpu_check, capsys):
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main(["--help"])
    assert stopped.value.code == 0 and "3 there is no CUDA GPU here" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["spike", "value", "gradient", "nan"])
def test_what_differs_fails(gpu_check, wrong, capsys):
    check = gpu_check.Check("cpu", "reference", 20, 4, 32)
    x = gpu_check.currents(check, 20, 2, 8)
    name, knobs = "lif, hard reset", gpu_check.NEURONS["lif, hard reset"][1]
    ours, true = (gpu_check.outcome(name, x, knobs, "reference") for _ in range(2))
    (values, gradients), _ = ours, gpu_check.compare(check, name, x.dtype, ours, true)
    assert check.failures == []
    if wrong == "spike":
        values[0][3, 1, 2] = 1 - values[0][3, 1, 2]
    elif wrong == "value":
        values[1][3, 1, 2] += 0.01
    elif wrong == "gradient":
        gradients[0][3, 1, 2] += 0.01
    else:
        gradients[0][3, 1, 2] = float("nan")
    gpu_check.compare(check, name, x.dtype, ours, true)
    assert check.failures == [f"parity: {name}"]


def test_a_check_that_raises_fails_and_the_next_goes_on(gpu_check, monkeypatch, tmp_path):
    def broken(*arguments, **options):
        raise RuntimeError("no such luck")

    monkeypatch.setitem(gpu_check.NEURONS, "li", (broken, {}))
    assert gpu_check.main(["--dry-run", "--out", str(tmp_path / "result.json")]) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["failures"]) == 9 + 2 + 1 and all(": li" in failure for failure in result["failures"])
    assert result["parity"][0]["error"] == "RuntimeError: no such luck" and result["parity"][-1]["passed"]
