import io
import math
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from rich.console import Console

from bnlab.closing import show_answers, show_gaps
from bnlab.report import pdf
from bnlab.report.numbers import best, tables
from bnlab.report.pictures import decay_curve, drawing, figures

FLAT = dict.fromkeys((0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999), 0.12)


def comments(svg):
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    return [node.text.strip() for node in ET.fromstring(svg, parser=parser).iter() if node.tag is ET.Comment]


def test_the_picture_has_a_plot_for_each_metric_and_a_line_for_each_batch_size(curve, regressed, valley):
    rows = curve(valley, tasks=("mnist", "cifar"), sizes=(2, 128))
    [picture] = decay_curve.decay_curve(tables.gaps(rows))
    drawn = comments(picture.svg)
    assert (drawn.count("RMSE"), drawn.count("accuracy"), drawn.count("mnist")) == (2, 2, 2)
    assert {"batch size 2", "batch size 128", "phase true", "best, within one s.e."} <= set(drawn)
    assert {"0", "0.9", "0.99", "0.999", "0.9999"} <= set(drawn)
    assert "at 9 decays of the same weights" in picture.caption
    assert "chosen on the very images drawn" in picture.caption
    [blind] = decay_curve.decay_curve(tables.gaps(regressed(curve(valley, seeds=(0, 1)))))
    assert "accuracy" not in comments(blind.svg)
    assert blind.caption.endswith("Means over n = 2 seeds.")
    assert len(decay_curve.decay_curve(tables.gaps(curve(valley, tasks=tuple("abcd"))))) == 2


def test_the_curve_the_best_and_phase_true_stand_where_they_were_measured(curve, valley):
    rows = tables.gaps(curve(valley)).sort_values("decay")
    axes = Figure().subplots()
    decay_curve.draw(axes, decay_curve.Plot(rows, "rmse", best.best(rows)), {128: "#c8502a"})
    whole, true, near, dot = axes.get_lines()
    assert whole.get_xdata() == pytest.approx(-np.log10(1 - np.array(list(valley))))
    assert whole.get_ydata() == pytest.approx(list(valley.values()))
    assert set(true.get_ydata()) == {0.112}
    assert near.get_ydata() == pytest.approx([0.104, 0.1, 0.102])
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == pytest.approx((-math.log10(0.05), 0.1))
    assert {to_hex(line.get_color()) for line in axes.get_lines()} == {"#c8502a"}


def test_a_flat_curve_is_drawn_without_a_best(curve):
    rows = tables.gaps(curve(FLAT))
    axes = Figure().subplots()
    decay_curve.draw(axes, decay_curve.Plot(rows, "rmse", best.best(rows)), {128: "#c8502a"})
    assert len(axes.get_lines()) == 2


@pytest.mark.parametrize("highest", [False, True])
def test_a_stretched_axis_shows_small_and_large_distances(highest):
    axes = Figure().subplots()
    values = pd.Series([0.1, 0.102, 0.2, math.nan, math.inf])  # span 0.1, even up to 0.002
    drawing.stretched_axis(axes, 0.3 - values if highest else values, highest)
    place = axes.yaxis.get_transform().transform
    best_value, near, far = (0.2, 0.198, 0.1) if highest else (0.1, 0.102, 0.2)
    sign = -1 if highest else 1
    distances = sign * (place(np.array([near, far])) - place(np.array([best_value])))
    assert distances == pytest.approx([math.log10(2), math.log10(51)])
    low, high = axes.get_ylim()
    assert low < 0.1 < 0.2 < high
    assert {0.1, 0.2} <= set(axes.get_yticks())


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3], [5.0, 5e3], [1e-5, 2e-5]])
def test_any_values_have_a_stretched_axis(values):
    axes = Figure().subplots()
    drawing.stretched_axis(axes, pd.Series(values))
    low, high = axes.get_ylim()
    assert low < min(values) <= max(values) < high
    assert len(axes.get_yticks()) >= 1


def test_what_was_read_at_one_step_is_no_curve(curve, valley):
    table = tables.curves(curve(valley))
    once = table[(table["step"] == 156) | (table["decay"].isin([0.5, 0.9])) | table["phase"]]
    [picture] = figures.curves(once, "test_probe")
    assert {"false, decay 0.5", "false, decay 0.9", "phase true"} <= set(comments(picture.svg))
    assert "false, decay 0.95" not in comments(picture.svg)
    assert "Drawn: 2 of the 9 decays." in picture.caption
    assert figures.curves(table[table["step"] == 156], "test_probe") == []


def test_the_report_draws_all_decays_and_lists_a_few(curve, swept, valley):
    rows = curve(valley, sizes=(2, 128))
    shown = pdf.document(swept(rows, decays=tuple(valley)), rows)
    assert shown["extent"] == "2 of 2 trials finished, 2 trained now; 36 cells"
    assert len(shown["decay_curve"]) == 1
    assert len(shown["bests"]["rows"]) == 2
    assert shown["best"][0].startswith("mnist: the best decay is 0.95 (0.9 to 0.98) at batch size 2 and ")
    assert shown["finding"][0] == "The best decay by RMSE: mnist 0.95 at batch size 2 and 0.95 at 128."
    assert shown["thinned"].startswith("6 of 9 decays are shown here")
    assert len(shown["cells"]["rows"]) == 2 * 6 * 2
    assert {row[3] for row in shown["cells"]["rows"]} == {"0", "0.5", "0.9", "0.99", "0.999", "0.9999"}
    assert shown["shares"]["head"][-6:] == ["0", "0.5", "0.9", "0.99", "0.999", "0.9999"]
    maps = comments(shown["heatmaps"][0]["svg"])
    assert "0.9999" in maps
    assert "0.95" not in maps


def test_a_sweep_of_few_decays_has_no_page_of_the_curve(readings, swept):
    shown = pdf.document(swept(readings), readings)
    assert (shown["decay_curve"], shown["best"], shown["bests"]["rows"], shown["thinned"]) == ([], [], [], "")


@pytest.fixture
def printed(swept):
    def show(rows):
        text = io.StringIO()
        console = Console(file=text, width=110)
        show_gaps(console, rows)
        show_answers(console, swept(rows), rows)
        return text.getvalue().splitlines()

    return show


def test_the_terminal_has_a_line_for_each_trials_best(printed, curve, valley):
    lines = printed(curve(valley, sizes=(2, 128)))
    assert lines[:3] == [
        "best decay by RMSE with phase false on the whole test set",
        "mnist batch b2: decay 0.95 (0.9 to 0.98 within one s.e.), RMSE 0.1000, gap -0.0120 ± 0.0050",
        "mnist batch b128: decay 0.95 (0.9 to 0.98 within one s.e.), RMSE 0.1000, gap -0.0120 ± 0.0050",
    ]
    assert [line.split(":")[0] for line in lines[3:]] == [
        "mnist batch b128, decay 0.9999",
        "mnist batch b128, decay 0.999",
        "mnist batch b2, decay 0.9999",
    ]
    unknown = printed(curve(valley, se=math.nan))
    assert unknown[1] == "mnist batch b128: decay 0.95, RMSE 0.1000, gap -0.0120 ± -"


def test_the_terminal_shows_gaps_where_no_decay_is_best(printed, curve):
    assert "worst first (6 of 6)" in printed(curve(FLAT))[0]
