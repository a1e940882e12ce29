import math
import xml.etree.ElementTree as ET
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from bnlab.report.numbers import tables
from bnlab.report.numbers.clues import tidied
from bnlab.report.numbers.decays import spread_out
from bnlab.report.numbers.remedies import remedies
from bnlab.report.numbers.rows import tidy
from bnlab.report.pictures import drawing, figures, heatmaps
from bnlab.report.pictures.remedies import remedies as closing
from tests.report import clued


def comments(picture):
    """Matplotlib writes each drawn text as a comment beside its outlines."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(picture.svg, parser=parser)
    return [node.text.strip() for node in root.iter() if node.tag is ET.Comment]


def test_the_overview_labels_its_panels_and_lines(readings):
    (picture,) = figures.overview(tables.levels(readings))
    drawn = comments(picture)
    assert {"batch size 2", "batch size 128", "mnist", "0.9", "0.999"} <= set(drawn)
    assert {"phase true (batch statistics)", "phase false (moving statistics)"} <= set(drawn)
    assert "group normalization" in drawn
    assert "against the decay" in picture.caption
    assert picture.alt


def test_the_heat_map_writes_the_signed_gaps(readings):
    (picture,) = heatmaps.heatmaps(tables.gaps(readings), "rmse")
    assert {"+0.214", "+0.022", "−0.019", "−0.006", "0.000"} <= set(comments(picture))


def test_no_heat_map_of_a_metric_that_was_not_measured(readings):
    gaps = tables.gaps(readings.assign(accuracy_gap=math.nan))
    assert heatmaps.heatmaps(gaps, "accuracy") == []


def test_several_seeds_are_said_in_the_caption(made):
    rows = made(seeds=(0, 1, 2), shift=0.01)
    note = "n = 3 seeds"
    assert note in figures.overview(tables.levels(rows))[0].caption
    assert note in figures.curves(tables.curves(rows), "test_probe")[0].caption


def test_many_rows_of_panels_are_cut_into_pages(made):
    rows = made(tasks=tuple("abcdefg"), norms=("batch",), sizes=(2, 8, 32))
    assert len(figures.overview(tables.levels(rows))) == 2
    assert len(figures.curves(tables.curves(rows), "test_probe")) == 2
    assert len(heatmaps.heatmaps(tables.gaps(rows), "rmse")) == 1


def test_many_single_panels_stand_abreast_under_their_names(made):
    tasks = tuple(f"mnist, dropout 0.5, deviation 0.00{n}" for n in range(1, 9))
    (picture,) = figures.overview(tables.levels(made(tasks=tasks, norms=("batch",), sizes=(2,))))
    drawn = comments(picture)
    assert drawn.count("mnist, dropout 0.5,") == drawn.count("batch size 2") == 8
    assert [name for name in drawn if "deviation" in name] == [f"deviation 0.00{n}" for n in range(1, 9)]


def test_of_many_decays_the_extremes_stay(made):
    decays = tuple(np.linspace(0.5, 0.999, 40).round(4))
    shown = spread_out(np.array(decays), 5)
    assert (shown[0], shown[-1], len(shown)) == (0.5, 0.999, 5)
    (picture,) = figures.curves(tables.curves(made(decays=decays, sizes=(2,))), "test_probe")
    assert "Drawn: 5 of the 40 decays." in picture.caption


def test_labels_of_decays_stand_apart():
    axes = Figure().subplots()
    drawing.decay_axis(axes, np.linspace(0.5, 0.999, 40).round(4))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert {"0.5", "0.999"} <= set(labels)
    places = np.sort(axes.get_xticks())
    assert np.diff(places).min() / np.ptp(places) > 0.2


@pytest.mark.parametrize("decays", [[], [0.9], [1.0], [0.0, 1.0]])
def test_any_decay_has_a_place(decays):
    axes = Figure().subplots()
    drawing.decay_axis(axes, np.array(decays))
    low, high = axes.get_xlim()
    assert low < high
    assert len(axes.get_xticks()) == len(decays)


@pytest.mark.parametrize(
    ("values", "scale"),
    [([0.1, 0.2], "linear"), ([0.1, math.inf, 30.0], "log"), ([], "linear"), ([0.3], "linear")],
)
def test_an_axis_of_values_spans_what_is_finite(values, scale):
    axes = Figure().subplots()
    drawing.value_axis(axes, pd.Series(values, dtype=float))
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale
    assert -math.inf < low < high < math.inf


def test_the_reader_of_the_package_keeps_their_own_style(readings):
    with matplotlib.rc_context({"font.size": 33, "svg.hashsalt": None, "axes.grid": False}):
        (mine,) = figures.overview(tables.levels(readings))
        assert matplotlib.rcParams["font.size"] == 33
    (again,) = figures.overview(tables.levels(readings))
    assert mine == again


def test_the_constant_predictor_is_drawn_where_it_is_near(readings):
    (near,) = figures.overview(tables.levels(readings))
    assert "constant predictor" in comments(near)
    (far,) = figures.overview(tables.levels(readings.assign(constant_rmse=5.0)))
    assert "constant predictor" not in comments(far)
    (unknown,) = figures.overview(tables.levels(readings.assign(constant_rmse=math.nan)))
    assert "constant" not in unknown.caption


def test_pictures_say_which_images_were_read_last(made):
    rows = made(final="train")
    assert "RMSE on all images trained on" in figures.overview(tables.levels(rows))[0].caption
    assert "on all images trained on" in heatmaps.heatmaps(tables.gaps(rows), "rmse")[0].caption


def test_a_regressor_has_no_map_of_accuracy(made, regressed):
    rows = made(tasks=("mnist", "other"), norms=("batch",))
    mixed = pd.concat([rows[rows["task"] == "mnist"], regressed(rows[rows["task"] == "other"])])
    (picture,) = heatmaps.heatmaps(tables.gaps(mixed), "accuracy")
    drawn = comments(picture)
    assert "mnist, batch normalization" in drawn
    assert "other, batch normalization" not in drawn


def test_trials_of_one_batch_size_share_a_map(made):
    tasks = tuple(f"mnist, dropout 0.{n}" for n in range(1, 5))
    (picture,) = heatmaps.heatmaps(tables.gaps(made(tasks=tasks, norms=("batch",), sizes=(128,))), "rmse")
    drawn = comments(picture)
    assert {"mnist, batch normalization, batch", "size 128"} <= set(drawn)
    assert [text for text in drawn if text.startswith("dropout")] == [f"dropout 0.{n}" for n in (4, 3, 2, 1)]
    assert drawn.count("+0.214") == 4


def test_names_stand_in_the_order_of_their_numbers(made):
    tasks = tuple(f"mnist, steps {steps}" for steps in (1600, 800, 3200, 400))
    (picture,) = figures.overview(tables.levels(made(tasks=tasks, norms=("batch",), sizes=(2,))))
    titles = [text for text in comments(picture) if text.startswith("mnist")]
    assert titles == [f"mnist, steps {steps}" for steps in (400, 800, 1600, 3200)]


@pytest.fixture
def labels(monkeypatch):
    """The places of all titles and names of axes, a list for each figure, with the figure's own."""
    found = []
    save = Figure.savefig

    def place(figure, *args, **kwargs):
        save(figure, *args, **kwargs)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        names = [
            text
            for axes in figure.axes
            for text in (axes.title, axes.yaxis.label, *axes.get_yticklabels())
            if any(map(str.isalpha, text.get_text()))
        ]
        found.append((figure.bbox, [text.get_window_extent(canvas.get_renderer()) for text in names]))

    monkeypatch.setattr(Figure, "savefig", place)
    return found


