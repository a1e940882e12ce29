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
from bnlab.report import best, decay_curve, decays, drawing, figures, pages, pdf, tables
from bnlab.report.finding import finding

# RMSE with phase false at nine decays: a valley at 0.95. Phase true has 0.112.
VALLEY = {
    0.0: 0.2,
    0.5: 0.13,
    0.8: 0.11,
    0.9: 0.104,
    0.95: 0.1,
    0.98: 0.102,
    0.99: 0.12,
    0.999: 0.2,
    0.9999: 0.3,
}
FLAT = dict.fromkeys(VALLEY, 0.12)
FORTY = tuple(n / 40 for n in range(40))


@pytest.fixture
def curve(made):
    """Readings of one trial or more, with this RMSE at each decay, and accuracy = 1 - 2 RMSE."""

    def valley(values, se=0.005, true=0.112, **settings):
        rows = made(**{"norms": ("batch",), "sizes": (128,), "decays": tuple(values), **settings})
        rmse = rows["decay"].map(values).astype(float).mask(rows["phase"], true)
        gap = (rmse - true).mask(rows["phase"])
        errors = {"rmse_gap_se": se, "accuracy_gap_se": 2 * se}
        return rows.assign(rmse=rmse, accuracy=1 - 2 * rmse, rmse_gap=gap, accuracy_gap=-2 * gap, **errors)

    return valley


def found(rows, metric="rmse"):
    return best.best(tables.gaps(rows), metric)


def test_the_best_decay_is_the_lowest_point_and_its_range_what_lies_within_its_error(curve):
    [row] = found(curve(VALLEY)).to_dict("records")
    assert (row["task"], row["norm"], row["batch_size"], row["steps"]) == ("mnist", "batch", 128, 156)
    assert (row["decay"], row["fastest"], row["slowest"], row["at_end"]) == (0.95, 0.9, 0.98, False)
    assert [row["value"], row["gap"], row["gap_se"]] == pytest.approx([0.1, -0.012, 0.005])
    assert found(curve(VALLEY, se=0.0041)).loc[0, ["fastest", "slowest"]].tolist() == [0.9, 0.98]
    assert found(curve(VALLEY, se=0.0039)).loc[0, ["fastest", "slowest"]].tolist() == [0.95, 0.98]
    assert found(curve(VALLEY, se=0.001)).loc[0, ["fastest", "slowest"]].tolist() == [0.95, 0.95]


def test_the_best_accuracy_is_the_highest(curve):
    [row] = found(curve(VALLEY), "accuracy").to_dict("records")
    assert (row["decay"], row["fastest"], row["slowest"]) == (0.95, 0.9, 0.98)
    assert [row["value"], row["gap"], row["gap_se"]] == pytest.approx([0.8, 0.024, 0.01])


def test_of_equal_decays_the_fastest_is_best_and_a_worse_one_ends_the_range(curve):
    [row] = found(curve(VALLEY | {0.5: 0.1})).to_dict("records")
    assert (row["decay"], row["fastest"], row["slowest"]) == (0.5, 0.5, 0.5)


def test_a_value_that_is_not_a_number_is_never_best_and_ends_the_range(curve):
    [row] = found(curve(VALLEY | {0.95: math.nan})).to_dict("records")
    assert (row["decay"], row["fastest"], row["slowest"]) == (0.98, 0.98, 0.98)
    [row] = found(curve(VALLEY | {0.0: math.nan, 0.5: 0.05})).to_dict("records")
    assert (row["decay"], row["at_end"]) == (0.5, True)


@pytest.mark.parametrize(
    "values",
    [FLAT, {0.9: 0.1}, {0.9: 0.1, 0.99: math.nan}, dict.fromkeys(VALLEY, math.nan)],
    ids=["without moving statistics", "one decay", "one number", "no number"],
)
def test_no_best_is_named_where_there_is_none(curve, values):
    table = tables.gaps(curve(values))
    assert best.best(table).empty
    assert best.named(best.best(table)) == ""
    assert best.sentences(table) == []
    assert pages.best_decays(table)["rows"] == []


