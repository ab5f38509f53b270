"""What outlives the runs: written, read, copied to another machine, damaged; and what is measured once."""

import dataclasses
import json
import re
import shutil

import pytest
import torch

from temporal.models import deploy
from temporal.studies import run_study, summarize
from temporal.studies.results import _digest, keep, result_of
from temporal.training import Run, evaluate, train
from temporal.training.data import batches, open_part


@pytest.fixture(scope="session")
def small(tones):
    """The study of tones, one seed of it, shortly trained."""
    return dataclasses.replace(tones, recipe=tones.recipe.override({"epochs": 2}), seeds=(0,))


@pytest.fixture(scope="session")
def done(small, tmp_path_factory):
    """A folder of that study in which every run is finished, as children would have left them, and its table written."""
    folder = tmp_path_factory.mktemp("studies") / "done"
    for cell in small.cells():
        train(cell.recipe, folder / "runs" / cell.key, device="cpu")
    (folder / "results").mkdir()
    outcome = run_study(small, folder)
    assert sorted(outcome.kept) == ["learned_seed0", "none_seed0"]
    return folder


@pytest.fixture
def copied(done, tmp_path):
    """Its results alone, elsewhere."""
    shutil.copytree(done / "results", tmp_path / "elsewhere" / "results")
    return tmp_path / "elsewhere"


def test_a_result_says_what_the_run_said(small, done):
    for cell in small.cells():
        stored, run = result_of(done, cell), Run(done / "runs" / cell.key)
        said = evaluate(run)
        assert stored.files == said.keys and stored.predictions == said.predictions and stored.speakers == said.speakers
        assert (stored.correct, stored.total) == (said.correct, 20)
        assert stored.heard == said.heard and stored.heard.seen == (said.correct, 20)
        assert stored.epochs == 2 and stored.split == "official" and stored.classes == ["high", "low"]
        assert stored.recipe == cell.recipe.to_dict() and stored.last_epoch == run.metrics()[-1]
        assert stored.threads == torch.get_num_threads() and stored.device == "cpu" and stored.versions["temporal"]
        assert stored.seconds > 0 and stored.parameters == sum(
            p.numel() for p in run.model().parameters() if p.requires_grad
        )


def test_spikes_and_operations_are_those_of_the_deployed_network(small, done):
    """Against a plain run over all twenty recordings, of which the spikes are the second layer's input."""
    cell = small.cells()[1]
    activity, model = result_of(done, cell).activity, deploy(Run(done / "runs" / cell.key).model())
    spikes = operations = 0
    for batch in batches(open_part(cell.recipe, "test"), 7):
        x, steps = model.steps(batch.wave.double(), batch.lengths)
        fired = model.network[:2](x)[0]
        for b, length in enumerate(steps):
            spikes += int(fired[:length, b].sum())
            operations += 20 * 16 * int(length)
    assert activity["recordings"] == activity["of"] == 20 and activity["spikes"] == spikes / 20 > 1
    assert activity["products"] == operations / 20 and activity["additions"] == 2 * spikes / 20
    assert activity["seconds_per_step"] == pytest.approx(0.01)
    assert activity["max_delay"] == 4 and 0 < activity["depth"] <= 4


def test_results_are_small_and_plain(done):
    files = sorted(path.name for path in (done / "results").iterdir())
    assert files[:2] == ["learned_seed0.json", "none_seed0.json"]
    assert len(files) == 3 and re.fullmatch(r"recordings_[0-9a-f]{16}\.json", files[2])
    stored = json.loads((done / "results" / "none_seed0.json").read_text())
    assert re.fullmatch(r"([01] ){19}[01]", stored["predictions"]) and len(stored["recipe_hash"]) == 16
    # 15 runs of 1,440 recordings: what grows with them is 3 bytes a prediction, and a name of 30 a recording once.
    each = (done / "results" / "none_seed0.json").stat().st_size - 40
    assert 15 * (each + 3 * 1440) + 1440 * 60 < 500_000


def test_the_folder_of_results_alone_is_a_finished_study(small, copied, done, pretend):
    started = pretend()
    moved = dataclasses.replace(small, recipe=small.recipe.override({"data.path": "/elsewhere"}))
    outcome = run_study(moved, copied)
    assert sorted(outcome.kept) == ["learned_seed0", "none_seed0"] and not started
    assert outcome.summary == summarize(small, done)
    assert "Accuracy of each arm" in (copied / "summary.md").read_text()
    assert run_study(small, copied).kept == outcome.kept  # and at its old place again


