"""Every picture draws without a warning (warnings are errors here), says what its axes are, and survives odd data."""

import io
import itertools
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from temporal.analysis import confusion_matrix, learning_curve, raster, save

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAN = float("nan")


def drawn(figure):
    """The figure as an array of grey values [rows, columns], 0..1."""
    from matplotlib.image import imread

    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)[..., :3].mean(-1)


def rows(epochs=30, **more):
    every = []
    for epoch in range(1, epochs + 1):
        row = {
            "epoch": epoch,
            "train_loss": 3 / epoch,
            "train_accuracy": 1 - 1 / (epoch + 1),
            "learning_rate": 1e-3 / epoch,
        }
        row |= {"validation_loss": 3.3 / epoch, "validation_accuracy": 0.9 - 0.8 / (epoch + 1)}
        row |= {"sigma": max(0.0, 12 - epoch / 2), "rounded": epoch >= 24}
        every.append({name: value for name, value in (row | more).items() if value is not None})
    return every


def text_of(figure):
    from matplotlib.text import Text

    return " | ".join(text.get_text() for text in figure.findobj(Text))


def test_a_learning_curve():
    figure = learning_curve(rows())
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["loss", "accuracy (%)", "sigma (steps)", "learning rate"]
    assert figure.axes[2].get_xlabel() == "epoch"
    words = text_of(figure)
    for expected in (
        "train, last 0.100",
        "validation, last 0.110",
        "train, last 96.8 %",
        "whole-step delays from epoch 24",
    ):
        assert expected in words
    (train, validation) = figure.axes[1].lines[:2]
    assert train.get_ydata()[0] == pytest.approx(50) and validation.get_ydata()[-1] == pytest.approx(
        100 * (0.9 - 0.8 / 31)
    )
    assert train.get_linestyle() != validation.get_linestyle() and train.get_marker() != validation.get_marker()
    grey = drawn(figure)
    assert 600 < grey.shape[1] < 1500 and 600 < grey.shape[0] < 1500
    assert 0.005 < (grey < 0.7).mean() < 0.2  # ink: neither empty nor a blot


def test_a_learning_curve_of_little():
    without = learning_curve(rows(validation_loss=None, validation_accuracy=None, sigma=None, rounded=None))
    assert [axes.get_ylabel() for axes in without.axes] == ["loss", "accuracy (%)", "learning rate"]
    assert "validation" not in text_of(without) and "whole-step" not in text_of(without)
    bare = learning_curve([{"epoch": 7, "train_loss": 1.0, "train_accuracy": 0.1}])
    assert [axes.get_ylabel() for axes in bare.axes] == ["loss", "accuracy (%)"] and bare.axes[
        1
    ].get_xlabel() == "epoch"
    assert bare.axes[0].lines[0].get_marker() == "o"  # a line of one point shows nothing without
    for figure in (without, bare, learning_curve(rows(1)), learning_curve(rows(300))):
        drawn(figure)
    assert learning_curve(rows(300)).axes[0].lines[0].get_marker() in ("", "None")


def test_a_loss_that_is_not_finite_is_a_gap_with_a_word():
    some = rows(9)
    some[3]["train_loss"], some[5]["train_loss"] = NAN, math.inf
    figure = learning_curve(some)
    assert "not a finite number in epoch: train 4, train 6" in figure.axes[0].get_title(loc="left")
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).sum() == 2
    drawn(figure)
    lost = learning_curve(rows(9, train_loss=NAN, validation_loss=NAN))
    assert "and 12 more" in lost.axes[0].get_title(loc="left")
    drawn(lost)


def test_rows_that_are_none():
    with pytest.raises(ValueError, match="no rows"):
        learning_curve([])
    with pytest.raises(ValueError, match="row 1 has no 'epoch', only \\['loss'\\]"):
        learning_curve([{"epoch": 1}, {"loss": 3}])


def counts(classes, wrong=2):
    matrix = np.diag(np.full(classes, 30))
    for true in range(classes):
        matrix[true, (true + 1) % classes] += wrong
    return matrix


def test_a_confusion_matrix():
    figure = confusion_matrix(torch.tensor(counts(20)), [f"word {c}" for c in range(20)])
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_title() == "accuracy 93.75 % (600 of 640)"
    words = text_of(figure)
    assert "\u200793.8 %  (30 of 32)" in words and "recall" in words and "share of the true class (%)" in words
    cells = {(t.get_position(), t.get_text()) for t in axes.texts}
    assert ((0, 0), "30") in cells and ((1, 0), "2") in cells and ((0, 19), "2") in cells  # (x: predicted, y: true)
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["word 0", "word 1"]
    drawn(figure)


def test_forty_classes_are_legible():
    matrix = counts(40, wrong=1)
    matrix[11] = 0
    matrix[5, 30] = 9
    figure = confusion_matrix(matrix, [f"a word {c}" for c in range(40)])
    drawn(figure)  # lays the figure out
    axes = figure.axes[0]
    places = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 2 for upper, lower in itertools.pairwise(places))  # none on another
    places = [label.get_window_extent() for label in axes.get_xticklabels()]
    assert all(right.x0 >= left.x1 - 2 for left, right in itertools.pairwise(places))
    assert max(place.y1 for place in places) < axes.get_window_extent().y0  # below the matrix, not in it
    words = text_of(figure)
    assert "most often confused: a word 5 as a word 30 (9)" in words
    assert "–  (0)" in words  # a class without recordings has no recall
    assert not [text for text in axes.texts if text.get_text().isdigit()]


