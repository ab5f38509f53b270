"""Run folders that somebody was at: files deleted, cut, of another version, read-only. Each is told in a line or two."""

import json
import os
import shutil

import pytest
import torch

from temporal.cli import main
from temporal.models import load
from temporal.training import Run, evaluate, train

pytestmark = pytest.mark.usefixtures("quick_writing")


@pytest.fixture(scope="module")
def finished(small, quick_writing, tmp_path_factory):
    """One epoch, whole."""
    return train(small.override({"epochs": 1}), tmp_path_factory.mktemp("finished") / "run", device="cpu").folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(finished, tmp_path / "run")


def resume(folder):
    return train(Run.open(folder).recipe(), folder, resume=True, device="cpu")


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}


def command(*arguments):
    """The command in this process; it must end well."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        assert not stopped.code


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", "deleted"),
        ("metrics.jsonl", "deleted"),
        ("metrics.jsonl", "cut"),
        ("training_files.json", "deleted"),
        ("training_files.json", "cut"),
        ("result.json", "deleted"),
        ("result.json", "cut"),
        ("learning_curve.png", "deleted"),
        ("raster.png", "deleted"),
    ],
)
def test_resume_puts_back_what_is_missing(folder, finished, name, damage):
    """From the checkpoint, with the same bits; and nothing else changes."""
    content = (folder / name).read_bytes()
    if damage == "deleted":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[: len(content) // 2])
    resume(folder)
    assert files(folder) == files(finished)


def test_a_finished_run_does_not_need_its_checkpoints(folder):
    for name in ("checkpoint.pt", "previous_checkpoint.pt"):
        (folder / name).unlink(missing_ok=True)
    before = files(folder)
    assert resume(folder).is_finished() and files(folder) == before
    (folder / "result.json").unlink()
    with pytest.raises(ValueError, match=r"holds metrics.jsonl and model.safetensors, but no checkpoint.pt"):
        resume(folder)


def test_without_its_recipe(folder, capsys):
    (folder / "recipe.toml").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"holds checkpoint.pt, but no recipe.toml: .*--dry-run > .*recipe.toml"
    ):
        Run.open(folder)
    assert load(folder).labels == ["high", "low", "mid"]  # the weights know what they are


def test_metrics_cut_anywhere(folder, small):
    """Whole lines are kept, whatever follows them; a damaged one before the last is an error that names it."""
    rows = [json.loads((folder / "metrics.jsonl").read_bytes()) | {"epoch": number} for number in (1, 2)]
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    run = Run(folder)
    for size in range(len(lines[1]) + 1):
        run.metrics_file.write_bytes(lines[0] + lines[1][:size])
        assert run.metrics() == rows[: 1 + (size >= len(lines[1]) - 1)]
    for damage in (lines[0][:20] + b"\n", b"\0\0\0\0\n", b"\xff\xfe\n", b"12\n"):
        run.metrics_file.write_bytes(damage + lines[1])
        with pytest.raises(ValueError, match=r"metrics.jsonl: line 1 is not a JSON object; .*--resume --out"):
            run.metrics()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\xfd", b"null"])
def test_a_result_that_is_none(folder, content):
    (folder / "result.json").write_bytes(content)
    run = Run.open(folder)
    with pytest.raises(
        ValueError, match=r"result.json: not .*; temporal train RECIPE --resume --out .* writes it again"
    ):
        run.result()
    assert not run.has_result()


def test_evaluate_says_what_it_cannot_know(folder):
    whole = evaluate(folder)
    (folder / "training_files.json").write_bytes(b'{"12":')
    with pytest.raises(ValueError, match=r"training_files.json: not readable, perhaps cut off"):
        evaluate(folder)
    (folder / "training_files.json").unlink()
    result = evaluate(folder)
    assert result.predictions == whole.predictions
    assert any("training_files.json is not there, so nobody can say" in text for text in result.messages)


@pytest.mark.parametrize("stored", [{"format": 0, "temporal": "0.0.1"}, {"format": 99, "temporal": "9.0"}])
def test_a_checkpoint_of_another_version(folder, stored):
    """Neither read nor replaced by an older one."""
    (folder / "result.json").unlink()
    torch.save(stored, folder / "checkpoint.pt")
    before = files(folder)
    with pytest.raises(
        ValueError, match=rf"in format {stored['format']} by temporal {stored['temporal']}; .* reads format 2"
    ):
        resume(folder)
    assert files(folder) == before


def test_a_folder_that_cannot_be_written_to(finished, small, in_child, tmp_path_factory):
    """A run there is shown and evaluated, and not trained in; nobody is root in this."""
    folder = tmp_path_factory.mktemp("public")
    for place in (folder, *(above for above in folder.parents if ".pytest" in str(above) or "pytest-" in str(above))):
        place.chmod(place.stat().st_mode | 0o055)
    shutil.copytree(finished, folder / "run")
    (folder / "run" / "result.json").rename(folder / "result.json")
    (folder / "run").chmod(0o555)

    def as_nobody(do):
        def inside():
            if os.getuid() == 0:
                os.setuid(65534)
            do()

        return in_child(inside)

    recipe = Run(folder / "run").recipe()
    code, text = as_nobody(lambda: train(recipe, folder / "run", resume=True, device="cpu"))
    assert code == 1 and "run: cannot be written to (Permission denied), so no run can train in it" in text
    (folder / "result.json").rename(folder / "run" / "result.json")
    assert as_nobody(lambda: train(recipe, folder / "run", resume=True, device="cpu")) == (0, "")
    code, text = as_nobody(lambda: train(recipe, folder / "run" / "new", device="cpu"))
    assert code == 1 and "Permission denied" in text


def test_the_command_shows_a_finished_run(folder, capsys):
    (folder / ".lock").unlink()
    command("train", folder / "recipe.toml", "--resume", "--out", folder, "--device", "cpu")
    said = capsys.readouterr()
    assert said.out.startswith("accuracy: ") and said.out.endswith(" of 30)\n")
    assert "finished already" in said.err
    assert not (folder / ".lock").exists(), "nothing was written"


OWN = """
import dataclasses, torch, temporal
from temporal.training import find_recipe

