"""A study's tables: what each arm reached over the seeds, how it differs from the control, and what it costs."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from temporal.training.protocol import Heard, protocol_of, share
from temporal.training.run import write_json

from .results import CellResult, result_of
from .study import Study

__all__ = ["Arm", "Cost", "Summary", "summarize", "write_summary"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the deployed networks of an arm take, means over its runs; ``None`` where nothing was measured.

    Args:
        parameters: that are learned, in one run.
        depth: the longest delay in use, in steps, the longest of all runs; ``None`` also of a network without delays.
        max_delay: the longest that the network could have learned.
        milliseconds: that ``depth`` steps last.
        spikes: a recording; ``None`` also without spiking neurons.
        additions, products: synaptic operations a recording, on spikes and on real numbers.
        uncounted: layers whose operations are not counted.
        seconds: of training, a run.
    """

    parameters: int | None = None
    depth: int | None = None
    max_delay: int | None = None
    milliseconds: float | None = None
    spikes: float | None = None
    additions: float | None = None
    products: float | None = None
    uncounted: list[str] = field(default_factory=list)
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A row of the table. Accuracies are parts, 0..1.

    Args:
        name: of the arm.
        seeds: with a result of every fold; the accuracy of a seed is that of all its folds' recordings together.
        accuracies: of these seeds.
        mean, deviation: of the accuracies; the deviation is that of a sample (n - 1), ``None`` for fewer than two.
        errors, recordings: how many were wrong, of how many, over these seeds together.
        heard: the same recordings by whether their speakers were heard in training.
        folds: of each fold, how many recordings are right, and of how many, over these seeds together.
        cost: of its networks.
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
    errors: int = 0
    recordings: int = 0
    heard: Heard = field(default_factory=Heard)
    folds: dict[str, tuple[int, int]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    difference: float | None = None
    interval: tuple[float, float] | None = None
    welch: float | None = None
    mcnemar: float | None = None
    better: int | None = None
    worse: int | None = None

    @property
    def parameters(self) -> int | None:
        """That are learned, in one run; ``None`` before there is one."""
        return self.cost.parameters


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a study has come to.

    Args:
        study, control: their names.
        arms: a row each.
        runs, finished: of the study.
        equal: arms that learn equally many numbers, by their widths.
        parameters: how many they were given to learn.
        remarks: how the figures came about, a line each.
        failed: cells that failed, with their last words.
    """

    study: str
    control: str
    arms: list[Arm]
    runs: int
    finished: int
    equal: list[str] = field(default_factory=list)
    parameters: int | None = None
    remarks: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names."""
        return asdict(self)

    def __str__(self) -> str:
        accuracy = ["arm", "parameters", "n", "accuracy", "errors", "speakers heard in training", "never heard"]
        accuracy += [f"difference to {self.control}", "Welch p", "McNemar p"]
        lines = _table([accuracy, *(_row(arm, arm.name == self.control) for arm in self.arms)])
        cost = ["arm", "parameters", "longest delay", "spikes", "additions", "products", "training"]
        lines += ["", *_table([cost, *(_cost_row(arm.name, arm.cost) for arm in self.arms)])]
        folds = list(dict.fromkeys(fold for arm in self.arms for fold in arm.folds if fold))
        if folds:
            rows = [[fold, *(_part(arm.folds.get(fold, (0, 0))) for arm in self.arms)] for fold in folds]
            rows += [["mean of the folds", *(_over_folds(arm) for arm in self.arms)]]
            lines += ["", *_table([["fold", *(arm.name for arm in self.arms)], *rows])]
        if self.finished < self.runs:
            lines += [
                "",
                f"{self.finished} of {self.runs} runs are finished; an arm's seed counts when all its folds are.",
            ]
        lines += ["", *(f"- {remark}" for remark in self.remarks)] if self.remarks else []
        lines += [f"failed: {key}: {words}" for key, words in self.failed.items()]
        return "\n".join(lines)


def summarize(study: Study, folder: Path, failed: Mapping[str, str] | None = None) -> Summary:
    """Read what a study's runs have left.

    Args:
        study: the study.
        folder: of the study.
        failed: cells that are known to have failed, with their last words.
    """
    cells = study.cells()
    found = {cell.key: result_of(folder, cell) for cell in cells}
    lacking = {(cell.arm, cell.seed) for cell in cells if found[cell.key] is None}
    results = [result for result in found.values() if result is not None]
    whole: dict[str, dict[int, list[CellResult]]] = {arm: {} for arm in study.arms}
    for result in results:
        if (result.arm, result.seed) not in lacking:
            whole[result.arm].setdefault(result.seed, []).append(result)
    control = whole[study.reference]
    arms = []
    for name, of_seeds in whole.items():
        cost = _cost([result for result in results if result.arm == name])
        arms.append(_arm(name, of_seeds, control, name == study.reference, cost))
    return Summary(
        study=study.name,
        control=study.reference,
        arms=arms,
        runs=len(cells),
        finished=len(results),
        equal=list(study.equal),
        parameters=study.parameters if isinstance(study.parameters, int) else None,
        remarks=_remarks(study, arms, results),
        failed=dict(failed or {}),
    )


def write_summary(summary: Summary, folder: Path, pictures: Mapping[str, str] | None = None) -> None:
    """Write ``summary.md``, ``summary.json`` and ``summary.csv``.

    Args:
        summary: the tables.
        folder: of the study.
        pictures: paths below the folder, with what each shows: ``summary.md`` links them.
    """
    from temporal._files import write_atomically

    write_json(folder / "summary.json", summary.to_dict())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    apart = ("seeds", "accuracies", "interval", "heard", "folds", "cost")
    names = [name for name in Arm.__dataclass_fields__ if name not in apart]
    costs, groups = list(Cost.__dataclass_fields__), list(Heard.__dataclass_fields__)
    of_groups = [f"{group}_{what}" for group in groups for what in ("correct", "total")]
    writer.writerow([*names, *costs, *of_groups, "interval_low", "interval_high", "n", "accuracies"])
    for arm in summary.arms:
        low, high = arm.interval or ("", "")
        values = [*(getattr(arm, name) for name in names), *vars(arm.cost).values()]
        plain = ["" if value is None else "; ".join(value) if isinstance(value, list) else value for value in values]
        counts = [number for pair in vars(arm.heard).values() for number in pair]
        writer.writerow([*plain, *counts, low, high, len(arm.seeds), " ".join(map(repr, arm.accuracies))])
    shown = "".join(f"![{words}]({path})\n\n" for path, words in (pictures or {}).items())
    tables = {"summary.csv": text.getvalue(), "summary.md": f"# {summary.study}\n\n{summary}\n\n{shown}{_NOTES}"}
    for name, content in tables.items():
        write_atomically(folder / name, lambda file, content=content: file.write(content.encode()))  # type: ignore[misc]


_NOTES = """Accuracy on the test part after the last epoch, with whole-step delays: mean and sample standard deviation over
seeds; errors, and the recordings of speakers heard in training or not, over all seeds together. Welch's t-test compares the
seeds' accuracies; McNemar's exact test compares what two runs of one seed, the first that both arms have, say of the same
recordings. Both are two-sided, and are not corrected for their number.

Spikes and synaptic operations are those of a recording, counted once on some of the test recordings in the deployed network:
an addition for each synapse that a spike reaches, a product where the input is a real number. The longest delay is that in
use, of the longest that could be learned.
"""


def _arm(
    name: str,
    of_seeds: dict[int, list[CellResult]],
    control: dict[int, list[CellResult]],
    is_control: bool,
    cost: Cost,
) -> Arm:
    seeds = sorted(of_seeds)
    said = {seed: _right(of_seeds[seed]) for seed in seeds}
    accuracies = [statistics.fmean(said[seed].values()) for seed in seeds]
    mean = statistics.fmean(accuracies) if accuracies else None
    results = [result for seed in seeds for result in of_seeds[seed]]
    folds: dict[str, tuple[int, int]] = {}
    for result in results:
        right, total = folds.get(result.fold, (0, 0))
        folds[result.fold] = (right + result.correct, total + result.total)
    row = Arm(
        name=name,
        seeds=seeds,
        accuracies=accuracies,
        mean=mean,
        deviation=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        errors=sum(total - right for right, total in folds.values()),
        recordings=sum(total for _, total in folds.values()),
        heard=sum((result.heard for result in results), start=Heard()),
        folds=folds,
        cost=cost,
    )
    if is_control or mean is None or not control:
        return row
    theirs = {seed: _right(results) for seed, results in sorted(control.items())}
    shares = [statistics.fmean(right.values()) for right in theirs.values()]
    more: dict[str, Any] = {"difference": mean - statistics.fmean(shares)} | _welch(accuracies, shares)
    common = [seed for seed in seeds if seed in control]
    if common:
        more |= _mcnemar(said[common[0]], theirs[common[0]])
    return Arm(**(vars(row) | more))


def _right(results: Sequence[CellResult]) -> dict[str, bool]:
    """Of all recordings of a seed, its folds together."""
    return {key: right for result in results for key, right in result.right.items()}


def _cost(results: Sequence[CellResult]) -> Cost:
    measured = [result.activity for result in results if "recordings" in result.activity]

    def mean(name: str) -> float | None:
        values = [activity[name] for activity in measured if activity[name] is not None]
        return statistics.fmean(values) if values else None

    def most(name: str) -> int | None:
        return max((activity[name] for activity in measured if activity[name] is not None), default=None)

    seconds = [result.seconds for result in results if result.seconds is not None]
    depth = most("depth")
    return Cost(
        parameters=next((result.parameters for result in results if result.parameters is not None), None),
        depth=depth,
        max_delay=most("max_delay"),
        milliseconds=None if depth is None else 1000 * depth * measured[0]["seconds_per_step"],
        spikes=mean("spikes"),
        additions=mean("additions"),
        products=mean("products"),
        uncounted=sorted({name for activity in measured for name in activity["uncounted"]}),
        seconds=statistics.fmean(seconds) if seconds else None,
    )


def _remarks(study: Study, arms: Sequence[Arm], results: Sequence[CellResult]) -> list[str]:
    """What a reader must know of the figures."""
    if not results:
        return []
    epochs = sorted({result.epochs for result in results})
    splits = sorted({f"split “{result.split}”" for result in results})
    which = splits[0] if len(splits) == 1 else f"{len(study.folds)} folds" if study.folds else ", ".join(splits)
    averages = {result.recipe.get("ema", 0.0) > 0 for result in results}
    averaged = averages.pop() if len(averages) == 1 else None
    remarks = [
        f"{protocol_of(which, epochs[0], averaged=averaged)}."
        if len(epochs) == 1
        else f"protocol: {which}; epochs differ: {epochs}."
    ]
    if study.equal and isinstance(study.parameters, int):
        counts = [arm.parameters for arm in arms if arm.name in study.equal and arm.parameters is not None]
        off = max((abs(count / study.parameters - 1) for count in counts), default=0.0)
        remarks.append(
            f"equalised: the arms {', '.join(study.equal)} learn {study.parameters:,} parameters each, to within "
            f"{100 * off:.1f} %, by the width of their layers."
            + (
                f" As it is: {', '.join(others)}."
                if (others := [arm for arm in study.arms if arm not in study.equal])
                else ""
            )
        )
    if not any(arm.heard.seen[1] or arm.heard.unseen[1] for arm in arms if arm.recordings):
        remarks.append(f"{Heard()}.")
    remarks += _memory(arms)
    unmeasured = sum("recordings" not in result.activity for result in results)
    if unmeasured:
        why = next(result.activity.get("missing") for result in results if "recordings" not in result.activity)
        remarks.append(f"{unmeasured} runs were not measured for spikes and operations: {why}.")
    return remarks + _differing_machines(results)


def _memory(arms: Sequence[Arm]) -> list[str]:
    """How far back the delays of each arm may reach, which is part of what is compared."""
    reach: dict[int, list[str]] = {}
    for arm in arms:
        if arm.cost.additions is not None:  # it was measured
            reach.setdefault(arm.cost.max_delay or 0, []).append(arm.name)
    words = [
        f"{f'up to {steps} steps' if steps else 'none'} in {', '.join(names)}"
        for steps, names in sorted(reach.items(), reverse=True)
    ]
    return [f"delays: {'; '.join(words)}."] if any(reach) else []


def _differing_machines(results: Sequence[CellResult]) -> list[str]:
    """Seeds are alike only with the same versions on the same machine: say where they were not."""
    said = []
    versions = sorted(
        {f"torch {r.versions.get('torch')}, temporal {r.versions.get('temporal')}" for r in results if r.versions}
    )
    if len(versions) > 1:
        said.append(f"trained with different versions: {'; '.join(versions)}.")
    threads = sorted({result.threads for result in results if result.threads is not None})
    if len(threads) > 1:
        said.append(f"trained with different numbers of threads: {', '.join(map(str, threads))}.")
    return said


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
    if not both:  # arms that hear other recordings
        return {}
    better = sum(ours[key] and not theirs[key] for key in both)
    worse = sum(theirs[key] and not ours[key] for key in both)
    p = float(stats.binomtest(better, better + worse, 0.5).pvalue) if better + worse else 1.0
    return {"mcnemar": p, "better": better, "worse": worse}


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]


