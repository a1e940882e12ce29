import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from bnlab.report.pictures import histograms
from bnlab.science.histogram import LayerHistogram, histogram

HELD = {
    "weights": "conv",
    "scales": "norm",
    "shifts": "norm",
    "activations": "relu",
    "moving mean": "norm",
    "moving variance": "norm",
}


def rows_of(blocks, steps=(1, 10, 100), kinds=HELD, decay=0.9):
    """Each value is its step times one of -5 .. 5."""
    return [
        LayerHistogram(
            step,
            f"{block}_{HELD[kind]}",
            kind,
            histogram(step * np.linspace(-5, 5, 1001)),
            decay if kind.startswith("moving") else None,
        )
        for step in steps
        for block in blocks
        for kind in kinds
    ]


def dense(kinds=("weights", "biases", "activations"), steps=(1, 10, 100)):
    return [
        LayerHistogram(step, "logits", kind, histogram(np.arange(10))) for step in steps for kind in kinds
    ]


def comments(picture):
    """Matplotlib writes each drawn text as a comment beside its outlines."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(picture.svg, parser=parser)
    return " ".join(node.text.strip() for node in root.iter() if node.tag is ET.Comment)


def test_a_picture_names_blocks_kinds_and_numbers_of_values():
    (picture,) = histograms.pictures("mnist batch b16 s0", rows_of(["block1", "block2"]) + dense())
    drawn = comments(picture)
    for text in ("mnist batch b16 s0", "block1", "block2", "logits", "weights", "activations", "scales"):
        assert text in drawn
    assert ("n = 1,001" in drawn, "n = 10" in drawn) == (True, True)
    assert all(text in drawn for text in (*histograms.FAN, "median", "optimizer step (log scale)"))
    assert picture.caption.startswith("mnist batch b16 s0: ")
    assert picture.caption.endswith("Moving statistics: at decay 0.9.")
    assert "mnist batch b16 s0" in picture.alt


def page(rows):
    (only,) = histograms._pages("label", rows)
    return only


def test_biases_and_shifts_share_a_column_where_no_block_has_both():
    shared = page(rows_of(["block1"]) + dense())
    assert shared.columns == [
        "weights",
        "scales",
        "biases, shifts",
        "activations",
        "moving mean",
        "moving variance",
    ]
    assert {row.layer for row in shared.cells["logits", "biases, shifts"]} == {"logits"}
    assert page(dense()).columns == ["weights", "biases", "activations"]
    bias = [LayerHistogram(1, "block1_conv", "biases", histogram(np.arange(4)))]
    assert page(rows_of(["block1"]) + bias).columns[:4] == ["weights", "biases", "scales", "shifts"]


def test_a_residual_sum_joins_the_line_of_the_block_before_it():
    blocks = rows_of(["stage1_block1_a", "stage1_block1_b"])
    drawn = page([*blocks, *rows_of(["stage1_block1"], kinds=["activations"])])
    assert drawn.lines == ["stage1_block1_a", "stage1_block1_b"]
    assert [row.layer for row in drawn.cells["stage1_block1_b", "residual sum"]] == ["stage1_block1_relu"] * 3
    assert [row.layer for row in drawn.cells["stage1_block1_b", "activations"]] == [
        "stage1_block1_b_relu"
    ] * 3


def test_rows_are_drawn_in_the_order_of_their_steps():
    rows = rows_of(["block1"], steps=(100,)) + rows_of(["block1"], steps=(1, 10))
    assert [row.step for row in page(rows).cells["block1", "weights"]] == [1, 10, 100]


def test_of_several_decays_the_slowest_is_drawn():
    rows = rows_of(["block1"]) + rows_of(["block1"], kinds=["moving mean"], decay=0.99)
    assert {row.decay for row in page(rows).cells["block1", "moving mean"]} == {0.99}
    assert histograms.pictures("label", rows)[0].caption.endswith("Moving statistics: at decay 0.99.")


def test_many_blocks_are_cut_into_even_pages():
    names = [f"block{number}" for number in range(1, 21)]
    pages = histograms._pages("label", rows_of(names, kinds=["activations"]))
    assert [page.title for page in pages] == ["label (1 of 3)", "label (2 of 3)", "label (3 of 3)"]
    assert [len(page.lines) for page in pages] == [7, 7, 6]
    assert [name for page in pages for name in page.lines] == names


def test_a_fan_spans_its_shares_of_the_values():
    drawn = page(rows_of(["block1"], kinds=["activations"]))
    with histograms.drawing(drawn.size) as (figure, _):
        axes = figure.subplots()
        histograms._plot(axes, drawn.cells["block1", "activations"])
        (median,) = axes.get_lines()
        assert median.get_xdata().tolist() == [1, 10, 100]
        assert median.get_ydata() == pytest.approx([0, 0, 0], abs=1)
        widths = [np.ptp(band.get_paths()[0].vertices[:, 1]) for band in axes.collections]
        # All values, then 98, 90 and 50 in a hundred of -500 .. 500, to a thousandth.
        assert widths == pytest.approx([1000, 980, 900, 500], abs=1)


def test_one_step_is_drawn_as_a_stretch():
    drawn = page(rows_of(["block1"], steps=(40,), kinds=["activations"]))
    with histograms.drawing(drawn.size) as (figure, _):
        axes = figure.subplots()
        histograms._plot(axes, drawn.cells["block1", "activations"])
        assert axes.get_lines()[0].get_xdata().tolist() == [34.0, 46.0]


def test_values_that_are_not_finite_are_said():
    broken = LayerHistogram(1, "logits", "activations", histogram(np.array([1.0, 2.0, np.nan])))
    assert "n = 2, 1 not finite" in comments(histograms.pictures("label", [broken])[0])


def test_files_are_png_named_by_page_and_equal_each_time():
    rows = rows_of(["block1"], kinds=["weights", "activations"])
    one = histograms.pngs("label", rows)
    assert list(one) == ["histograms.png"]
    assert one["histograms.png"][:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">I", one["histograms.png"][16:20]) == (int(histograms.WIDTH * 200),)
    assert histograms.pngs("label", rows) == one
    many = histograms.pngs("label", rows_of([f"b{n}" for n in range(10)], kinds=["activations"]))
    assert list(many) == ["histograms-1.png", "histograms-2.png"]


def test_nothing_is_drawn_of_nothing():
    assert histograms.pictures("label", []) == []
    assert histograms.pngs("label", []) == {}