@pytest.mark.parametrize("sizes", [(128,), (2, 128), (2, 8, 32, 128)], ids=str)
def test_no_title_of_a_sweep_of_faults_overlaps_or_is_cut(made, labels, sizes):
    names = ("schedule constant", "fault two_sources", "fault batch_of_one", "fault decay_reversed")
    more = ("fault half_precision", "fault hot, schedule constant", "fault sorted")
    tasks = [task for base in ("cifar", "mnist") for task in (base, *(f"{base}, {n}" for n in names + more))]
    rows = made(tasks=tuple(tasks), norms=("batch",), sizes=sizes)
    drawn = [
        *figures.overview(tables.levels(rows)),
        *figures.curves(tables.curves(rows), "test_probe"),
        *heatmaps.heatmaps(tables.gaps(rows), "rmse"),
        *closing(counted(rows)),
    ]
    assert len(labels) == len(drawn)
    assert not any("…" in text for picture in drawn for text in comments(picture))
    for page, boxes in labels:
        assert min(box.x0 for box in boxes) >= page.x0 - 1
        assert max(box.x1 for box in boxes) <= page.x1 + 1
        assert max(box.y1 for box in boxes) <= page.y1 + 1
        assert not [pair for pair in combinations(boxes, 2) if Bbox.intersection(*pair)]


def counted(rows):
    """Two remedies of each trial without a fault."""
    healthy = [row for row in clued.trials(rows) if "fault" not in row["task"]]
    own = [clued.remedy(row, name, 0.001) for row in healthy for name in ("mixed", "population n4096")]
    table = tidy(rows)
    return remedies(tidied(clued.table(*own), table), table)


def test_a_trial_with_nothing_to_tell_it_apart_is_plain(made):
    rows = made(tasks=("mnist", "mnist, fault sorted"), norms=("batch",), sizes=(128,))
    (picture,) = heatmaps.heatmaps(tables.gaps(rows), "rmse")
    assert {"plain", "fault sorted"} <= set(comments(picture))
