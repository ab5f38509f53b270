"""The parts of a report, from what is known of a run."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from temporal.analysis import (
    Picture,
    Section,
    Table,
    Text,
    accuracy_by_group,
    confusion_matrix,
    delay_histograms,
    firing_rates,
    learning_curve,
    wilson_interval,
)

from .._fields import flat
from ..evaluation import Result
from .facts import RunFacts
from .measured import Measured

__all__ = ["activity_section", "configuration_section", "delay_section", "deployment_section", "interval"]
__all__ += ["MADE_BY", "learning_section", "picture", "recording_section", "result_section", "run_sections"]

MADE_BY = "temporal report"  # stands in each picture, so that one of an earlier report is known as such


def run_sections(facts: RunFacts) -> list[Section]:
    """All parts that are about one run; a part of which nothing is known is left out."""
    parts = [
        result_section(facts),
        learning_section(facts),
        delay_section(facts),
        activity_section(facts),
        recording_section(facts),
        deployment_section(facts),
        configuration_section(facts),
    ]
    return [part for part in parts if part is not None]


def picture(name: str, figure: Any, alt: str) -> Picture:
    """A figure as a picture of the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", metadata={"Software": MADE_BY})
    return Picture(name, file.getvalue(), alt)


def interval(correct: int, total: int) -> str:
    """The 95 % confidence interval of an accuracy, in words."""
    low, high = wilson_interval(correct, total)
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def result_section(facts: RunFacts) -> Section | None:
    """Accuracy in all, by class and by speaker, and what was taken for what."""
    result = facts.result
    if result is None or not result.total:
        return None
    right = (
        f"{result.correct} of {result.total} test recordings are right, {100 * result.accuracy:.2f} %; 95 % confidence "
        f"interval {interval(result.correct, result.total)} (Wilson). The test part was looked at once."
    )
    told = [right, *(f"{line[0].upper()}{line[1:]}." for line in facts.told[1:3])]
    matrix = confusion_matrix(result.confusion, result.labels)
    shown = picture("confusion_matrix", matrix, f"Confusion matrix of {len(result.labels)} classes")
    inner = [Section("What was taken for what", [shown]), _by_class(result)]
    if any(result.speakers):
        inner.append(_by_speaker(result))
    notes = [Text(text, "note") for text in result.messages]
    return Section("Result", [*map(Text, told), *notes], inner)


def _by_class(result: Result) -> Section:
    matrix, rows, groups = result.confusion, [], []
    for number, label in enumerate(result.labels):
        total, right = sum(matrix[number]), matrix[number][number]
        others = [(count, name) for name, count in zip(result.labels, matrix[number], strict=True) if name != label]
        worst = max(others, default=(0, ""), key=lambda pair: pair[0])
        if total:
            groups.append((label, right, total))
            said = f"{worst[1]} ({worst[0]})" if worst[0] else "–"
            share = f"{100 * right / total:.1f} %"
            rows.append([label, str(right), str(total), share, interval(right, total), said])
    header = ["class", "right", "of", "accuracy", "95 % interval", "most often taken for"]
    drawn = picture("accuracy_by_class", accuracy_by_group(groups, "class"), "Accuracy of each class with its interval")
    return Section("By class", [drawn, Table(header, rows)])


def _by_speaker(result: Result) -> Section:
    trained = result.trained_speakers
    counts: dict[str, list[int]] = {}
    for who, true, said in zip(result.speakers, result.targets, result.predictions, strict=True):
        entry = counts.setdefault(who or "unknown", [0, 0])
        entry[0] += true == said
        entry[1] += 1
    heard = {who: "unknown" if trained is None else "yes" if who in trained else "no" for who in counts}
    if "unknown" in heard:
        heard["unknown"] = "unknown"
    rows = [_accuracy_row(who, [counts[who]], heard[who]) for who in sorted(counts)]
    together = []
    for answer, name in (("yes", "all speakers heard in training"), ("no", "all speakers never heard")):
        group = [counts[who] for who in counts if heard[who] == answer]
        if group:
            together.append(_accuracy_row(name, group, answer))
    header = ["speaker", "right", "of", "accuracy", "95 % interval", "heard in training"]
    groups = [(who, right, total) for who, (right, total) in counts.items()]
    drawn = picture(
        "accuracy_by_speaker", accuracy_by_group(groups, "speaker"), "Accuracy of each speaker with its interval"
    )
    about = Text(
        "An interval says what chance leaves open among recordings like these; how another speaker would fare, it does not.",
        "note",
    )
    return Section("By speaker", [drawn, Table(header, [*together, *rows]), about])


