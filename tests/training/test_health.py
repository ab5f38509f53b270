"""Each illness is told of a network that has it, with the place and what to try; a healthy one hears nothing."""

import dataclasses
import io
import json
import math

import pytest
import torch
from rich.console import Console

import temporal
from temporal.analysis import DelayCounts, LayerActivity
from temporal.delays import DelayedLinear
from temporal.neurons import LI, LIF
from temporal.training import Interrupted, Progress, Run, train
from temporal.training.health import findings, read_health


class Listening(Progress):
    """Keeps what was said."""

    def __init__(self):
        self.heard = io.StringIO()
        super().__init__(Console(file=self.heard, width=10_000))

    @property
    def complaints(self):
        return [line for line in self.heard.getvalue().splitlines() if line.startswith("health: ")]


@dataclasses.dataclass(frozen=True)
class Ill:
    """A network with a spiking layer whose neurons, or delays, are set as an illness wants them."""

    threshold: float = 1.0
    bias: float = 0.0
    delay: float | None = None
    broken: bool = False

    def build(self, inputs, classes):
        first = DelayedLinear(inputs, 8, 6, bias=True)
        last = DelayedLinear(8, classes, 6)
        with torch.no_grad():
            first.bias.fill_(self.bias)
            if self.delay is not None:
                last.delay.uniform_()
                first.delay.fill_(self.delay)
        parts = [first, LIF(v_threshold=self.threshold), last, LI()]
        return temporal.Sequential(*parts[:2], Breaking(), *parts[2:]) if self.broken else temporal.Sequential(*parts)


class Breaking(torch.nn.Module):
    def forward(self, x):
        return x / x.new_zeros(()) if self.training else x


def trained_with(small, folder, network, **more):
    heard = Listening()
    recipe = dataclasses.replace(small, network=network, epochs=2, **more)
    return train(recipe, folder, device="cpu", progress=heard), heard


def kinds(run):
    return [[(found["kind"], found["where"]) for found in line.get("findings", ())] for line in read_health(run)]


def test_a_healthy_run_hears_nothing_and_notes_its_neurons(trained, small):
    lines = read_health(trained)
    assert [line["epoch"] for line in lines] == list(range(9))
    assert not any(line.get("findings") for line in lines)
    (layer,) = lines[-1]["layers"]
    assert layer["layer"] == "LIF 2" and layer["neurons"] == 24 and 0 < layer["rate"] < 1
    assert [part["layer"] for part in lines[0]["delays"]] == ["DelayedLinear 0", "DelayedLinear 4"]
    assert [sum(part["counts"]) for part in lines[-1]["delays"]] == [20 * 24, 24 * 3]
    assert lines[0]["delays"] != lines[-1]["delays"]  # they learned


def test_a_silent_layer_is_told_once_and_kept(small, tmp_path):
    run, heard = trained_with(small, tmp_path / "run", Ill(threshold=1e6))
    (told,) = heard.complaints  # in two epochs
    assert "layer LIF 1 is silent: of its 8 neurons none of them fired" in told and "a lower threshold" in told
    assert kinds(run) == [[], [("silent", "LIF 1")], [("silent", "LIF 1")]]
    assert read_health(run)[1]["layers"][0]["dead"] == 8


def test_a_layer_that_fires_at_every_step(small, tmp_path):
    run, heard = trained_with(small, tmp_path / "run", Ill(threshold=0.01, bias=1000.0))
    assert ("saturated", "LIF 1") in kinds(run)[1]
    assert any("layer LIF 1 is saturated: 8 of its 8 neurons fire at nearly every step" in t for t in heard.complaints)


@pytest.mark.parametrize(
    ("delay", "wish"), [(0.0, "want the shortest one"), (6.0, "longer ones than max_delay allows")]
)
def test_delays_that_pile_up_at_a_wall(small, tmp_path, delay, wish):
    still = dataclasses.replace(small.optimizer, lr_delay=1e-6)
    run, heard = trained_with(small, tmp_path / "run", Ill(delay=delay), optimizer=still)
    assert ("wall", f"DelayedLinear 0 at {delay:.0f}") in kinds(run)[1]
    assert any(f"pile up at {delay:.0f} steps" in told and wish in told for told in heard.complaints)


def test_a_loss_that_diverges(small, tmp_path):
    hot = dataclasses.replace(small.optimizer, lr=20.0, warmup=0.9)
    heard = Listening()
    run = train(dataclasses.replace(small, optimizer=hot, epochs=6), tmp_path / "run", device="cpu", progress=heard)
    assert any("the training diverges" in told and "--optimizer.lr or" in told for told in heard.complaints)
    assert ("diverging", "") in [found for line in kinds(run) for found in line]


def test_what_counts_as_diverging(small):
    def of(*losses):
        rows = [{"epoch": number, "train_loss": loss} for number, loss in enumerate(losses, 1)]
        return [found.kind for found in findings(rows, [], [], small, 3)]

    assert of(9.0) == of(9.0, 5.0, 1.2) == []  # it begins worse than guessing, and falls
    assert of(0.01, 0.05) == of(0.2, 1.6) == []  # larger, and still no worse than guessing (1.1) by half
    assert of(0.2, 1.7) == of(3.0, 2.0, 3.1) == ["diverging"]


