"""The pictures and the page of a report: what they say, and that they survive odd data."""

import io
import math

import pytest

from temporal.analysis import (
    DelayCounts,
    LayerActivity,
    Page,
    Section,
    Table,
    Text,
    accuracy_against_cost,
    accuracy_by_arm,
    accuracy_by_group,
    compare_curves,
    delay_histograms,
    firing_rates,
    render_page,
    wilson_interval,
)


def text_of(figure):
    from matplotlib.text import Text as Drawn

    figure.savefig(io.BytesIO(), format="png")
    return " | ".join(text.get_text() for text in figure.findobj(Drawn))


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 30), (29, 30), (241, 250), (9_999, 10_000)])
def test_wilson_is_scipys(correct, total):
    from scipy.stats import binomtest

    expected = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson_interval(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 4)])
def test_an_interval_of_nothing(correct, total):
    with pytest.raises(ValueError, match="a part of at least one"):
        wilson_interval(correct, total)


def test_accuracy_by_group():
    figure = accuracy_by_group([("$a$", 10, 10), ("b", 1, 10)], "speaker")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["b  (1 of 10)", "$a$  (10 of 10)"]
    assert list(axes.lines[0].get_xdata()) == [10, 100]
    low, high = wilson_interval(1, 10)
    assert axes.collections[0].get_segments()[0][:, 0] == pytest.approx([100 * low, 100 * high])
    assert "by speaker; all together 55.0 %" in text_of(figure)
    text_of(accuracy_by_group([("only", 0, 1)]))
    text_of(accuracy_by_group([(f"class {number}", number, 60) for number in range(60)]))
    with pytest.raises(ValueError, match="no group"):
        accuracy_by_group([])


def test_delays_before_and_after():
    before, after = DelayCounts("D 0", (25, 25, 25, 25)), DelayCounts("D 0", (10, 70, 10, 10))
    figure = delay_histograms([before], [after])
    assert "D 0: 100 delays, mean 1.2 steps (before 1.5)" in text_of(figure)
    assert [bar.get_height() for bar in figure.axes[0].patches[:4]] == [10, 70, 10, 10]
    assert "before" not in text_of(delay_histograms(None, [after]))
    text_of(delay_histograms(None, [DelayCounts("D", (4,)), DelayCounts("E", (1, 2, 3), learned=False)]))
    with pytest.raises(ValueError, match="D 0 before, E after"):
        delay_histograms([before], [DelayCounts("E", (1, 1, 1, 1))])
    with pytest.raises(ValueError, match="no layer"):
        delay_histograms([], [])


def test_firing_rates():
    layer = LayerActivity("LIF 1", (0, 50, 100, 0), 100)
    words = text_of(firing_rates([layer], seconds_per_step=0.01))
    assert "LIF 1: 4 neurons, mean 37.5 spikes/s, 2 dead, 1 saturated" in words and "spikes/s" in words
    assert "mean 0.375 spikes/step" in text_of(firing_rates([layer, LayerActivity("none", (), 0)]))
    with pytest.raises(ValueError, match="no spiking layer"):
        firing_rates([])
    with pytest.raises(ValueError, match="must be positive"):
        firing_rates([layer], seconds_per_step=0)


def test_curves_of_several_runs():
    rows = [{"epoch": e, "train_loss": 1 / e, "train_accuracy": 0.5, "validation_accuracy": 0.6} for e in (1, 2, 3)]
    lost = [{**row, "train_loss": math.nan} for row in rows]
    figure = compare_curves({"a": rows, "$b$": rows[:1], "c": lost, "none": []})
    words = text_of(figure)
    assert "held-out accuracy (%)" in words and "$b$" in words and "none" not in words
    assert list(figure.axes[1].lines[0].get_ydata()) == [60, 60, 60]
    many = compare_curves({str(n): rows for n in range(12)})
    styles = {(line.get_color(), str(line._unscaled_dash_pattern)) for line in many.axes[0].lines}
    assert len(styles) == 12
    with pytest.raises(ValueError, match="no run has an epoch"):
        compare_curves({"a": []})


def test_a_page_escapes_and_names_its_parts():
    parts = [Section("A & B", [Text("<b>x</b>", "note")]), Section("a b", [Table(["h"], [["<i>"]])], folded=True)]
    page = render_page(Page("<title>", "1 %", "of it", figures=[("<u>", "what")], sections=parts))
    assert page.startswith("<!DOCTYPE html>")
    assert "<b>x</b>" not in page and "&lt;b&gt;x&lt;/b&gt;" in page and "<u>" not in page and "<i>" not in page
    assert '<section id="a-b">' in page and '<details id="a-b-2">' in page and 'href="#a-b-2"' in page


def test_accuracy_by_arm():
    figure = accuracy_by_arm({"none": [0.5, 0.6], "$b$": [], "learned": [0.9]})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["learned  90.0 %", "none  55.0 ± 7.1 %"]
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert [sorted(line.get_xdata()) for line in marks] == [[90], [50, 60]]
    assert [line.get_marker() for line in marks] == ["^", "o"]  # an arm's mark is that of its place, in every picture
    text_of(figure)
    for arms in ({}, {"a": []}):
        with pytest.raises(ValueError, match="no arm has a run"):
            accuracy_by_arm(arms)
    with pytest.raises(ValueError, match=r"an accuracy is 50; a part, 0\.\.1"):
        accuracy_by_arm({"a": [50]})


def test_accuracy_against_cost():
    figure = accuracy_against_cost({"$a$": [(100, 0.5), (120, 0.6)], "b": [], "c": [(130, 0.9)]}, "spikes a recording")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "spikes a recording" and axes.get_xscale() == "linear" and axes.get_xlim()[0] == 0
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines] == [
        ([100, 120], [50, 60]),
        ([130], [90]),
    ]
    assert "$a$" in text_of(figure)
    far = accuracy_against_cost({"a": [(2_000, 0.5)], "b": [(640_000, 0.6)]})
    assert far.axes[0].get_xscale() == "log" and "10 k" in text_of(far)
    assert accuracy_against_cost({"a": [(0, 0.5)], "b": [(640_000, 0.6)]}).axes[0].get_xscale() == "linear"
    with pytest.raises(ValueError, match="no arm has a run"):
        accuracy_against_cost({"a": []})
    with pytest.raises(ValueError, match="a cost is -1; 0 or more"):
        accuracy_against_cost({"a": [(-1, 0.5)]})
