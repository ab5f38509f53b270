"""Schedules that end after the training, delays longer than any recording, and no delay at all."""

import contextlib
import dataclasses
import json

import pytest
import torch

import temporal
from temporal.cli import main
from temporal.delays import DelayedLinear
from temporal.streaming import compare_engines
from temporal.training import Progress, engines_agree, evaluate, report, train
from temporal.training.data import gather, open_part


class Told(Progress):
    """Keeps what is said."""

    def __init__(self):
        super().__init__(Progress.silent().console)
        self.said = []

    def say(self, text):
        self.said.append(text)

    def about(self, word):
        return [text for text in self.said if word in text]


@pytest.fixture
def told():
    return Told()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"epochs": 2},  # of three steps: the last begins at 5/6
            ["delays.round_at=0.9 lies after the last of 6 steps, so delays are rounded after the training only"],
        ),
        (
            {"epochs": 1, "delays.every": "epoch"},
            [
                "delays.until=0.6 lies after the last of 1 epochs, so sigma does not get to its end",
                "delays.round_at=0.9 lies after the last of 1 epochs, so delays are rounded after the training only",
            ],
        ),
        ({"epochs": 2, "delays.until": 0.5, "delays.round_at": 0.5}, []),
        ({"epochs": 2, "delays.round_at": 1.0, "delays.until": 0.8}, []),  # asked for: never in training
        ({"epochs": 2, "network.delays": "random"}, []),  # nothing is narrowed
        ({"epochs": 2, "network.max_delay": 0}, []),
    ],
)
def test_a_schedule_that_ends_after_the_training_is_told(small, tmp_path, told, changes, said):
    train(small.override(changes), tmp_path / "run", device="cpu", progress=told)
    lines = told.about("lies after the last")
    assert len(lines) == len(said) and all(line.startswith(start) for line, start in zip(lines, said, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delays.until": 1.5}, "delays.until=1.5; a part of the training, above 0 and at most 1, is right"),
        ({"delays.until": 0.0}, "delays.until=0.0"),
        ({"delays.round_at": 1.01}, "delays.round_at=1.01; a part of the training"),
        ({"delays.sigma_end": 0.0}, "delays.sigma_end=0.0; above 0 steps"),
        ({"delays.sigma_start": -1.0}, "delays.sigma_start=-1.0; above 0 steps"),
        ({"delays.floor": -0.1}, "delays.floor=-0.1; 0 or more"),
        ({"data.duration": 0.0}, "data.duration=0.0; more than 0 seconds"),
        ({"data.duration": float("inf")}, "data.duration=inf"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_the_recipe(small, changes, message):
    with pytest.raises(ValueError, match=message):
        small.override(changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delays.until": 0.95}, r"round_at=0.9 is not a fraction in \[until=0.95, 1\]"),
        ({"delays.sigma_start": 0.1}, "end=0.3 is wider than start=0.1"),
        ({"delays.floor": 0.3}, "floor=0.3 is not in"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused_before_anything_is_read(small, tmp_path, changes, message):
    recipe = small.override(changes).override({"data.path": str(tmp_path / "nowhere")})
    with pytest.raises(ValueError, match=message):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_delays_longer_than_any_recording_are_told_and_train(small, tmp_path, told):
    """The longest of these is 0.35 s: 36 frames of 10 ms. What is sent beyond the end never arrives."""
    recipe = small.override({"network.max_delay": 60, "epochs": 1, "tail": 20})
    run = train(recipe, tmp_path / "run", device="cpu", progress=told)
    (line,) = told.about("its tail included")
    longest = max(open_part(recipe, "train").durations) // 80 + 1 + 20
    assert line.startswith(f"no recording has more than {longest} steps, its tail included, and delays reach 60")
    assert run.result()["total"] == 30
    for reach, words in ((longest - 1, 0), (longest, 1)):
        told.said.clear()
        train(recipe.override({"network.max_delay": reach}), tmp_path / f"{reach}", device="cpu", progress=told)
        assert len(told.about("its tail included")) == words


def test_a_recording_shorter_than_the_longest_delay_is_the_same_alone_in_a_batch_and_as_a_stream(small):
    """The documented behaviour: it is as if silence followed, and what would come later is not heard."""
    recipe = small.override({"network.max_delay": 60})
    model = temporal.models.ModelSpec(
        frontend=None, network=recipe.network, labels=("a", "b"), inputs=20, tail=3
    ).build()
    model.eval()
    short, long = torch.rand(5, 1, 20), torch.rand(90, 1, 20)
    batch = torch.cat([torch.nn.functional.pad(short, (0, 0, 0, 0, 0, 85)), long], 1)
    together = model(batch, torch.tensor([5, 90]))
    torch.testing.assert_close(together[:1], model(short), rtol=1e-5, atol=1e-5)
    agreement = compare_engines(model, [short[:, 0], long[:, 0]], steps_per_second=100)
    assert agreement.streamed < 1e-9 and agreement.event < 1e-3


def test_no_delay_at_all_trains_evaluates_streams_reports_and_exports(small, tmp_path, told, capsys):
    """max_delay=0: every synapse acts at once, there is nothing to learn or to round, and nothing is NaN on the way."""
    recipe = dataclasses.replace(small.override({"network.max_delay": 0}), ema=0.9)
    run = train(recipe, tmp_path / "run", device="cpu", progress=told)
    assert run.result()["accuracy"] >= 0.9 and not told.about("health")
    assert all(row["sigma"] == 0 and row["rounded"] for row in run.metrics())
    model = run.model()
    assert all(bool((layer.delay == 0).all()) for layer in model.network if isinstance(layer, DelayedLinear))
    assert evaluate(run).to_dict()["predictions"] == run.result()["predictions"]
    assert engines_agree(run, recordings=4).to_dict()["recordings"] == 4
    report(run.folder, tmp_path / "report.html")
    with contextlib.suppress(SystemExit):
        main(["export", str(run.folder), "--json"])
    assert json.loads(capsys.readouterr().out)["file"].endswith("integers.safetensors")


def test_no_delay_at_all_is_one_matrix_product_and_keeps_no_history():
    layer = DelayedLinear(3, 2, 0)
    x = torch.rand(4, 5, 3)
    y, state = layer(x)
    torch.testing.assert_close(y, x @ layer.weight.T)
    assert state.shape == (0, 5, 3) and layer.sigma == 0
    y.sum().backward()
    assert not layer.delay.grad.any()  # nowhere to go


def test_a_batch_of_recordings_shorter_than_a_delay_learns_what_arrives(small):
    """Gradients of weights whose delay lies beyond the end are zero, and finite everywhere."""
    torch.manual_seed(0)
    layer = DelayedLinear(2, 2, 30, kernel="rounded")
    layer.delay.data.copy_(torch.tensor([[0.0, 3.0], [4.0, 30.0]]))
    y, _ = layer(torch.rand(4, 3, 2))
    y.sum().backward()
    assert ((layer.weight.grad != 0) == torch.tensor([[True, True], [False, False]])).all()


def test_masks_of_levels_that_are_not_normalised_are_as_loud_as_the_recording(small):
    from temporal.training._augment import augmentation_of

    recipe = small.override({"frontend.normalize": False, "frontend.level": "db", "augment.shift": 0.0})
    data = open_part(recipe, "train")
    vary = augmentation_of(recipe.override({"augment.band_mask": 15, "augment.time_mask": 0}), data)
    batch = gather(data, list(range(8)))
    frames = recipe.frontend.build()(batch.wave)
    x, _ = vary.steps(temporal.to_steps(frames), torch.full((8,), frames.shape[-1]), vary.signals(batch, 0)[2])
    covered = x != temporal.to_steps(frames)
    assert covered.any() and x[covered].max() < -10.0  # 0 dB would be the loudest thing in it
