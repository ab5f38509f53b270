"""How a study runs: side by side, tried again, continued; with made-up runs here, and with real ones in the slow tier."""

import dataclasses
import json
import os
import signal
import sys
import threading
import time

import pytest
import torch

import temporal
from temporal.layers import SumSoftmax
from temporal.studies import run_study
from temporal.studies._cell import environment_of, last_words
from temporal.training import Run

KEYS = ["plain_seed0", "plain_seed1", "learned_seed0", "learned_seed1"]


def test_every_cell_is_run_once_and_kept(study, tmp_path, pretend, monkeypatch):
    monkeypatch.setattr(Run, "is_finished", Run.has_result)
    layers = temporal.Sequential(torch.nn.Linear(3, 2))
    monkeypatch.setattr(Run, "model", lambda self: temporal.Model(None, layers, SumSoftmax(), labels=["a", "b"]))
    started = pretend(right=lambda key: 9 if key.startswith("learned") else 5)
    said = []
    outcome = run_study(study, tmp_path / "out", jobs=2, threads=3, say=said.append)
    assert sorted(outcome.trained) == sorted(KEYS) and not outcome.failed and not outcome.kept
    assert {threads for _, threads in started} == {3}
    assert "learned_seed1: 90.00 % (9 of 10)" in said
    assert [arm.accuracies for arm in outcome.summary.arms] == [[0.5, 0.5], [0.9, 0.9]]
    assert outcome.summary.arms[0].parameters == 8
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["arms"][1]["difference"] == pytest.approx(0.4)
    assert "| learned | 8 " in " ".join((tmp_path / "out" / "summary.md").read_text().split())

    again = run_study(study, tmp_path / "out", jobs=2)
    assert again.kept == KEYS and not again.trained and len(started) == 4
    more = run_study(dataclasses.replace(study, seeds=(0, 1, 2)), tmp_path / "out", jobs=2)
    assert sorted(more.trained) == ["learned_seed2", "plain_seed2"]


@pytest.mark.parametrize(("how", "words"), [("status", "out of luck"), ("killed", "killed by signal 9")])
def test_what_fails_is_tried_again_and_reported(study, tmp_path, pretend, how, words):
    """One cell fails twice and is done at the third time; another always fails, which the others do not mind."""
    failures = {"plain_seed1": 2, "learned_seed0": 99}
    pretend(failures=lambda key: failures.get(key, 0), how=how)
    said = []
    outcome = run_study(study, tmp_path / "out", jobs=2, retries=2, say=said.append)
    assert outcome.failed == {"learned_seed0": words}
    assert outcome.retries == 4 and sorted(outcome.trained) == sorted(set(KEYS) - {"learned_seed0"})
    assert (tmp_path / "out/runs/learned_seed0/tries").read_text() == "3"
    assert outcome.summary.finished == 3 and f"failed: learned_seed0: {words}" in str(outcome.summary)
    assert f"plain_seed1: {words}; it is begun again, time 1 of 2" in said


def test_ctrl_c_stops_the_runs_and_writes_the_table(study, tmp_path, pretend):
    pretend(seconds=60)

    def press():
        while not list((tmp_path / "out" / "runs").glob("*/tries")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt, match="the same command continues"):
        run_study(study, tmp_path / "out", jobs=1)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1
    assert "0 of 4 runs are finished" in (tmp_path / "out" / "summary.md").read_text()


def test_another_study_in_the_folder_is_refused(study, tmp_path, pretend):
    pretend()
    run_study(study, tmp_path / "out")
    other = dataclasses.replace(study, recipe=study.recipe.override({"epochs": 7}))
    with pytest.raises(ValueError, match=r"epochs is 1 there, not 7 \(4 differences\)"):
        run_study(other, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no study"):
        run_study(study, tmp_path / "full")
    (tmp_path / "out" / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study\.json: not readable"):
        run_study(study, tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jobs": 0}, "jobs=0"),
        ({"threads": 1.5}, "threads=1.5"),
        ({"retries": -1}, "retries=-1"),
        ({"jobs": 1, "scheduler": "tcp://a:1"}, "give one of them"),
    ],
)
def test_arguments_are_checked(study, tmp_path, given, said):
    with pytest.raises(ValueError, match=said):
        run_study(study, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_child_has_its_share_of_the_processors(monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "1")
    child = environment_of(2)
    assert child["OMP_NUM_THREADS"] == child["MKL_NUM_THREADS"] == "2" and "RANK" not in child
    (tmp_path / "log").write_text("--- 1 begun\nepoch 1\ntemporal: a, b\n\n--- 2 continued\n")
    assert last_words(tmp_path / "log") == "a, b" and last_words(tmp_path / "none") == ""


def test_without_the_extra_a_scheduler_says_what_to_install(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"temporal\[cluster\]"):
        run_study(study, tmp_path / "out", scheduler="tcp://127.0.0.1:1")