def _accuracy_row(name: str, groups: Sequence[Sequence[int]], last: str) -> list[str]:
    """Of groups of recordings together, each (how many are right, how many there are)."""
    right, total = (sum(numbers) for numbers in zip(*groups, strict=True))
    return [name, str(right), str(total), f"{100 * right / total:.1f} %", interval(right, total), last]


def learning_section(facts: RunFacts) -> Section | None:
    """Curves, and what ailed the training."""
    blocks: list[Any] = []
    if facts.rows:
        curve = picture("learning_curve", learning_curve(facts.rows), "Loss, accuracy and schedules over the epochs")
        blocks.append(curve)
    for found, epochs in facts.findings:
        when = f"epoch {epochs[0]}" if len(epochs) == 1 else f"{len(epochs)} epochs from {epochs[0]} to {epochs[-1]}"
        blocks.append(Text(f"In {when}: {found['text']}. Try {found['advice']}.", "warning"))
    if facts.health and facts.rows and not facts.findings:
        checked = (
            "a diverging loss, tensors that are not finite, silent and saturated layers, delays piling up at an end"
        )
        blocks.append(Text(f"No epoch showed any of these: {checked}."))
    return Section("Learning", blocks) if blocks else None


def delay_section(facts: RunFacts) -> Section | None:
    """Histograms before and after."""
    after, before = facts.delays_after, facts.delays_before
    if not after:
        return None
    blocks: list[Any] = []
    if before is None or [(a.name, a.steps) for a in before] != [(a.name, a.steps) for a in after]:
        before = None
        blocks.append(Text("The delays that the network began with are not known.", "note"))
    drawn = delay_histograms(before, after)
    return Section("Delays", [picture("delays", drawn, "How the delays of each layer are spread"), *blocks])


def activity_section(facts: RunFacts) -> Section | None:
    """Firing rates, operations and buffers; without recordings, the rates that were noted in training."""
    if facts.measured is None:
        return _noted_activity(facts)
    measured, activity = facts.measured, facts.measured.activity
    blocks: list[Any] = [
        Text(
            f"Measured on {activity.recordings} of the {measured.total} {measured.part} recordings, as deployed. A neuron "
            "is dead if it never fired on them, saturated if it fired at 95 % of the steps or more."
        )
    ]
    if activity.layers:
        drawn = firing_rates(activity.layers, seconds_per_step=measured.seconds_per_step)
        blocks.append(picture("firing_rates", drawn, "Firing rate of each neuron, layer by layer"))
        rows = [
            [
                layer.name,
                f"{len(layer.counts)}",
                f"{layer.rate / measured.seconds_per_step:.2f}",
                f"{sum(layer.counts) / activity.recordings:,.1f}",
                _share(layer.dead, len(layer.counts)),
                _share(layer.saturated, len(layer.counts)),
            ]
            for layer in activity.layers
        ]
        header = ["layer", "neurons", "spikes/s a neuron", "spikes a recording", "dead", "saturated"]
        blocks.append(Table(header, rows, "Neurons"))
    else:
        blocks.append(Text("The network has no spiking layer.", "note"))
    return Section("Activity and cost", [*blocks, *_costs(measured)])


def _costs(measured: Measured) -> list[Any]:
    activity = measured.activity
    blocks: list[Any] = []
    if activity.synapses:
        rows = [
            [
                part.name,
                f"{part.inputs:,}",
                f"{part.operations / activity.recordings:,.0f}",
                "addition" if part.events else "product and addition",
                f"{part.depth}",
                bytes_of(part.buffer_bytes),
            ]
            for part in activity.synapses
        ]
        header = ["layer", "inputs", "operations a recording", "each is", "longest delay (steps)", "buffer"]
        blocks.append(Table(header, rows, "Synapses: an operation is an input that is not zero, times a synapse"))
    if activity.unknown:
        blocks.append(Text(f"Not counted: the operations of {', '.join(activity.unknown)}.", "note"))
    return blocks


