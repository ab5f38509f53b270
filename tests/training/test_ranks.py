"""Several processes train one run, as under torchrun: the same weights as one process, nothing lost, one that writes."""

import dataclasses
import multiprocessing
import os
import signal
import socket
import traceback

import pytest
import torch
from safetensors.torch import load_file

import temporal
from temporal.layers._rows import rows_of_batch
from temporal.training import Augment, Delays, Run, _training, pictures, train
from temporal.training._average import Average
from temporal.training._checkpoint import Position, share_checkpoint
from temporal.training._ranks import Ranks, World, whole_batch, world_of


def together(size, task, *arguments):
    """``task(rank, *arguments)`` in so many forked processes; what each returned or raised, as text where it failed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ends = []
    for rank in range(size):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(there, rank, size, port, task, arguments))
        process.start()
        there.close()
        ends.append((process, here))
    answers = []
    for _, here in ends:
        try:
            answers.append(here.recv() if here.poll(500) else ("hangs", ""))
        except EOFError:
            answers.append(("dead", ""))
    for process, _ in ends:
        process.join(20)
        if process.is_alive():
            process.kill()
    return answers


def _child(pipe, rank, size, port, task, arguments):
    torch.set_num_threads(1)  # a forked process has lost torch's other threads
    names = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
    try:
        answer = ("done", task(rank, *arguments))
    except SystemExit as stop:
        answer = ("exit", stop.code)
    except BaseException as error:
        answer = (type(error).__name__, f"{error}\n{traceback.format_exc()}")
    pipe.send(answer)


@pytest.fixture
def alone(monkeypatch):
    """One process, to compare with: a single thread, no pictures."""
    monkeypatch.setattr(pictures, "draw", lambda *given: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_double(alone, monkeypatch):
    """Train in float64, here and in forked processes: one and several differ by 1e-13 there, and no spike flips."""
    fit, gather, batches = _training.fit_normalisation, _training.gather, _training.batches

    def widened(batch):
        return batch._replace(wave=batch.wave.double())

    def fit_and_widen(model, recordings):
        fit(model, recordings)
        model.double()

    monkeypatch.setattr(_training, "fit_normalisation", fit_and_widen)
    monkeypatch.setattr(_training, "gather", lambda data, rows: widened(gather(data, rows)))
    watched = lambda *given: map(widened, batches(*given)) if len(given) > 2 else batches(*given)  # noqa: E731
    monkeypatch.setattr(_training, "batches", watched)


def train_one(rank, recipe, out):
    train(recipe, out, device="cpu")


def files_of(run):
    """Their names; TensorBoard puts the time into its own."""
    return {path.name.partition(".tfevents.")[0] for path in run.folder.iterdir()}


def same_run(ours, theirs, tolerance):
    ours, theirs = Run(ours), Run(theirs)
    assert files_of(ours) == files_of(theirs)
    weights, expected = load_file(ours.weights_file), load_file(theirs.weights_file)
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            weights[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    for row, other in zip(ours.metrics(), theirs.metrics(), strict=True):
        assert row == pytest.approx(other | {"seconds": row["seconds"]}, rel=tolerance)
    said = ours.result()["predictions"]
    assert [row["prediction"] for row in said] == [row["prediction"] for row in theirs.result()["predictions"]]
    assert [row["file"] for row in said] == [row["file"] for row in theirs.result()["predictions"]]


@pytest.fixture
def varied(small):
    """A recipe that draws at random whatever it can, and takes 20 steps: 24 recordings in batches of six, five times."""
    augment = Augment(shift=0.02, gain=3.0, noise=10.0, silence=0.3, speed=0.1, pitch=0.05, band_mask=2, time_mask=3)
    delays = Delays(prune=0.3, depth_penalty=0.3, spread_penalty=0.1)
    return dataclasses.replace(small, augment=augment, delays=delays, epochs=5, batch_size=7)


def test_after_20_steps_two_processes_have_the_weights_of_one(varied, tmp_path, in_double):
    """With dropout, every augmentation, batch norm over ragged lengths, delays on walls, penalties, pruning, rounding.

    Compared is the average of the weights, which is what a run keeps, and the weights that trained.
    """
    varied = dataclasses.replace(varied, ema=0.8)
    one = train(varied, tmp_path / "one", device="cpu")
    assert one.metrics()[-1]["step"] == 20 and one.metrics()[-1]["rounded"]
    two = together(2, train_one, varied, tmp_path / "two")
    assert [status for status, _ in two] == ["done"] * 2, two
    same_run(tmp_path / "two", tmp_path / "one", 1e-9)
    ours, theirs = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("two", "one"))
    assert ours["average"]["updates"] == theirs["average"]["updates"] == 2
    torch.testing.assert_close(ours["model"], theirs["model"], rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_process_without_a_recording_changes_nothing(varied, tmp_path, in_double):
    """Batches of two among three processes: one of them never has any."""
    recipe = varied.override({"epochs": 1, "batch_size": 2})
    train(recipe, tmp_path / "one", device="cpu")
    three = together(3, train_one, recipe, tmp_path / "three")
    assert [status for status, _ in three] == ["done"] * 3, three
    same_run(tmp_path / "three", tmp_path / "one", 1e-9)


def stop_in_one(rank, recipe, out):
    update = _training.Training._update

    def stopping(self, rows, step):
        if step == 2 and rank == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, rows, step)

    _training.Training._update = stopping
    train(recipe, out, device="cpu")


@pytest.mark.slow
def test_ctrl_c_in_one_process_stops_all_and_one_process_resumes(varied, tmp_path, alone):
    recipe = varied.override({"epochs": 2})
    stopped = together(2, stop_in_one, recipe, tmp_path / "run")
    assert [status for status, _ in stopped] == ["Interrupted", "exit"], stopped
    assert "continue with --resume" in stopped[0][1] and stopped[1][1] == 130
    train(recipe, tmp_path / "run", resume=True, device="cpu")
    train(recipe, tmp_path / "whole", device="cpu")
    same_run(tmp_path / "run", tmp_path / "whole", 1e-5)  # float32: sums in another order


def test_what_is_wrong_for_all_is_said_by_the_first(varied, tmp_path, alone):
    nowhere = varied.override({"data.path": str(tmp_path / "nowhere")})
    first, second = together(2, train_one, nowhere, tmp_path / "run")
    assert first[0] == "FileNotFoundError" and "nowhere" in first[1]
    assert second[0] == "ConnectionError" and "another process" in second[1]
    assert not (tmp_path / "run").exists()
    first, second = together(2, train_one, varied.override({"optimizer.lr": 1e30}), tmp_path / "diverged")
    assert first[0] == "FloatingPointError" and second == ("exit", 1)


def normalise(rank, whole, lengths, cotangent):
    ranks = Ranks("cpu")
    rows = list(range(rank, 5, ranks.size))
    norm = temporal.BatchNorm(whole.shape[2]).double()
    x = whole[:, rows].requires_grad_()
    y = norm(x, lengths[rows])
    (y * cotangent[:, rows]).sum().backward()
    numbers = [norm.weight.grad, norm.bias.grad]
    return rows, [t.detach().numpy() for t in (y, x.grad, norm.running_mean, norm.running_var, *numbers)]


def test_batch_norm_is_that_of_all_processes():
    """Of ragged recordings over features with an axis of their own; six processes, one of which has none."""
    torch.manual_seed(1)
    whole, cotangent = torch.randn(2, 9, 5, 3, 4, dtype=torch.float64)
    lengths = torch.tensor([9, 1, 4, 7, 2])
    (alone,) = together(1, normalise, whole, lengths, cotangent)
    y, of_x, mean, var, of_weight, of_bias = map(torch.from_numpy, alone[1][1])
    for size in (2, 6):
        parts = together(size, normalise, whole, lengths, cotangent)
        assert [status for status, _ in parts] == ["done"] * size, parts
        sums = [torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
        for _, (rows, found) in parts:
            found = list(map(torch.from_numpy, found))
            for ours, theirs in zip(found, (y[:, rows], of_x[:, rows], mean, var), strict=False):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
            sums = [total + part for total, part in zip(sums, found[4:], strict=True)]
        torch.testing.assert_close(sums, [of_weight, of_bias], rtol=0, atol=1e-12)


def share_a_place(rank):
    ranks = Ranks("cpu")
    torch.manual_seed(rank)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
    position, rows = Position(), []
    if ranks.first:  # which alone has a checkpoint
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        schedule.step()
        position.advance(4, 0.5, 3)
        rows = [{"epoch": 1}]
    average = Average(model, 0.5)
    if ranks.first:
        average.update(model)
    rows = share_checkpoint(ranks, model, optimizer, schedule, position, rows, average)
    moments = optimizer.state_dict()["state"][0]["exp_avg"]
    kept = average.model.weight.tolist(), average.updates
    return model.weight.tolist(), moments.tolist(), kept, schedule.last_epoch, vars(position), rows


def test_all_continue_from_where_the_first_stands():
    first, second = together(2, share_a_place)
    assert first[0] == second[0] == "done", [first, second]
    assert second[1] == first[1] and first[1][-1] == [{"epoch": 1}] and first[1][-2]["right"] == 3


@pytest.mark.parametrize(("total", "ranks"), [(7, 2), (2, 3), (64, 8), (1, 4), (9, 1)])
def test_a_batch_is_shared_without_overlap_and_without_loss(total, ranks):
    rows, seen, placed = [100 + n for n in range(total)], [], []
    alone = whole_batch(total, 0.3)
    for rank in range(ranks):
        part = Ranks.__new__(Ranks)
        part.rank, part.size = rank, ranks
        mine, share = part.share(rows, 0.3)
        assert [rows[at] for at in share.positions] == mine and share.total == total
        assert share.silent == share.positions[: len(share.silent)]  # the augmentation takes the first ones
        seen += mine
        placed += share.rows[0]
        assert share.rows[1] == alone.rows[1]
    assert sorted(seen) == rows
    assert sorted(placed) == sorted(alone.rows[0])


def test_dropout_draws_for_the_whole_batch():
    x, layer = torch.ones(3, 6, 20), temporal.Dropout(0.5)
    torch.manual_seed(3)
    whole = layer(x)
    for rows in ([0, 2, 4], [1, 3, 5], []):
        torch.manual_seed(3)
        with rows_of_batch(rows, 6):
            assert torch.equal(layer(x[:, rows]), whole[:, rows])
    torch.manual_seed(3)
    assert torch.equal(layer(x), whole)


def test_the_environment_of_torchrun():
    given = {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }
    assert world_of(given) == World(3, 4, 1, 2)
    assert world_of({}) == world_of({"RANK": "3", "WORLD_SIZE": "4"}) == World(0, 1, 0, 1)
    for wrong, said in (
        ({"RANK": "x"}, "whole numbers"),
        ({"RANK": "4"}, "below its size"),
        ({"WORLD_SIZE": "5"}, "as many"),
    ):
        with pytest.raises(ValueError, match=said):
            world_of(given | wrong)


def test_more_processes_than_gpus(monkeypatch):
    given = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="2 processes here, but 1 GPU"):
        Ranks("cuda")
