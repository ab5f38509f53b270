"""README.md and CONTRIBUTING.md do what they say: blocks of Python run, commands run, files and extras exist."""

import pathlib
import re
import shlex
import tomllib

import numpy as np
import pytest
import soundfile

from temporal.cli import main
from temporal.cli._app import app
from temporal.datasets import write_events

ROOT = pathlib.Path(__file__).resolve().parent.parent
README, CONTRIBUTING = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
TONES = {"one": 300.0, "two": 900.0, "three": 2500.0}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str, program: str) -> list[list[str]]:
    """The arguments of every call of a program in the console blocks."""
    lines = "\n".join(blocks(text, "console")).replace("&&", "\n").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in found if words and words[0] == program]


def tone(frequency: float, seconds: float, rate: int = 8000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> pathlib.Path:
    """A folder with the files that the README speaks of."""
    root = tmp_path_factory.mktemp("readme")
    for folder in ("recordings", "other-recordings"):
        (root / folder).mkdir()
        for label, frequency in TONES.items():
            for number, speaker in enumerate(["anna", "otto"]):
                for index in range(8):
                    wave = tone(frequency * (1 + 0.1 * number), 0.2 + 0.01 * index)
                    soundfile.write(root / folder / f"{label}_{speaker}_{index}.wav", wave, 8000)
    for split, seconds in (("train", 0.3), ("test", 0.2)):  # as the published files lie there
        draw, count = np.random.default_rng(0), 2 * 20
        (root / "shd").mkdir(exist_ok=True)
        write_events(
            root / "shd" / f"shd_{split}.h5",
            [(np.sort(draw.uniform(0, seconds, 50)), draw.integers(0, 700, 50)) for _ in range(count)],
            labels=[number % 20 for number in range(count)],
            classes=[f"word {number}" for number in range(20)],
            speakers=[str(number % 3) for number in range(count)],
        )
    words = root / "speech_commands"
    for label in (*WORDS, "tree", "_background_noise_"):
        (words / label).mkdir(parents=True)
        for index in range(10):
            soundfile.write(words / label / f"{index:08x}_nohash_0.wav", tone(300.0 + 50 * len(label), 0.2), 16000)
    for name, index in (("testing_list.txt", 0), ("validation_list.txt", 1)):
        listed = [f"{label}/{index:08x}_nohash_0.wav" for label in (*WORDS, "tree")]
        (words / name).write_text("\n".join(listed))
    for name, seconds in (("recording.wav", 0.3), ("long_recording.wav", 2.0)):
        soundfile.write(root / name, tone(TONES["two"], seconds), 8000)
    return root


def test_the_two_commands_stand_there_once():
    """.ci/run takes the second one from the README."""
    for command in ("pip install '.[demo]' && temporal train digits", "pip install '.[test]' && pytest"):
        assert README.splitlines().count(command) == 1


def test_python_blocks_run_from_top_to_bottom(recordings, monkeypatch, capsys):
    monkeypatch.chdir(recordings)
    found = blocks(README, "python")
    assert len(found) >= 4
    names: dict = {"__name__": "readme"}
    for number, block in enumerate(found, 1):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    assert names["logits"].shape == (8, 10) and names["more"].shape == (20, 8, 10)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("accuracy: ") and printed[-1] in TONES


def test_commands_run(recordings, monkeypatch, capsys):
    """Those on the reader's own recordings, in their order; what takes long is cut."""
    monkeypatch.chdir(recordings)
    shorter = {"train": ["--epochs", "1"], "doctor": ["--no-check"], "study": ["--dry-run"]}
    ran = []
    for words in commands(README, "temporal"):
        assert app.parse_args(words, exit_on_error=False)
        if words == ["train", "digits"]:
            continue  # the embedded digits take minutes: .ci/run trains on them
        try:
            main([*words, *shorter.get(words[0], [])])
        except SystemExit as stop:
            assert not stop.code, (words, capsys.readouterr().err)
        ran.append(words[0])
    assert ran == [
        *("train", "evaluate", "evaluate", "report", "train", "train", "train", "spikes", "train", "evaluate"),
        *("study", "doctor", "stream"),
    ]
    assert capsys.readouterr().out.splitlines()[-1].startswith("file: ")


def test_extras_exist_and_are_all_explained():
    for text in (README, CONTRIBUTING):
        for wanted in re.findall(r"pip install (?:-e )?'\.\[([\w,]+)\]'", text):
            assert set(wanted.split(",")) <= set(EXTRAS)
    table = [row for row in README.splitlines() if row.startswith("| `")]
    assert {name for row in table for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(EXTRAS)


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_files_that_are_named_exist(text):
    linked = re.findall(r"\]\(([\w./-]+)\)", text)
    named = [name for name in re.findall(r"`([\w./-]+/[\w.-]*)`", text) if "NAME" not in name and "../" not in name]
    missing = [name for name in linked + named if not (ROOT / name).exists()]
    assert not missing