def _noted_activity(facts: RunFacts) -> Section | None:
    layers = facts.health[-1].get("layers", ()) if facts.health else ()
    if not layers:
        return None
    rows = [
        [
            layer["layer"],
            f"{layer['neurons']}",
            f"{layer['rate']:.4f}",
            _share(layer["dead"], layer["neurons"]),
            _share(layer["saturated"], layer["neurons"]),
        ]
        for layer in layers
    ]
    text = f"As noted in training after epoch {facts.health[-1]['epoch']}, on some training recordings."
    header = ["layer", "neurons", "spikes/step a neuron", "dead", "saturated"]
    return Section("Activity and cost", [Text(text), Table(header, rows, "Neurons")])


def recording_section(facts: RunFacts) -> Section | None:
    """Chosen recordings on their way through the network."""
    if facts.measured is None or not facts.measured.rasters:
        return None
    shown = [
        picture(f"recording_{number}", figure, f"Frames, spikes of each layer and readout of {title}")
        for number, (title, figure) in enumerate(facts.measured.rasters, 1)
    ]
    return Section("Recordings", [*(Text(text, "note") for text in facts.measured.messages), *shown])


def deployment_section(facts: RunFacts) -> Section | None:
    """How far a stream and the event engine are from the whole recording at once."""
    if facts.measured is None:
        return None
    found = facts.measured.agreement
    rows, faults = [], []
    for way, differences, other, why in (
        ("streamed, in chunks", (found.streamed_logits, found.streamed), found.streamed_labels, found.no_stream),
        ("event-driven, in float32", (found.event_logits, found.event), found.event_labels, found.no_events),
    ):
        if other is None:
            faults.append(Text(f"Not {way}: {why}", "note"))
        else:
            rows.append([way, f"{found.recordings}", f"{found.recordings - other}", *(f"{x:.2g}" for x in differences)])
    largest = ("largest difference of logits", "of scores, 0..1")
    header = ["way to run it", "recordings", "same decision", *largest]
    table = (
        [Table(header, rows, "Against the whole recording at once, in float64, as it was evaluated")] if rows else []
    )
    return Section("Dense, streamed and event-driven", [*table, *faults])


def configuration_section(facts: RunFacts) -> Section:
    """Every field of the recipe, and the versions of each session."""
    settings = [[name, _plain(value)] for name, value in flat(facts.recipe.to_dict()).items()]
    where = Text(f"Run folder: {facts.run.folder.resolve()}")
    recipe = Section("Recipe", [Table(["field", "value"], settings, numbers=False)], folded=True)
    inner = [recipe]
    if facts.sessions:
        names = list(dict.fromkeys(name for one in facts.sessions for name in one.get("versions", {})))
        rows = [
            ["started", *(str(one.get("started", "")) for one in facts.sessions)],
            ["from epoch", *(str(one.get("from_epoch", "")) for one in facts.sessions)],
            ["device", *(str(one.get("device", "")) for one in facts.sessions)],
            ["threads", *(str(one.get("threads", "")) for one in facts.sessions)],
            ["system", *(str(one.get("system", "")) for one in facts.sessions)],
            *([name, *(str(one.get("versions", {}).get(name, "–")) for one in facts.sessions)] for name in names),
        ]
        header = ["", *(f"session {number}" for number in range(1, len(facts.sessions) + 1))]
        inner.append(Section("Versions", [Table(header, rows, numbers=False)]))
    else:
        inner.append(Section("Versions", [Text("Not noted: an older version of temporal trained this run.", "note")]))
    return Section("Configuration and versions", [where], inner)


def bytes_of(number: int) -> str:
    """A size as people read it."""
    if number < 1000:
        return f"{number} B"
    power = min(3, int(math.log10(number) // 3))
    return f"{number / 1000**power:.1f} {('B', 'kB', 'MB', 'GB')[power]}"


def _share(part: int, total: int) -> str:
    return f"{part} ({100 * part / max(1, total):.0f} %)"


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)
