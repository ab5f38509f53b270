"""What ails a training, said in words: a loss that diverges, numbers that are not finite, silent layers, stuck delays."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from temporal.analysis import DelayCounts, LayerActivity, count_delays, measure_activity
from temporal.layers import Model

from ._fields import names
from .data import AnyData, gather
from .recipe import Recipe
from .run import Run, write_lines

__all__ = ["Finding", "Health", "findings", "not_finite"]

_WATCHED = 32  # recordings that the neurons are watched on, the same every epoch
_SILENT = 0.95  # share of a layer's neurons without a spike from which on the layer is called silent
_BUSY = 0.5  # share of its neurons that fire at nearly every step from which on a layer is called saturated
_PILED = 0.2  # share of the delays at a wall, beyond what evenly spread ones would have there
_WORSE = 1.5  # times the smallest loss, and times that of guessing


@dataclass(frozen=True)
class Finding:
    """Something that ails a training.

    Args:
        kind: "diverging", "not finite", "silent", "saturated" or "wall".
        where: the layer or tensor, "" for the whole network.
        text: what was found.
        advice: what to try.
    """

    kind: str
    where: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}. Try {self.advice}"


class Health:
    """Watches a network while it trains, on one batch an epoch.

    Each epoch leaves a line in the run folder's ``health.jsonl``: how often the neurons of each layer fire on 32 training
    recordings as they are, how its delays are spread, and what ails it. The line of epoch 0 holds the delays that the
    network began with.

    Args:
        model: freshly built, before anything is restored into it.
        recipe: of the run.
        data: the training recordings.
    """

    def __init__(self, model: Model, recipe: Recipe, data: AnyData) -> None:
        self.model, self.recipe, self.data = model, recipe, data
        self.lines: list[dict[str, Any]] = [{"epoch": 0, "delays": _stored(count_delays(model.network))}]

    def resume(self, run: Run, epoch: int) -> None:
        """Take over what was written up to a finished epoch; what came after it is forgotten."""
        self.lines += [line for line in read_health(run) if 0 < line["epoch"] <= epoch]

    def check(self, rows: Sequence[dict[str, Any]]) -> list[Finding]:
        """Look at the network after an epoch.

        Args:
            rows: the metrics of all epochs so far.
        Returns:
            What was found for the first time.
        """
        known = {(found["kind"], found["where"]) for line in self.lines for found in line.get("findings", ())}
        delays, layers = count_delays(self.model.network), self._layers()
        found = findings(rows, layers, delays, self.recipe, len(self.data.labels))
        found += _not_finite_parameters(self.model)
        watched = [
            {
                "layer": layer.name,
                "neurons": len(layer.counts),
                "rate": round(layer.rate, 6),
                "dead": layer.dead,
                "saturated": layer.saturated,
            }
            for layer in layers
        ]
        self._add(rows[-1]["epoch"], found, layers=watched, delays=_stored(delays))
        return [finding for finding in found if (finding.kind, finding.where) not in known]

    def lost(self, epoch: int, finding: Finding) -> None:
        """Note what ended the training in the midst of an epoch."""
        self._add(epoch, [finding])

    def save(self, run: Run) -> None:
        """Write the lines, in one step."""
        write_lines(run.health_file, self.lines)

    def _add(self, epoch: int, found: Sequence[Finding], **more: Any) -> None:
        self.lines.append({"epoch": epoch} | more | {"findings": [dataclasses.asdict(one) for one in found]})

    def _layers(self) -> tuple[LayerActivity, ...]:
        """What the spiking layers do with recordings from all over the training part."""
        count = min(_WATCHED, len(self.data))
        rows = sorted({round(k * (len(self.data) - 1) / max(1, count - 1)) for k in range(count)})
        like = next(self.model.parameters())
        signal, lengths = gather(self.data, rows).to(like.device)[:2]
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                x, steps = self.model.steps(signal.to(like.dtype), lengths)
                x = torch.cat([x, x.new_zeros(self.model.tail, *x.shape[1:])])
                steps = None if steps is None else steps + self.model.tail
                return measure_activity(self.model.network, x, steps).layers
        finally:
            self.model.train(training)


def read_health(run: Run) -> list[dict[str, Any]]:
    """The lines of ``health.jsonl``, up to the first that cannot be read; none without the file."""
    lines: list[dict[str, Any]] = []
    try:
        for text in run.health_file.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if not isinstance(line.get("epoch"), int):
                break
            lines.append(line)
    except (OSError, ValueError, AttributeError):  # cut off, or of another make: the training does not depend on it
        pass
    return lines


def findings(
    rows: Sequence[dict[str, Any]],
    layers: Sequence[LayerActivity],
    delays: Sequence[DelayCounts],
    recipe: Recipe,
    classes: int,
) -> list[Finding]:
    """What ails a training, from its numbers.

    Args:
        rows: the metrics of all epochs so far.
        layers: how often the neurons fired.
        delays: how the delays are spread.
        recipe: for the names of the options that an advice may name.
        classes: whose number says what guessing costs.
    """
    found = [*_diverging(rows, recipe, classes)]
    for layer in layers:
        found += _silent_or_saturated(layer, recipe)
    for part in delays:
        found += _piled(part, recipe)
    return found


def _diverging(rows: Sequence[dict[str, Any]], recipe: Recipe, classes: int) -> list[Finding]:
    loss, best = rows[-1]["train_loss"], min(rows, key=lambda row: row["train_loss"])
    guessing = math.log(max(2, classes))
    if not loss > _WORSE * max(best["train_loss"], guessing):
        return []
    text = (
        f"the loss rose to {loss:.3g}, from {best['train_loss']:.3g} in epoch {best['epoch']}; guessing among {classes} "
        f"classes costs {guessing:.3g}: the training diverges"
    )
    rates = _options(recipe, "optimizer.lr", "optimizer.lr_delay")
    return [Finding("diverging", "", text, f"a smaller {rates}, or a longer warm-up (--optimizer.warmup)")]


def _silent_or_saturated(layer: LayerActivity, recipe: Recipe) -> list[Finding]:
    neurons = len(layer.counts)
    if not neurons or not layer.steps:
        return []
    if layer.dead >= _SILENT * neurons:
        how = "none of them" if layer.dead == neurons else f"only {neurons - layer.dead} of them"
        text = f"layer {layer.name} is silent: of its {neurons} neurons {how} fired on the recordings watched"
        tau = _options(recipe, "network.tau")
        longer = f", a larger {tau}" if tau else ""
        advice = (
            f"batch normalisation before it{longer}, a lower threshold, or a smaller --optimizer.lr if it fired before"
        )
        return [Finding("silent", layer.name, text, advice)]
    if layer.saturated >= _BUSY * neurons:
        text = (
            f"layer {layer.name} is saturated: {layer.saturated} of its {neurons} neurons fire at nearly every step, so "
            "they tell nothing apart"
        )
        tau = _options(recipe, "network.tau")
        shorter = f", a smaller {tau}" if tau else ""
        advice = f"batch normalisation before it{shorter}, a higher threshold, or a smaller --optimizer.lr"
        return [Finding("saturated", layer.name, text, advice)]
    return []


def _piled(part: DelayCounts, recipe: Recipe) -> list[Finding]:
    span = len(part.counts) - 1
    if span < 1 or not part.learned or not part.total:
        return []
    even = 0.5 / span  # of delays spread evenly over their range, those that round to an end
    rate, limit = _options(recipe, "optimizer.lr_delay"), _options(recipe, "network.max_delay")
    wishes = (
        (0, "these synapses want the shortest one", f"a smaller {limit or 'max_delay'}, which costs less"),
        (span, "these want longer ones than max_delay allows", f"a larger {limit or 'max_delay'}"),
    )
    found = []
    for place, wish, more in wishes:
        share, step = part.counts[place] / part.total, part.steps[place]
        if share > even + _PILED:
            text = (
                f"delays of {part.name} pile up at {step} steps, an end of their range: {100 * share:.0f} % of "
                f"{part.total:,}, where evenly spread ones would be {100 * even:.0f} %: {wish}"
            )
            found.append(Finding("wall", f"{part.name} at {step}", text, f"{more}, or a smaller {rate}"))
    return found


def _not_finite_parameters(model: nn.Module) -> list[Finding]:
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return [_finding_of(name, tensor, "since an update of this epoch")]
    return []


def not_finite(model: nn.Module, loss: float, step: int, again: Callable[[], Any], recipe: Recipe) -> Finding:
    """Which tensor is the first that is not finite, behind a loss that is not.

    Args:
        model: of the training.
        loss: what came out.
        step: which update it was, from 1.
        again: computes the same step once more, so that the layers can be watched.
    """
    rates = _options(recipe, "optimizer.lr", "optimizer.lr_delay")
    advice = f"a smaller {rates}, which often helps"
    head = f"the loss is {loss} at step {step}"
    found = _not_finite_parameters(model) or _not_finite_output(model, again)
    if not found:
        text = f"{head}: every output of the network is finite, only the loss itself is not"
        return Finding("not finite", "loss", text, advice)
    return Finding("not finite", found[0].where, f"{head}: {found[0].text}", advice)


def _not_finite_output(model: nn.Module, again: Callable[[], Any]) -> list[Finding]:
    found: list[Finding] = []

    def watch(name: str, module: nn.Module) -> Any:
        def see(module: nn.Module, inputs: tuple, output: Any) -> None:
            for what, values in (("input", inputs), ("output", output if isinstance(output, tuple) else (output,))):
                tensor = values[0] if values else None
                if found or not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                    continue
                if not bool(torch.isfinite(tensor).all()):
                    place = f"{what} of {name} ({type(module).__name__})"
                    found.append(_finding_of(place, tensor, "with parameters that are finite"))

        return module.register_forward_hook(see)

    hooks = [watch(name, module) for name, module in model.named_modules() if name]
    try:
        again()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _finding_of(name: str, tensor: Tensor, when: str) -> Finding:
    broken = ~torch.isfinite(tensor)
    what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
    text = f"{name} is the first that is {what}, {int(broken.sum()):,} of its {tensor.numel():,} values, {when}"
    return Finding("not finite", name, text, "a smaller --optimizer.lr")


def _options(recipe: Recipe, *wanted: str) -> str:
    """Those of some options that the recipe has, as they are written on the command line."""
    return " or ".join(f"--{name}" for name in wanted if name in names(recipe))


def _stored(delays: Sequence[DelayCounts]) -> list[dict[str, Any]]:
    return [
        {"layer": part.name, "first": part.first, "counts": list(part.counts), "learned": part.learned}
        for part in delays
    ]