def test_controls_and_regressors_that_learned_nothing_have_no_best(curve, regressed):
    assert found(curve(VALLEY, norms=("group",))).empty
    assert found(regressed(curve(VALLEY), constant=0.15)).empty
    assert found(regressed(curve(VALLEY), constant=0.3))["decay"].tolist() == [0.95]
    assert found(regressed(curve(VALLEY)), "accuracy").empty


def test_without_a_standard_error_the_range_is_unknown(curve):
    rows = curve(VALLEY, se=math.nan)
    assert found(rows)[["fastest", "slowest"]].isna().all(axis=None)
    assert best.sentences(tables.gaps(rows))[0].startswith(
        "mnist: the best decay is 0.95 (range unknown) at batch size 128. "
    )


def test_several_seeds_are_taken_together(curve):
    rows = curve(VALLEY, seeds=(0, 1))
    second = (rows["seed"] == 1) & ~rows["phase"]
    own = {"rmse": rows["rmse"] + 0.004 * second, "rmse_gap": rows["rmse_gap"] + 0.004 * second}
    [row] = found(rows.assign(**own)).to_dict("records")
    assert row["decay"] == 0.95
    assert row["value"] == pytest.approx(0.102)
    assert row["gap_se"] == pytest.approx(0.002)  # two values 0.004 apart


def test_the_best_decays_and_the_price_of_the_usual_ones_are_said(curve):
    parts = [
        curve(VALLEY, sizes=(2, 128)),
        curve(VALLEY | {0.9999: 0.09}, sizes=(8,)),
        curve(VALLEY, norms=("ghost",), tasks=("cifar",)),
    ]
    rows = pd.concat(parts, ignore_index=True)
    assert best.sentences(tables.gaps(rows)) == [
        "cifar with ghost normalization: the best decay is 0.95 (0.9 to 0.98) at batch size 128. "
        "0.9 (PyTorch's default) costs up to 0.0040 of RMSE, at batch size 128; "
        "0.99 (Keras's default) costs up to 0.0200 of RMSE, at batch size 128.",
        "mnist: the best decay is 0.95 (0.9 to 0.98) at batch size 2, "
        "0.9999 (0.9999 to 0.9999, the end of those measured) at 8 and 0.95 (0.9 to 0.98) at 128. "
        "0.9 (PyTorch's default) costs up to 0.0140 of RMSE, at batch size 8; "
        "0.99 (Keras's default) costs up to 0.0300 of RMSE, at batch size 8.",
    ]
    assert finding(rows).sentences[0] == (
        "The best decay by RMSE: cifar with ghost normalization 0.95 at batch size 128; "
        "mnist 0.95 at batch size 2, 0.9999 (the end of those measured) at 8 and 0.95 at 128."
    )


def test_a_usual_decay_that_was_not_measured_has_no_price(curve):
    values = {0.91 if decay == 0.9 else decay: rmse for decay, rmse in VALLEY.items()}
    [sentence] = best.sentences(tables.gaps(curve(values)))
    assert "PyTorch" not in sentence
    assert "0.99 (Keras's default) costs up to 0.0200" in sentence
    assert "gap at 0.9" not in pages.best_decays(tables.gaps(curve(values)))["head"]


def test_few_decays_have_no_finding_of_their_own(curve):
    few = {decay: VALLEY[decay] for decay in (0.5, 0.9, 0.95, 0.99)}
    rows = curve(few)
    assert finding(rows).best == ""
    assert decay_curve.decay_curve(tables.gaps(rows)) == []
    assert decays.note(rows) == ""
    assert len(decays.thinned(rows)) == len(rows)


def test_the_table_has_a_line_for_each_trial(curve, regressed):
    rows = curve(VALLEY)
    shown = pages.best_decays(tables.gaps(rows))
    assert shown["head"] == [
        *("task", "batch size", "steps", "best decay", "within 1 se", "RMSE", "gap", "± se"),
        *("gap at 0.9", "gap at 0.99", "accuracy", "best accuracy"),
    ]
    assert shown["rows"] == [
        [
            *("mnist", "128", "156", "0.95", "0.9 to 0.98", "0.1000", "−0.0120", "0.0050"),
            *("−0.0080", "+0.0080", "0.8000", "0.8000 at 0.95"),
        ]
    ]
    assert "accuracy" not in pages.best_decays(tables.gaps(regressed(rows)))["head"]
    several = pages.best_decays(tables.gaps(curve(VALLEY, norms=("batch", "ghost"))))
    assert several["head"][1] == "norm"


