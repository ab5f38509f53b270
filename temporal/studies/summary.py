"""A study's table: what each arm reached over the seeds, and how it differs from the control."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from temporal.training import Run
from temporal.training.run import write_json

from .study import Study

__all__ = ["Arm", "Summary", "summarize", "write_summary"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A row of the table. Accuracies are parts, 0..1.

    Args:
        name: of the arm.
        seeds: with a result of every fold; the accuracy of a seed is that of all its folds' recordings together.
        accuracies: of these seeds.
        mean, deviation: of the accuracies; the deviation is that of a sample (n - 1), ``None`` for fewer than two.
        parameters: that are learned, in one run; ``None`` before there is one.
        difference: of the means, to the control.
        interval: 95 % confidence interval of the difference, after Welch; ``None`` where a side has fewer than two seeds.
        welch: p of Welch's t-test over seeds, two-sided; ``None`` likewise.
        mcnemar: p of McNemar's exact test over recordings, two-sided, between the runs of the first seed that both have.
        better, worse: recordings that this arm alone has right, and the control alone.
    """

    name: str
    seeds: list[int]
    accuracies: list[float]
    mean: float | None
    deviation: float | None
    parameters: int | None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    welch: float | None = None
    mcnemar: float | None = None
    better: int | None = None
    worse: int | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a study has come to.

    Args:
        study, control: their names.
        arms: a row each.
        runs, finished: of the study.
        failed: cells that failed, with their last words.
    """

    study: str
    control: str
    arms: list[Arm]
    runs: int
    finished: int
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return asdict(self)

    def __str__(self) -> str:
        rows = [
            ["arm", "parameters", "n", "accuracy", f"difference to {self.control}", "Welch p", "McNemar p"],
            *(_row(arm, arm.name == self.control) for arm in self.arms),
        ]
        widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
        rows.insert(1, ["-" * width for width in widths])
        lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
        if self.finished < self.runs:
            lines += [
                "",
                f"{self.finished} of {self.runs} runs are finished; an arm's seed counts when all its folds are.",
            ]
        lines += [f"failed: {key}: {words}" for key, words in self.failed.items()]
        return "\n".join(lines)


def summarize(study: Study, folder: Path, failed: Mapping[str, str] | None = None) -> Summary:
    """Read what a study's runs have left.

    Args:
        study: the study.
        folder: of the study.
        failed: cells that are known to have failed, with their last words.
    """
    right: dict[str, dict[int, dict[str, bool]]] = {}
    parameters: dict[str, int] = {}
    finished, cells = 0, study.cells()
    lacking: set[tuple[str, int]] = set()
    for cell in cells:
        run = Run(folder / "runs" / cell.key)
        result = run.result() if run.has_result() else None
        if result is None:
            lacking.add((cell.arm, cell.seed))
            continue
        finished += 1
        said = right.setdefault(cell.arm, {}).setdefault(cell.seed, {})
        said |= {f"{cell.fold}/{row['file']}": row["label"] == row["prediction"] for row in result["predictions"]}
        if cell.arm not in parameters and run.is_finished():
            parameters[cell.arm] = sum(p.numel() for p in run.model().parameters() if p.requires_grad)
    whole = {
        arm: {seed: said for seed, said in right.get(arm, {}).items() if (arm, seed) not in lacking}
        for arm in study.arms
    }
    control = whole[study.reference]
    arms = [_arm(name, said, control, name == study.reference, parameters.get(name)) for name, said in whole.items()]
    return Summary(
        study=study.name,
        control=study.reference,
        arms=arms,
        runs=len(cells),
        finished=finished,
        failed=dict(failed or {}),
    )


def write_summary(summary: Summary, folder: Path) -> None:
    """Write ``summary.md``, ``summary.json`` and ``summary.csv``."""
    from temporal._files import write_atomically

    write_json(folder / "summary.json", summary.to_dict())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name in Arm.__dataclass_fields__ if name not in ("seeds", "accuracies", "interval")]
    writer.writerow([*names, "interval_low", "interval_high", "n", "accuracies"])
    for arm in summary.arms:
        low, high = arm.interval or ("", "")
        plain = ["" if (value := getattr(arm, name)) is None else value for name in names]
        writer.writerow([*plain, low, high, len(arm.seeds), " ".join(map(repr, arm.accuracies))])
    tables = {"summary.csv": text.getvalue(), "summary.md": f"# {summary.study}\n\n{summary}\n\n{_NOTES}"}
    for name, content in tables.items():
        write_atomically(folder / name, lambda file, content=content: file.write(content.encode()))  # type: ignore[misc]


_NOTES = """Accuracy on the test part after the last epoch, with whole-step delays: mean and sample standard deviation over
seeds. Welch's t-test compares the seeds' accuracies; McNemar's exact test compares what two runs of one seed, the first that
both arms have, say of the same recordings. Both are two-sided, and are not corrected for their number.
"""


def _arm(
    name: str,
    said: dict[int, dict[str, bool]],
    control: dict[int, dict[str, bool]],
    is_control: bool,
    parameters: int | None,
) -> Arm:
    seeds = sorted(said)
    accuracies = [statistics.fmean(said[seed].values()) for seed in seeds]
    mean = statistics.fmean(accuracies) if accuracies else None
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    row = Arm(name=name, seeds=seeds, accuracies=accuracies, mean=mean, deviation=deviation, parameters=parameters)
    if is_control or mean is None or not control:
        return row
    theirs = [statistics.fmean(control[seed].values()) for seed in sorted(control)]
    more: dict[str, Any] = {"difference": mean - statistics.fmean(theirs)} | _welch(accuracies, theirs)
    common = [seed for seed in seeds if seed in control]
    if common:
        more |= _mcnemar(said[common[0]], control[common[0]])
    return Arm(**(vars(row) | more))


def _welch(ours: list[float], theirs: list[float]) -> dict[str, Any]:
    if min(len(ours), len(theirs)) < 2:
        return {}
    if statistics.stdev(ours) == statistics.stdev(theirs) == 0:  # 0 / 0, or infinitely sure of anything
        return {}
    from scipy import stats

    test = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = test.confidence_interval(0.95)
    return {"welch": float(test.pvalue), "interval": (float(interval.low), float(interval.high))}


def _mcnemar(ours: dict[str, bool], theirs: dict[str, bool]) -> dict[str, Any]:
    from scipy import stats

    both = ours.keys() & theirs.keys()
    better = sum(ours[key] and not theirs[key] for key in both)
    worse = sum(theirs[key] and not ours[key] for key in both)
    p = float(stats.binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0
    return {"mcnemar": p, "better": better, "worse": worse}


def _row(arm: Arm, is_control: bool) -> list[str]:
    def percent(value: float | None, sign: str = "") -> str:
        return "" if value is None or math.isnan(value) else f"{100 * value:{sign}.2f}"

    accuracy = f"{percent(arm.mean)} %" if arm.mean is not None else ""
    accuracy += f" ± {percent(arm.deviation)}" if arm.deviation is not None else ""
    difference = "control" if is_control else f"{percent(arm.difference, '+')}" if arm.difference is not None else ""
    if arm.interval is not None:
        difference += f" [{percent(arm.interval[0], '+')}, {percent(arm.interval[1], '+')}]"
    mcnemar = "" if arm.mcnemar is None else f"{arm.mcnemar:.2g} ({arm.better} : {arm.worse})"
    parameters = "" if arm.parameters is None else f"{arm.parameters:,}"
    welch = "" if arm.welch is None else f"{arm.welch:.2g}"
    return [arm.name, parameters, str(len(arm.seeds)), accuracy, difference, welch, mcnemar]