@pytest.mark.parametrize(
    "matrix, labels",
    [
        ([[0]], ["only"]),
        ([[0, 0], [0, 0]], ["a", "b"]),
        ([[123456, 7], [0, 99999]], ["$x$", "_$"]),
        (counts(21, 0), range(21)),
    ],
)
def test_odd_confusions_are_drawn(matrix, labels):
    drawn(confusion_matrix(matrix, list(labels)))


@pytest.mark.parametrize(
    "matrix, words",
    [
        (np.zeros((2, 3)), r"\(2, 3\); \[classes, classes\]"),
        (np.zeros((3, 3)), "2 labels for 3 classes"),
        ([[0.5, 0.5], [0, 1]], "whole numbers"),
        ([[-1, 0], [0, 1]], "whole numbers"),
        ([[NAN, 0], [0, 1]], "whole numbers"),
    ],
)
def test_confusions_that_are_none(matrix, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(matrix, ["a", "b"])


def one_recording(steps=60, classes=20):
    spikes = [("LIF 2", (torch.rand(steps, 128) < 0.1).double()), ("LIF 6", torch.zeros(steps, 64))]
    readout = torch.randn(steps, classes, requires_grad=True).cumsum(0)
    return spikes, torch.randn(40, steps), readout


def test_a_raster():
    spikes, features, readout = one_recording()
    labels = [f"word {c}" for c in range(20)]
    figure = raster(spikes, features=features, readout=readout, labels=labels, seconds_per_step=0.01, title="a.wav: $5")
    assert [axes.get_ylabel() for axes in figure.axes] == ["bin", "neuron", "neuron", "output"]
    assert figure.axes[-1].get_xlabel() == "time (s)"
    assert {axes.get_xlim() for axes in figure.axes} == {(0, 0.6)}
    words = text_of(figure)
    rate = float(spikes[0][1].mean()) * 100
    assert f"LIF 2: 128 neurons, {rate:.1f} spikes/s each" in words and "a.wav: $5" in words
    assert "no spikes" in words and "64 neurons, 0.0 spikes/s each, 100 % silent" in words
    best = int(readout.softmax(-1).sum(0).argmax())
    assert figure.axes[-1].get_legend().get_texts()[0].get_text() == labels[best]
    assert len(figure.axes[-1].lines) == 20
    marks = figure.axes[1].collections[0].get_offsets()
    when, who = np.nonzero(spikes[0][1].numpy())
    assert np.allclose(marks, np.stack([(when + 0.5) * 0.01, who], 1))  # in the middle of their steps
    drawn(figure)


@pytest.mark.parametrize("steps, classes", [(1, 1), (1, 2), (500, 40), (0, 3)])
def test_odd_recordings_are_drawn(steps, classes):
    spikes, features, readout = one_recording(steps, classes)
    drawn(raster(spikes, features, readout, seconds_per_step=0.01))
    drawn(raster([], features, readout, seconds_per_step=0.01))


def test_recordings_that_are_none():
    spikes, features, readout = one_recording()
    with pytest.raises(ValueError, match="seconds_per_step=0 must be positive"):
        raster(spikes, features, readout, seconds_per_step=0)
    with pytest.raises(ValueError, match="3 labels for 20 classes"):
        raster(spikes, features, readout, ["a", "b", "c"], seconds_per_step=0.01)
    with pytest.raises(ValueError, match=r"readout has shape \(60, 1, 20\); \[T, classes\]"):
        raster(spikes, features, readout[:, None], seconds_per_step=0.01)


def test_a_picture_is_written_in_one_step(tmp_path, monkeypatch):
    from matplotlib.image import imread

    path = tmp_path / "curve.png"
    save(learning_curve(rows()), path)
    before = path.read_bytes()
    assert imread(path).shape[1] > 600

    figure = learning_curve(rows(3))

    def fails(file, **options):
        file.write(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        save(figure, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError):
        save(learning_curve(rows(3)), tmp_path / "nowhere" / "curve.png")


def test_what_is_not_a_file_is_left_alone(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(ValueError, match="is not a file; give the path of a PNG file"):
            save(learning_curve(rows(2)), path)
    assert pipe.is_fifo()
    target, link = tmp_path / "target.png", tmp_path / "link.png"
    target.touch()
    link.symlink_to(target)
    save(learning_curve(rows(2)), link)
    assert link.is_symlink() and target.stat().st_size > 1000


def test_pictures_touch_no_global_state(tmp_path):
    """pyplot is never imported, rcParams stay, and importing the packages brings in nothing heavy."""
    code = """
import sys, temporal.analysis, temporal.streaming
heavy = {"matplotlib", "librosa", "lightning", "spikingjelly", "torchaudio", "numba", "soundfile", "soxr"} & set(sys.modules)
assert not heavy, heavy
import matplotlib
before = dict(matplotlib.rcParams)
temporal.analysis.save(temporal.analysis.confusion_matrix([[1, 0], [2, 3]], ["a", "b"]), sys.argv[1])
assert dict(matplotlib.rcParams) == before and "matplotlib.pyplot" not in sys.modules
"""
    file = tmp_path / "matrix.png"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 1000


def test_the_style_can_be_told_apart_in_grey():
    from matplotlib.colors import to_rgb

    from temporal.analysis.style import LINES

    assert len({line["linestyle"] for line in LINES}) == len({line["marker"] for line in LINES}) == len(LINES)
    assert all(np.mean(to_rgb(line["color"])) < 0.6 for line in LINES)  # dark enough on white