def test_round_decays_stand_for_many():
    assert decays.few(np.array(list(VALLEY))).tolist() == [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    assert decays.few(np.array([*VALLEY, 0.99995])).tolist() == [0, 0.9, 0.99, 0.999, 0.99995]
    forty = np.array(FORTY)  # 0.5 and 0.9 are the only round ones beside 0
    assert decays.few(forty).tolist() == [0.0, 0.525, 0.775, 0.9, 0.95, 0.975]
    assert decays.shown(tuple(VALLEY)).tolist() == [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    assert decays.shown(list(VALLEY)[:8]).tolist() == list(VALLEY)[:8]


def test_thinning_keeps_phase_true_and_says_what_is_left(curve):
    rows = curve(VALLEY)
    few = decays.thinned(rows)
    assert few["phase"].sum() == rows["phase"].sum()
    assert decays.measured(few).tolist() == [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    assert decays.note(rows) == "6 of 9 decays are shown here: 0, 0.5, 0.9, 0.99, 0.999, 0.9999."


def comments(svg):
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    return [node.text.strip() for node in ET.fromstring(svg, parser=parser).iter() if node.tag is ET.Comment]


def test_the_picture_has_a_plot_for_each_metric_and_a_line_for_each_batch_size(curve, regressed):
    rows = curve(VALLEY, tasks=("mnist", "cifar"), sizes=(2, 128))
    [picture] = decay_curve.decay_curve(tables.gaps(rows))
    drawn = comments(picture.svg)
    assert (drawn.count("RMSE"), drawn.count("accuracy"), drawn.count("mnist")) == (2, 2, 2)
    assert {"batch size 2", "batch size 128", "phase true", "best, within one s.e."} <= set(drawn)
    assert {"0", "0.9", "0.99", "0.999", "0.9999"} <= set(drawn)
    assert "at 9 decays of the same weights" in picture.caption
    assert "chosen on the very images drawn" in picture.caption
    [blind] = decay_curve.decay_curve(tables.gaps(regressed(curve(VALLEY, seeds=(0, 1)))))
    assert "accuracy" not in comments(blind.svg)
    assert blind.caption.endswith("Means over n = 2 seeds.")
    assert len(decay_curve.decay_curve(tables.gaps(curve(VALLEY, tasks=tuple("abcd"))))) == 2


def test_the_curve_the_best_and_phase_true_stand_where_they_were_measured(curve):
    rows = tables.gaps(curve(VALLEY)).sort_values("decay")
    axes = Figure().subplots()
    decay_curve.draw(axes, decay_curve.Plot(rows, "rmse", best.best(rows)), {128: "#c8502a"})
    whole, true, near, dot = axes.get_lines()
    assert whole.get_xdata() == pytest.approx(-np.log10(1 - np.array(list(VALLEY))))
    assert whole.get_ydata() == pytest.approx(list(VALLEY.values()))
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


def test_what_was_read_at_one_step_is_no_curve(curve):
    table = tables.curves(curve(VALLEY))
    once = table[(table["step"] == 156) | (table["decay"].isin([0.5, 0.9])) | table["phase"]]
    [picture] = figures.curves(once, "test_probe")
    assert {"false, decay 0.5", "false, decay 0.9", "phase true"} <= set(comments(picture.svg))
    assert "false, decay 0.95" not in comments(picture.svg)
    assert figures.curves(table[table["step"] == 156], "test_probe") == []


def test_the_report_draws_all_decays_and_lists_a_few(curve, swept):
    rows = curve(VALLEY, sizes=(2, 128))
    shown = pdf.document(swept(rows, decays=tuple(VALLEY)), rows)
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


def test_the_terminal_has_a_line_for_each_trials_best(printed, curve):
    lines = printed(curve(VALLEY, sizes=(2, 128)))
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
    unknown = printed(curve(VALLEY, se=math.nan))
    assert unknown[1] == "mnist batch b128: decay 0.95, RMSE 0.1000, gap -0.0120 ± -"


def test_the_terminal_shows_gaps_where_no_decay_is_best(printed, curve):
    assert "worst first (6 of 6)" in printed(curve(FLAT))[0]