def test_where_silence_and_saturation_begin(small):
    def of(*counts):
        return [found.kind for found in findings([{"epoch": 1, "train_loss": 1.0}], [layer(counts)], [], small, 3)]

    def layer(counts):
        return LayerActivity("LIF 1", counts, 100)

    assert of(*[0] * 18, 1, 1) == [] and of(*[0] * 19, 1) == ["silent"]
    assert of(95, 94, 0) == [] and of(95, 95, 94, 0) == ["saturated"]
    assert findings([{"epoch": 1, "train_loss": 1.0}], [LayerActivity("LIF 1", (0, 0), 0)], [], small, 3) == []


def test_where_a_wall_begins(small):
    def of(*counts):
        return [f.where for f in findings([{"epoch": 1, "train_loss": 1.0}], [], [DelayCounts("D", counts)], small, 3)]

    assert of(50, 50) == of(10, 20, 20, 20, 20, 10) == of(100) == []  # evenly spread; no delay at all
    assert of(30, 20, 20, 20, 5, 5) == [] and of(31, 19, 20, 20, 5, 5) == ["D at 0"]
    assert of(40, 10, 10, 40) == ["D at 0", "D at 3"]
    late = [DelayCounts("D", (90, 10, 10), first=5)]
    assert [f.where for f in findings([{"epoch": 1, "train_loss": 1.0}], [], late, small, 3)] == ["D at 5"]
    fixed = [DelayCounts("D", (90, 10, 10), learned=False)]
    assert findings([{"epoch": 1, "train_loss": 1.0}], [], fixed, small, 3) == []


def test_a_tensor_that_is_not_finite_is_named(small, tmp_path):
    with pytest.raises(FloatingPointError, match=r"step 1: output of network.2 \(Breaking\) is the first that is NaN"):
        trained_with(small, tmp_path / "run", Ill(broken=True))
    (_, line) = read_health(Run(tmp_path / "run"))
    assert line["epoch"] == 1 and line["findings"][0]["where"] == "output of network.2 (Breaking)"


def test_a_parameter_that_is_not_finite_is_named(small, tmp_path):
    hot = dataclasses.replace(small.optimizer, lr=1e38, warmup=0.5, weight_decay=0.5)
    told = r"network\.\d\.\w+ is the first that is \w+, [\d,]+ of its [\d,]+ values, since an update.*--optimizer\.lr"
    with pytest.raises(FloatingPointError, match=told):
        train(dataclasses.replace(small, optimizer=hot), tmp_path / "run", device="cpu")


def test_a_run_that_goes_on_keeps_its_health_and_repeats_nothing(small, tmp_path, stop_after):
    recipe = dataclasses.replace(small, network=Ill(threshold=1e6), epochs=3)
    train(recipe, tmp_path / "whole", device="cpu")
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "parts", device="cpu", progress=stop_after(4))
    stopped = Run(tmp_path / "parts")
    with open(stopped.health_file, "a") as file:  # as if killed after this file and before the checkpoint
        file.write(json.dumps({"epoch": 2, "findings": []}) + '\n{"epoch": 3, "la')
    heard = Listening()
    run = train(recipe, stopped.folder, resume=True, device="cpu", progress=heard)
    assert run.health_file.read_bytes() == (tmp_path / "whole" / "health.jsonl").read_bytes()
    assert not heard.complaints  # the silent layer was told of before
    sessions = json.loads(run.sessions_file.read_text())
    assert [session["from_epoch"] for session in sessions] == [1, 2]
    assert sessions[0]["versions"]["torch"] == torch.__version__.split("+")[0]


def test_watching_changes_no_bit_of_the_training(small, tmp_path, monkeypatch):
    recipe = dataclasses.replace(small, epochs=2)
    watched = train(recipe, tmp_path / "watched", device="cpu")
    monkeypatch.setattr("temporal.training.health.Health._layers", lambda self: ())
    alone = train(recipe, tmp_path / "alone", device="cpu")
    assert read_health(alone)[1]["layers"] == [] != read_health(watched)[1]["layers"]
    assert watched.weights_file.read_bytes() == alone.weights_file.read_bytes()


def events(folder):
    """(tag, step) -> value of everything in a run's TensorBoard files, as often as it is there."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            found += [((value.tag, event.step), make_ndarray(value.tensor)) for value in event.summary.value]
    return found


def test_tensorboard_holds_every_epoch_once_after_a_resume(small, trained, tmp_path, stop_after):
    with pytest.raises(Interrupted):
        train(small, tmp_path / "run", device="cpu", progress=stop_after(11))
    run = train(small, tmp_path / "run", resume=True, device="cpu")
    found = events(run.folder)
    table = dict(found)
    assert len(table) == len(found)
    steps = {tag: sorted(step for name, step in table if name == tag) for tag, _ in table}
    assert steps["loss/train"] == steps["accuracy/validation"] == steps["spikes_per_step/LIF 2"] == list(range(1, 9))
    assert steps["delays_steps/DelayedLinear 0"] == list(range(9))
    for row in run.metrics():
        assert math.isclose(table["loss/train", row["epoch"]], row["train_loss"], rel_tol=1e-6)
    whole = dict(events(trained.folder))
    assert table.keys() == whole.keys()
    counts = table["delays_steps/DelayedLinear 4", 8][:, 2]
    assert counts.sum() == 24 * 3


def test_a_full_disk_ends_no_training(small, tmp_path, monkeypatch):
    from temporal.training import _board

    def full(self, events):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_board.Board, "_put", full)
    heard = Listening()
    run = train(dataclasses.replace(small, epochs=2), tmp_path / "run", device="cpu", progress=heard)
    assert run.result()["total"] == 30
    assert heard.heard.getvalue().count("TensorBoard's file cannot be written") == 1
