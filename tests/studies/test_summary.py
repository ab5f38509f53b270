"""The table, against scipy and against sums done by hand."""

import csv
import dataclasses
import statistics

import pytest
from scipy import stats

from temporal.studies import summarize
from temporal.studies.summary import write_summary


def test_means_deviations_and_welch(study, tmp_path, result):
    rows = {"plain": ([1, 1, 0, 0], [1, 0, 0, 0]), "learned": ([1, 1, 1, 1], [1, 1, 1, 0])}
    for arm, seeds in rows.items():
        for seed, right in enumerate(seeds):
            result(tmp_path / "runs" / f"{arm}_seed{seed}", right)
    plain, learned = summarize(study, tmp_path).arms
    assert (plain.accuracies, learned.accuracies) == ([0.5, 0.25], [1.0, 0.75])
    assert learned.mean == 0.875 and learned.deviation == pytest.approx(statistics.stdev([1.0, 0.75]))
    assert learned.difference == pytest.approx(0.5)
    expected = stats.ttest_ind([1.0, 0.75], [0.5, 0.25], equal_var=False)
    assert learned.welch == pytest.approx(expected.pvalue)
    assert learned.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert plain.welch is None and plain.difference is None


def test_mcnemar_counts_what_one_alone_has_right(study, tmp_path, result):
    """Of seed 0: 6 recordings that only the one has right, 1 that only the other has; 2 (1/2)^7 (1 + 7) = 0.125."""
    result(tmp_path / "runs/plain_seed0", [0] * 6 + [1] + [1, 1, 0])
    result(tmp_path / "runs/learned_seed0", [1] * 6 + [0] + [1, 1, 0])
    learned = summarize(study, tmp_path).arms[1]
    assert (learned.better, learned.worse) == (6, 1)
    assert learned.mcnemar == pytest.approx(0.125)
    assert learned.welch is None and learned.seeds == [0]  # one seed each: no spread to test with


def test_a_seed_counts_when_all_its_folds_are_there(study, tmp_path, result):
    folded = dataclasses.replace(study, folds={"ann": {}, "bob": {}})
    result(tmp_path / "runs/plain_ann_seed0", [1, 1, 1])
    result(tmp_path / "runs/plain_bob_seed0", [0])
    result(tmp_path / "runs/plain_ann_seed1", [1, 1, 1])
    summary = summarize(folded, tmp_path)
    assert summary.arms[0].seeds == [0] and summary.arms[0].mean == 0.75  # of all recordings, not of the folds' means
    assert (summary.finished, summary.runs) == (3, 8)
    assert "3 of 8 runs are finished" in str(summary)


def test_equal_runs_have_no_welch(study, tmp_path, result):
    for arm in ("plain", "learned"):
        for seed in (0, 1):
            result(tmp_path / f"runs/{arm}_seed{seed}", [1, 0])
    learned = summarize(study, tmp_path).arms[1]
    assert learned.welch is None and learned.mcnemar == 1.0 and learned.difference == 0.0


def test_the_files(study, tmp_path, result):
    result(tmp_path / "runs/plain_seed0", [1, 0, 1])
    write_summary(summarize(study, tmp_path, {"learned_seed0": "no luck"}), tmp_path)
    with open(tmp_path / "summary.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["plain"]["mean"]) == pytest.approx(2 / 3) and rows["plain"]["n"] == "1"
    assert rows["learned"]["mean"] == "" and rows["learned"]["n"] == "0"
    table = (tmp_path / "summary.md").read_text()
    assert table.startswith("# two\n") and "failed: learned_seed0: no luck" in table and "66.67 %" in table


def test_speakers_heard_and_not_are_told_apart(study, tmp_path, result):
    """Two seeds of three recordings by ann, who was heard, and two by eve, who was not."""
    about = {"speakers": ["ann", "ann", "ann", "eve", "eve"], "trained_speakers": ["ann", "bob"]}
    result(tmp_path / "runs/plain_seed0", [1, 1, 0, 1, 0], **about)
    result(tmp_path / "runs/plain_seed1", [1, 1, 1, 0, 0], **about)
    plain = summarize(study, tmp_path).arms[0]
    assert plain.heard.seen == (5, 6) and plain.heard.unseen == (1, 4) and plain.heard.unknown == (0, 0)
    assert (plain.errors, plain.recordings) == (4, 10)
    text = " ".join(str(summarize(study, tmp_path)).split())
    assert "4 of 10 | 83.33 % (5 of 6) | 25.00 % (1 of 4)" in text and "nobody can say" not in text


def test_unknown_speakers_are_said(study, tmp_path, result):
    result(tmp_path / "runs/plain_seed0", [1, 0])
    assert "speakers: unknown, so nobody can say" in str(summarize(study, tmp_path))


def test_folds_have_rows_of_their_own(study, tmp_path, result):
    folded = dataclasses.replace(study, folds={"ann": {}, "bob": {}}, seeds=(0,))
    result(tmp_path / "runs/plain_ann_seed0", [1, 1, 1, 0], split="speaker=ann", epochs=1)
    result(tmp_path / "runs/plain_bob_seed0", [0, 1], split="speaker=bob", epochs=1)
    summary = summarize(folded, tmp_path)
    assert summary.arms[0].folds == {"ann": (3, 4), "bob": (1, 2)}
    lines = [" ".join(line.split()) for line in str(summary).splitlines()]
    assert "| fold | plain | learned |" in lines and "| ann | 75.00 % (3 of 4) | |" in lines
    assert "| mean of the folds | 62.50 % ± 17.68 | |" in lines  # of 0.75 and 0.5
    assert any(line.startswith("- protocol: 2 folds; 1 epochs, fixed beforehand") for line in lines)


def test_arms_on_other_recordings_are_not_compared_one_by_one(study, tmp_path, result):
    result(tmp_path / "runs/plain_seed0", [1, 0])
    result(tmp_path / "runs/learned_seed0", [1, 0])
    other = tmp_path / "runs/learned_seed0/result.json"
    other.write_text(other.read_text().replace('"file": "r', '"file": "s'))
    learned = summarize(study, tmp_path).arms[1]
    assert learned.mcnemar is None and learned.difference == 0


def test_what_was_equalised_is_said(study, tmp_path, result, monkeypatch):
    monkeypatch.setattr("temporal.studies.results._tried", lambda read: None)
    result(tmp_path / "runs/plain_seed0", [1, 0])
    equal = dataclasses.replace(study, equal=("plain",), parameters=1000)
    text = str(summarize(equal, tmp_path))
    assert "equalised: the arms plain learn 1,000 parameters each" in text and "As it is: learned." in text


def test_whether_the_weights_are_an_average_is_said(study, tmp_path, result):
    for arm in ("plain", "learned"):
        result(tmp_path / f"runs/{arm}_seed0", [1, 0], epochs=1)
    averaged = dataclasses.replace(study, recipe=study.recipe.override({"ema": 0.9}))
    some = dataclasses.replace(study, arms={"plain": {"ema": 0.9}, "learned": {}})
    assert "; the last epoch's weights; " in str(summarize(study, tmp_path))
    assert "the average of the weights as the last epoch left it" in str(summarize(averaged, tmp_path))
    assert "or their average where the recipe has one" in str(summarize(some, tmp_path))
