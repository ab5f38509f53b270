"""The pictures of a study: accuracy by arm, against parameters and spikes, and where the delays lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .results import CellResult, result_of
from .study import Study

__all__ = ["draw"]

_FOLDER = "pictures"
_COLORS = 64  # kept in a picture of bars and text


def draw(study: Study, folder: Path) -> dict[str, str]:
    """Draw what the finished cells show into ``pictures/`` of a study's folder.

    Returns:
        The paths below the folder, with what each picture shows.
    """
    from temporal.analysis import accuracy_against_cost, accuracy_by_arm, save

    results = [result for cell in study.cells() if (result := result_of(folder, cell)) is not None]
    if not results:
        return {}
    of_arms = {arm: [result for result in results if result.arm == arm] for arm in study.arms}
    drawn: dict[str, tuple[Any, str]] = {}
    accuracies = {arm: [result.correct / result.total for result in found] for arm, found in of_arms.items()}
    drawn["accuracy_by_arm"] = accuracy_by_arm(accuracies), "Accuracy of each arm, a mark each run"
    for name, cost, of in _COSTS:
        points = {arm: _points(found, of) for arm, found in of_arms.items()}
        if any(points.values()):
            drawn[name] = accuracy_against_cost(points, cost), f"Accuracy of each run against {cost}"
    for arm, found in of_arms.items():
        figure = _delays(found)
        if figure is not None:
            drawn[f"delays_{arm}"] = figure, f"Delays of {arm}, before and after training, all its runs together"
    (folder / _FOLDER).mkdir(exist_ok=True)
    for name, (figure, _) in drawn.items():
        save(figure, folder / _FOLDER / f"{name}.png", colors=_COLORS)
    return {f"{_FOLDER}/{name}.png": words for name, (_, words) in drawn.items()}


def _parameters(result: CellResult) -> float | None:
    return result.parameters


def _spikes(result: CellResult) -> float | None:
    return result.activity.get("spikes")


_COSTS = (
    ("accuracy_against_parameters", "parameters that are learned", _parameters),
    ("accuracy_against_spikes", "spikes a recording", _spikes),
)


def _points(results: Sequence[CellResult], of: Callable[[CellResult], float | None]) -> list[tuple[float, float]]:
    return [(cost, result.correct / result.total) for result in results if (cost := of(result)) is not None]


def _delays(results: Sequence[CellResult]) -> Any:
    """A figure of the delays of all runs of an arm together; ``None`` where there are none, or nobody noted them."""
    from temporal.analysis import delay_histograms

    before = _together([result.delays.get("before", []) for result in results])
    after = _together([result.delays.get("after", []) for result in results])
    if not after or all(len(part.counts) == 1 for part in after):
        return None
    same = [(part.name, part.steps) for part in before] == [(part.name, part.steps) for part in after]
    return delay_histograms(before if same else None, after)


def _together(runs: Sequence[Sequence[dict[str, Any]]]) -> list[Any]:
    """The counts of the same layers of several runs, added up."""
    from temporal.analysis import DelayCounts

    total: dict[tuple[str, int, int], DelayCounts] = {}
    for layers in runs:
        for part in layers:
            key = (part["layer"], part["first"], len(part["counts"]))
            before = total[key].counts if key in total else [0] * len(part["counts"])
            counts = tuple(a + b for a, b in zip(before, part["counts"], strict=True))
            total[key] = DelayCounts(part["layer"], counts, part["learned"], part["first"])
    return list(total.values())
