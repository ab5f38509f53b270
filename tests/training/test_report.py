"""The report of a run: whole where the run is, honest where it is not, and safe whatever the names are."""

import base64
import dataclasses
import html
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch

import temporal
from temporal.cli import main
from temporal.training import Interrupted, Recipe, Result, Run, report, train
from temporal.training.reporting.facts import RunFacts, read_run
from temporal.training.reporting.measured import measure
from temporal.training.reporting.sections import bytes_of, result_section

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """What a page holds; an element that is not closed where it should be is a fault."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())

    @property
    def text(self):
        return " | ".join(self.words)

    def every(self, tag, attribute):
        return [found[attribute] for name, found in self.elements if name == tag and attribute in found]


def read(file):
    text = file.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    page = Reader(text)
    check_alone(page, text)
    return page


def check_alone(page, text):
    """Nothing is fetched, nothing runs, every link leads somewhere, every picture has words and is inside."""
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import|https?://", text)
    assert all(source.startswith("data:image/png;base64,") for source in page.every("img", "src"))
    assert len(page.every("img", "alt")) == len(page.every("img", "src"))
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids)) and {f"#{name}" for name in ids} >= set(page.every("a", "href"))


def pictures(page):
    return [base64.b64decode(source.partition(",")[2]) for source in page.every("img", "src")]


@pytest.fixture(scope="module")
def copied(trained, tmp_path_factory):
    """The trained run in a folder of its own, with its report."""
    folder = tmp_path_factory.mktemp("reported") / "tones-1"
    shutil.copytree(trained.folder, folder)
    return report(folder)


def test_a_finished_run(copied, trained):
    page, result = read(copied), trained.result()
    assert copied.name == "report.html" and copied.parent.name == "tones-1"
    accuracy = f"{100 * result['accuracy']:.2f} %"
    assert page.words[:3] == ["tones-1", "tones-1", accuracy]  # the window's title, the page's, and the figure
    for title in ("Result", "By class", "By speaker", "Learning", "Delays", "Activity and cost", "Recordings",
                  "Dense, streamed and event-driven", "Configuration and versions"):  # fmt: skip
        assert page.words.count(title) == 2, title  # in the table of contents, and where it is
    assert f"{result['correct']} of 30 test recordings" in page.text and "95 % interval" in page.text
    assert "network.hidden | 24" in page.text and f"torch | {torch.__version__.split('+')[0]}" in page.text
    assert "No epoch showed any of these" in page.text
    beside = copied.with_name("report_pictures")
    names = {file.name for file in beside.iterdir()}
    assert names >= {"confusion_matrix.png", "accuracy_by_class.png", "accuracy_by_speaker.png", "learning_curve.png",
                     "delays.png", "firing_rates.png", "recording_1.png"}  # fmt: skip
    inside = pictures(page)
    assert len(inside) == len(names) and {file.read_bytes() for file in beside.iterdir()} == set(inside)
    assert all(picture.startswith(b"\x89PNG") for picture in inside) and copied.stat().st_size < 3e6


def test_a_report_is_written_again_and_no_other_file_is(copied, trained, tmp_path):
    before, beside = copied.stat().st_mtime_ns, copied.with_name("report_pictures")
    shutil.copy(beside / "recording_1.png", beside / "recording_9.png")  # of an earlier report that showed more
    shutil.copy(trained.folder / "raster.png", beside / "mine.png")
    assert report(copied.parent, data=Run(copied.parent).recipe().data.path) == copied
    assert copied.stat().st_mtime_ns > before
    assert not (beside / "recording_9.png").exists() and (beside / "mine.png").exists()
    (beside / "mine.png").unlink()
    other = tmp_path / "mine.html"
    other.write_text("<html>mine</html>")
    for out in (other, tmp_path):
        with pytest.raises(FileExistsError, match=r"no report of temporal|is a folder"):
            report(trained.folder, out)
    assert other.read_text() == "<html>mine</html>" and not (trained.folder / "report.html").exists()


def test_a_run_on_spikes(trained_on_spikes, tmp_path):
    page = read(report(trained_on_spikes.folder, tmp_path / "spikes.html"))
    assert "By speaker" in page.text and "input spikes" not in page.words  # that is in the picture
    rows = page.text[page.text.index("operations a recording") :]
    assert rows.count("addition") >= 2 and "product and addition" not in rows  # spikes from the first layer on
    assert "products a recording" not in page.text


def test_measured_numbers_are_those_of_the_deployed_network(trained):
    facts = read_run(trained.folder)
    measured = measure(facts.recipe, facts.model, facts.result, recordings=["low_ann_3", "high_bob_0.wav"])
    assert (measured.part, measured.total, measured.activity.recordings) == ("test", 30, 30)
    assert measured.seconds_per_step == 0.01 and len(measured.rasters) == 2
    assert measured.rasters[0][0].startswith("low_ann_3.wav: low")
    first, last = measured.activity.synapses
    assert not first.events and last.events  # mel bands, and then spikes
    spikes = sum(measured.activity.layers[0].counts)
    assert spikes > 0 and last.operations == spikes * 3  # each reaches the three classes
    assert first.depth <= 6 and first.buffer_bytes == 4 * 6 * 20 and last.buffer_bytes == 4 * 6 * 24
    found = measured.agreement
    assert (found.recordings, found.streamed_labels, found.event_labels) == (8, 0, 0)
    assert 0 <= found.streamed < 1e-9 and 0 < found.event < 1e-2  # float64 both; float32: spikes differ nearly never
    axes = measured.rasters[0][1].axes[0]
    assert axes.get_ylabel() == "frequency (kHz)" and len(axes.get_yticklabels()) == 5


def test_recordings_that_are_gone_leave_the_rest(trained, small, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    small.override({"data.path": str(tmp_path / "nowhere")}).to_toml(folder / "recipe.toml")
    page = read(report(folder))
    assert "The recordings cannot be read" in page.text and "say where they are with --data" in page.text
    assert "What was taken for what" in page.text and "Delays" in page.words
    assert "As noted in training after epoch 8" in page.text and "Recordings" not in page.words
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        report(folder, data=tmp_path / "elsewhere")
    assert "Recordings" in read(report(folder, data=small.data.path)).words


def damaged(folder, name):
    file = folder / name
    if name == "health.jsonl":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "said", "left"),
    [
        ("result.json", "The result cannot be read", "Learning"),
        ("model.safetensors", "The model cannot be read", "By class"),
        ("health.jsonl", "There is no health.jsonl", "Result"),
    ],
)
def test_a_file_that_is_damaged_or_gone_is_named(trained, tmp_path, name, said, left):
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    (folder / "training_files.json").unlink()
    damaged(folder, name)
    recipe = Run(folder).recipe().override({"data.path": str(tmp_path / "nowhere")})  # quicker without
    recipe.to_toml(folder / "recipe.toml")
    page = read(report(folder))
    assert said in page.text and left in page.words


def test_a_run_that_has_not_ended(small, tmp_path, stop_after):
    with pytest.raises(Interrupted):
        train(small, tmp_path / "run", device="cpu", progress=stop_after(5))
    page = read(report(tmp_path / "run"))
    assert "held-out accuracy after 1 of 8 epochs; there is no test result yet" in page.text
    assert "6 held-out recordings" in page.text and "Result" not in page.words and "Recordings" in page.words
    small.to_toml(tmp_path / "recipe.toml")  # that has only begun
    page = read(report(tmp_path))
    assert "not trained yet" in page.words and "The model cannot be read" in page.text


def test_names_are_shown_and_never_read_as_html(trained, tmp_path):
    name = "<script>alert('1')<!-- & \" $x$ {{ 7*7 }} %s"
    folder = tmp_path / name
    shutil.copytree(trained.folder, folder)
    stored = json.loads((folder / "result.json").read_text())
    for row in stored["predictions"]:
        row["speaker"] = "<img src=x onerror=y>" if row["speaker"] == "ann" else "$\\frac{"
        row["label"] = {"low": "</td><b>low"}.get(row["label"], row["label"])
    stored["messages"] = ["</p><script>"]
    (folder / "result.json").write_text(json.dumps(stored))
    (folder / "model.safetensors").unlink()
    file = report(folder)
    page = read(file)
    assert f"tones: {name}" in page.words and "<img src=x onerror=y>" in page.words and "</td><b>low" in page.words
    assert "49" not in page.words and html.escape("</p><script>") in file.read_text()


def test_several_runs_side_by_side(trained, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, hidden in (("a", 24), ("b", 12)):
        shutil.copytree(trained.folder, tmp_path / name / "run")
        (tmp_path / name / "run" / "model.safetensors").unlink()
        small.override({"network.hidden": hidden}).to_toml(tmp_path / name / "run" / "recipe.toml")
    file = report(["a/run", "b/run"])
    page = read(file)
    assert str(file) == "report.html" and page.words[0] == "2 runs"
    table = page.text[page.text.index("Settings that differ") :].split(" | ")
    assert table[3:7] == ["network.hidden", "24", "12", table[6]] and "network.layers" not in table[:12]
    assert "a/run" in page.words and "b/run" in page.words  # two folders of one name
    names = {path.name for path in (tmp_path / "report_pictures").iterdir()}
    assert {"comparison.png", "run_1_learning_curve.png", "run_2_learning_curve.png"} <= names
    same = read(report(["a/run", "a/run"], "same.html"))
    assert "All settings are the same." in same.words and str(tmp_path / "a" / "run") in same.words


def test_one_class_and_one_speaker():
    result = Result(
        labels=["yes"], keys=["a", "b"], targets=[0, 0], predictions=[0, 0], scores=[1, 1], speakers=["x"] * 2
    )
    facts = RunFacts(Run("."), "one", Recipe(name="one"), result=dataclasses.replace(result, trained_speakers=["x"]))
    part = result_section(facts)
    by_class, by_speaker = part.sections[1:]
    assert by_class.blocks[1].rows == [["yes", "2", "2", "100.0 %", "34.2 to 100.0 %", "–"]]
    assert [row[0] for row in by_speaker.blocks[1].rows] == ["all speakers heard in training", "x"]


def test_speakers_that_were_never_heard_are_told_apart():
    keys = [str(number) for number in range(6)]
    result = Result(
        labels=["no", "yes"],
        keys=keys,
        targets=[0, 1, 0, 1, 0, 1],
        predictions=[0, 1, 0, 0, 1, 1],
        scores=[0.9] * 6,
        speakers=["old", "old", "new", "new", "", ""],
        trained_speakers=["old"],
    )
    facts = RunFacts(Run("."), "run", Recipe(name="run"), result=result)
    part = result_section(facts)
    rows = {row[0]: row for row in part.sections[2].blocks[1].rows}
    assert part.blocks[1].text == (
        "Speakers: heard in training 100.00 % (2 of 2), never heard 50.00 % (1 of 2), unknown 50.00 % (1 of 2)."
    )
    assert rows["all speakers heard in training"][1:3] == ["2", "2"] and rows["new"][5] == "no"
    assert rows["all speakers never heard"][1:3] == ["1", "2"] and rows["unknown"][5] == "unknown"
    facts.result = dataclasses.replace(result, trained_speakers=None)
    part = result_section(facts)
    rows = {row[0]: row for row in part.sections[2].blocks[1].rows}
    assert "nobody can say" in part.blocks[1].text
    assert set(rows) == {"old", "new", "unknown"} and rows["old"][5] == "unknown"


@dataclasses.dataclass(frozen=True)
class Own:
    def build(self, inputs, classes):
        return temporal.Sequential(torch.nn.GRU(inputs, 6), torch.nn.Linear(6, classes))


def test_a_network_of_ones_own(small, tmp_path):
    run = train(dataclasses.replace(small, network=Own(), epochs=1), tmp_path / "run", device="cpu")
    assert "The model cannot be read" in read(report(run.folder)).text
    page = read(report(run.folder, network=Own().build(20, 3)))
    assert "The network has no spiking layer" in page.text and "| GRU 0 | " in page.text
    assert "Delays" not in page.words and "Not event-driven" in page.text


def test_what_is_not_there_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="no run; at least one"):
        report([])
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        report(tmp_path)
    with pytest.raises(ValueError, match=r"no recording is called 'low_anna_3'.*low_ann_3\.wav"):
        report(trained.folder, tmp_path / "x.html", recordings=["low_anna_3"])
    assert not list(tmp_path.iterdir())


def test_the_command(trained, tmp_path, capsys):
    file = tmp_path / "out.html"
    main(["report", str(trained.folder), "--out", str(file), "--recording", "mid_bob_2.wav", "--json"])
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    words = " ".join(printed.err.split())
    assert "protocol: split “official”" in words and "dense, streamed and event-driven" in words
    assert told["report"] == str(file) and str(tmp_path / "out_pictures" / "recording_1.png") in told["pictures"]
    assert "recording_2" not in str(told["pictures"]) and file.is_file()


def test_sizes_as_people_read_them():
    assert [bytes_of(n) for n in (0, 999, 1000, 1480, 2_500_000)] == ["0 B", "999 B", "1.0 kB", "1.5 kB", "2.5 MB"]