@dataclasses.dataclass(frozen=True)
class Own:
    width: int = 12
    def build(self, inputs, classes):
        return temporal.Sequential(torch.nn.GRU(inputs, self.width), torch.nn.Linear(self.width, classes))

recipe = dataclasses.replace(find_recipe({base!r}), network=Own())
"""


def test_a_network_of_ones_own_is_resumed_by_the_command(folder, tmp_path, capsys):
    """The run's recipe.toml knows its network by name; the file that was named on the command line has the class."""
    base = shutil.copy(folder / "recipe.toml", tmp_path / "base.toml")
    (tmp_path / "own.py").write_text(OWN.format(base=str(base)))
    own = ["train", tmp_path / "own.py", "--device", "cpu", "--out", tmp_path / "own"]
    command(*own, "--network.width", "7")
    (tmp_path / "own" / "result.json").rename(tmp_path / "result.json")
    command(*own, "--resume")
    assert (tmp_path / "own" / "result.json").read_bytes() == (tmp_path / "result.json").read_bytes()
    with pytest.raises(AssertionError):
        command(*own, "--resume", "--network.width", "9")
    assert "network.width is 7, not 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nepoch = 3', r"did you mean epochs"),
        ('name = "x"\n[network]\nhiden = 3', r"network.hidden"),
        ('name = "x"\nepochs = "many"', r"'epochs': 'many' is not of type int"),
        ('name = "x"\nepochs = 2.5', r"'epochs': 2.5 is not of type int"),
        ('name = "x"\nepochs = 0', r"epochs=0; at least 1 is right"),
        ('name = "x"\nnetwork = 3', r"network = 3: a table is right, \[network\]"),
        ('name = "x"\nfrontend = "mel"', r"frontend = 'mel': a table is right"),
        ('name = "x"\n[network]\nkind = [1]', r"network.kind = \[1\]: a name is right"),
        ('name = "x"\n[frontend]\nkind = "mell"', r"did you mean 'mel'"),
        ('name = "x"\n[data', r"not valid TOML"),
        ("epochs = 3", r"a recipe needs a name"),
    ],
)
def test_a_recipe_file_with_a_mistake(tmp_path, capsys, text, message):
    import re

    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path / "recipe.toml"), "--out", str(tmp_path / "run")])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and re.search(message, said) and "recipe.toml" in said
    assert len(said.strip().splitlines()) <= 2 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_to_be_found", "recipe.py, line 1: ModuleNotFoundError: No module named"),
        ("x = 1\nrecipe = (", "recipe.py, line 2: SyntaxError"),
        ("def make():\n    return 1 / 0\nrecipe = make()", "recipe.py, line 2: ZeroDivisionError: division by zero"),
        ("recipe = 3", "defines no Recipe called 'recipe'"),
    ],
)
def test_a_recipe_program_with_a_mistake(tmp_path, capsys, text, message):
    (tmp_path / "recipe.py").write_text(text)
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(tmp_path / "recipe.py")])
    said = capsys.readouterr().err
    assert stopped.value.code == 1 and message in said and len(said.strip().splitlines()) <= 2


def test_a_checkpoint_from_before_an_option_came(folder, finished):
    """A field that it does not mention has its default, as in a recipe file; another value is another recipe."""
    (folder / "result.json").unlink()
    stored = torch.load(folder / "checkpoint.pt", weights_only=True)
    del stored["recipe"]["optimizer"]["warmup"]
    torch.save(stored, folder / "checkpoint.pt")
    resume(folder)
    assert (folder / "result.json").read_bytes() == (finished / "result.json").read_bytes()
    (folder / "result.json").unlink()
    stored["recipe"]["optimizer"]["warmup"] = 0.5
    torch.save(stored, folder / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"another recipe: optimizer.warmup \(there 0.5, here 0.1\)"):
        resume(folder)