def test_results_from_elsewhere_are_taken_over_and_the_rest_is_trained(small, copied, tmp_path, pretend):
    started, said = pretend(), []
    more = dataclasses.replace(small, seeds=(0, 1))
    outcome = run_study(more, tmp_path / "new", results=copied, say=said.append)
    assert "2 results taken over" in said[0]
    assert sorted(key for key, _ in started) == ["learned_seed1", "none_seed1"]
    assert outcome.summary.finished == 4 and (tmp_path / "new" / "results" / "none_seed0.json").is_file()
    assert outcome.summary.arms[0].seeds == [0, 1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:200], "not readable, perhaps cut off"),
        (lambda text: "[]", "not what temporal writes"),
        (lambda text: text.replace('"max_delay": 4', '"max_delay": 5', 1), "is not as it was written"),
        (lambda text: text.replace('"format": 1', '"format": 9'), "of format 9"),
        (lambda text: text.replace('"recipe_hash"', '"hash"'), "not a result of a study"),
        (lambda text: text.replace('"predictions": "0 ', '"predictions": "'), "19 predictions of 20 recordings"),
        (lambda text: text.replace('"recordings": "', '"recordings": "0'), "which names the recordings"),
    ],
)
def test_a_damaged_result_is_refused(small, copied, change, said):
    file = copied / "results" / "learned_seed0.json"
    changed = change(file.read_text().replace('"predictions": "1 ', '"predictions": "0 '))
    file.write_text(changed)
    with pytest.raises(ValueError, match=said) as raised:
        run_study(small, copied)
    assert "learned_seed0.json" in str(raised.value)


def test_results_of_another_recipe_are_refused(small, copied, tmp_path):
    wider = dataclasses.replace(small, recipe=small.recipe.override({"network.hidden": 20}))
    with pytest.raises(ValueError, match=r"of another recipe: network\.hidden is 16 there, not 20"):
        run_study(wider, copied)
    with pytest.raises(ValueError, match=r"network\.hidden is 16 there, not 20"):
        run_study(wider, tmp_path / "new", results=copied)
    with pytest.raises(FileNotFoundError, match="no such folder of results"):
        run_study(small, tmp_path / "new", results=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no results"):
        run_study(small, tmp_path / "new", results=tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_recipe_of_a_later_version_is_named(small, copied):
    """One with a field that this version does not have; its hash is right."""
    file = copied / "results" / "none_seed0.json"
    stored = json.loads(file.read_text())
    stored["recipe"]["later"] = 1.5
    file.write_text(json.dumps(stored | {"recipe_hash": _digest(stored["recipe"])}))
    with pytest.raises(ValueError, match=r"none_seed0\.json: holds a recipe that this version .* 'later'"):
        run_study(small, copied)


def test_recordings_that_are_gone_leave_the_rest(small, done, tmp_path):
    cell = small.cells()[0]
    moved = dataclasses.replace(cell, recipe=cell.recipe.override({"data.path": str(tmp_path / "gone")}))
    result = keep(tmp_path, moved, Run(done / "runs" / cell.key))
    assert "gone" in result.activity["missing"] and result.parameters and result.total == 20


def test_the_table_and_the_pictures(small, done):
    summary = json.loads((done / "summary.json").read_text())
    none, learned = summary["arms"]
    assert (none["cost"]["depth"], none["cost"]["max_delay"]) == (0, 0) and learned["cost"]["max_delay"] == 4
    text = (done / "summary.md").read_text()
    assert "protocol: split “official”; 2 epochs, fixed beforehand; the last epoch's weights" in text
    assert "delays: up to 4 steps in learned; none in none." in text
    linked = re.findall(r"!\[[^]]+\]\((pictures/\w+\.png)\)", text)
    assert linked == [
        f"pictures/{name}.png"
        for name in ("accuracy_by_arm", "accuracy_against_parameters", "accuracy_against_spikes", "delays_learned")
    ]
    assert all((done / path).read_bytes().startswith(b"\x89PNG") for path in linked)
