"""Help and completion: quick because they load no torch, with examples that can be called, in step with the code."""

import json
import shlex
import shutil
import subprocess
import sys
from typing import get_args

import pytest

from temporal import benchmarks, training
from temporal.cli import bench
from temporal.cli._app import RecipeName, app, examples
from temporal.cli.study import StudyName
from temporal.studies import studies

COMMANDS = {name: app[name].default_command for name in app if not name.startswith("-")}


def test_help_is_whole_and_loads_no_torch():
    """Of every command, in one fresh process."""
    code = f"""
import contextlib, io, json, sys
from temporal.cli import main
texts = {{}}
for words in {[[name, "--help"] for name in COMMANDS] + [["--help"], ["completion", "bash"], ["--version"]]!r}:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(words)
    texts[" ".join(words)] = said.getvalue()
print(json.dumps({{"texts": texts, "loaded": sorted(sys.modules)}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not {"torch", "numpy", "numba", "matplotlib"} & set(found["loaded"])
    for name, function in COMMANDS.items():
        text = " ".join(found["texts"][f"{name} --help"].split())
        assert examples(function) and all(" ".join(line.split()) in text for line in examples(function)), name
        assert name in found["texts"]["--help"]
    assert "--debug" in found["texts"]["--help"]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_called(name):
    for line in examples(COMMANDS[name]):
        words = shlex.split(line.removeprefix("source <(").removesuffix(")").partition(" > ")[0])
        if words[0] == "torchrun":  # ... -m temporal COMMAND
            words = words[words.index("temporal") :]
        assert words[0] == "temporal"
        command, *_ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert command in COMMANDS.values()


def test_what_is_completed_is_what_there_is():
    assert get_args(get_args(RecipeName)[0]) == tuple(training.recipes())
    assert set(get_args(get_args(bench.Group)[0])) == set(benchmarks.list_groups())
    assert get_args(get_args(StudyName)[0]) == tuple(studies())


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes():
    """The script in a real bash: what Tab would offer after these words."""
    script = subprocess.run([sys.executable, "-m", "temporal", "completion", "bash"], capture_output=True, text=True)
    lines = [
        (["tr"], "train"),
        (["train", "dig"], "digits"),
        (["train", "digits", "--res"], "--resume"),
        (["bench", "fron"], "frontends"),
        (["spikes", "--preset", "art"], "article"),
        (["completion", "z"], "zsh"),
    ]
    tries = "".join(
        f"COMP_WORDS=({shlex.join(['temporal', *words])}); COMP_CWORD={len(words)}; COMPREPLY=()\n"
        '"$(complete -p temporal | sed "s/.*-F \\([^ ]*\\) .*/\\1/")"\n'
        "echo ${COMPREPLY[@]}\n"
        for words, _ in lines
    )
    done = subprocess.run(["bash", "-c", f"{script.stdout}\n{tries}"], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.split() == [wanted for _, wanted in lines]


def test_completion_is_installed_in_the_home_folder_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZSH_CUSTOM"):
        monkeypatch.delenv(name, raising=False)
    app(["completion", "fish", "--install"], exit_on_error=False)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert f"written: {file}" in capsys.readouterr().err and "train" in file.read_text()