def _row(arm: Arm, is_control: bool) -> list[str]:
    def percent(value: float | None, sign: str = "") -> str:
        return "" if value is None or math.isnan(value) else f"{100 * value:{sign}.2f}"

    accuracy = f"{percent(arm.mean)} %" if arm.mean is not None else ""
    accuracy += f" ± {percent(arm.deviation)}" if arm.deviation is not None else ""
    difference = "control" if is_control else f"{percent(arm.difference, '+')}" if arm.difference is not None else ""
    if arm.interval is not None:
        difference += f" [{percent(arm.interval[0], '+')}, {percent(arm.interval[1], '+')}]"
    return [
        arm.name,
        _number(arm.parameters),
        str(len(arm.seeds)),
        accuracy,
        f"{arm.errors} of {arm.recordings}" if arm.recordings else "",
        _part(arm.heard.seen),
        _part(arm.heard.unseen),
        difference,
        "" if arm.welch is None else f"{arm.welch:.2g}",
        "" if arm.mcnemar is None else f"{arm.mcnemar:.2g} ({arm.better} : {arm.worse})",
    ]


def _over_folds(arm: Arm) -> str:
    """Mean and sample standard deviation over the folds, each of which counts alike."""
    shares = [right / total for right, total in arm.folds.values()]
    if len(shares) < 2:
        return ""
    return f"{100 * statistics.fmean(shares):.2f} % ± {100 * statistics.stdev(shares):.2f}"


def _cost_row(name: str, cost: Cost) -> list[str]:
    depth = "" if cost.depth is None else f"{cost.depth} of {cost.max_delay} steps ({cost.milliseconds:.0f} ms)"
    operations = [_number(cost.additions), _number(cost.products)]
    if cost.uncounted:
        operations = [f"not of {', '.join(cost.uncounted)}"] * 2
    training = "" if cost.seconds is None else f"{cost.seconds / 60:.1f} min"
    return [name, _number(cost.parameters), depth, _number(cost.spikes), *operations, training]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _part(counts: tuple[int, int]) -> str:
    return share(*counts) if counts[1] else ""
