import pytest

from bnlab.report import pdf
from bnlab.report.numbers.clues import tidied
from bnlab.report.numbers.layers import layers
from bnlab.report.numbers.rows import tidy
from bnlab.report.pictures.layers import layers as pictures
from bnlab.report.words.layers import sentences
from tests.report import clued

PARTS = {"stem": 0.05, "block_2": 0.1, "block_10": 0.06, "head": -0.01}
"""A gap of .2; the model's order is not that of the names."""
DISTANCES = {"mean_shift": 0.5, "log_variance": -1.25, "kl": 0.75, "worst_kl": 3.0, "worst_channel": 17}


WHOLE = "the difference to population statistics"
SMALL = f"No shares where {WHOLE} is within two standard errors of 0: mnist, batch size 128, decay"


@pytest.fixture
def batch(made):
    return made(norms=("batch",), sizes=(128,))


def counted(readings, *rows):
    return layers(tidied(clued.table(*rows), tidy(readings)))


def told(row, whole_se=0.02, **where):
    ways = [
        clued.clue(row, f"{way} population", name, scale * value, 0.004, **where)
        for way, scale in (("alone", 0.5), ("left", 2.0))
        for name, value in PARTS.items()
    ]
    far = [
        clued.clue(row, "distance", name, value, metric=metric, **where)
        for name in PARTS
        for metric, value in DISTANCES.items()
    ]
    return [*clued.layers(row, PARTS, whole_se, **where), *ways, *far]


def test_a_share_is_a_part_of_the_sum_of_all(batch):
    table = counted(batch, told(clued.trials(batch)[0]))
    assert table["layer"].tolist() == list(PARTS)
    assert table["share"].tolist() == pytest.approx([0.25, 0.5, 0.3, -0.05])
    assert table["share_se"].tolist() == pytest.approx([0.05] * 4)
    assert table["gap"].tolist() == pytest.approx([0.2] * 4)
    assert table["alone_part"].tolist() == pytest.approx([0.025, 0.05, 0.03, -0.005])
    assert table["left_part"].tolist() == pytest.approx([0.1, 0.2, 0.12, -0.02])
    assert table["worst_channel"].tolist() == [17] * 4


@pytest.mark.parametrize("whole_se", [0.1, float("nan")], ids=["within two", "unknown"])
def test_no_share_is_known_within_two_standard_errors(batch, whole_se):
    table = counted(batch, told(clued.trials(batch)[0], whole_se))
    assert not table["counts"].any()
    assert table["share"].isna().all()
    assert sentences(table) == [f"{SMALL} 0.999."]


def test_each_decay_is_judged_by_its_own_gap(batch, swept):
    (row,) = clued.trials(batch)
    clues = clued.table(told(row, 0.02, decay=0.999), told(row, 0.2, decay=0.9))
    shown = pdf.document(swept(batch), batch, clues=clues)["by_layer"]
    assert shown["said"] == [
        f"For mnist, batch size 128, decay 0.999, block_2 has 50 % ± 5 % of {WHOLE}, "
        "+0.2000 ± 0.0200: the most of 4 layers.",
        f"{SMALL} 0.9.",
    ]
    table = shown["table"]
    assert (shown["whole"], table["head"][1]) == (WHOLE, f"part of {WHOLE}")
    assert table["titles"] == {
        "0": "mnist, batch size 128, decay 0.9",
        "4": "mnist, batch size 128, decay 0.999",
    }
    assert [row[2] for row in table["rows"]] == ["–"] * 4 + [
        "25 % ± 5 %",
        "50 % ± 5 %",
        "30 % ± 5 %",
        "−5 % ± 5 %",
    ]
    assert table["rows"][5] == [
        *("block_2", "+0.1000 ± 0.0100", "50 % ± 5 %", "+0.0500 ± 0.0040", "+0.2000 ± 0.0040"),
        *("0.5000", "−1.2500", "0.7500", "3.0000", "17"),
    ]


def test_taken_to_the_batch_layers_add_up_to_the_gap(batch, swept):
    (row,) = clued.trials(batch)
    clues = clued.table(
        clued.layers(row, PARTS, 0.02, target="batch"),
        clued.layers(row, PARTS, 0.2, target="batch", decay=0.9),
    )
    page = pdf.document(swept(batch), batch, clues=clues)
    shown = page["by_layer"]
    assert shown["said"] == [
        "For mnist, batch size 128, decay 0.999, block_2 has 50 % ± 5 % of the gap, +0.2000 ± 0.0200: "
        "the most of 4 layers.",
        "No shares where the gap is within two standard errors of 0: mnist, batch size 128, decay 0.9.",
    ]
    assert (shown["whole"], shown["table"]["head"][1]) == ("the gap", "part of the gap")
    assert (
        "Share of the whole (the gap), with one standard error, which takes the whole as known"
        in (page["layer_bars"][0]["caption"])
    )


def test_each_target_is_told_by_its_own_whole(batch, swept):
    (row,) = clued.trials(batch)
    clues = clued.table(
        *(clued.layers(row, PARTS, 0.02, target=target) for target in ("batch", "population"))
    )
    shown = pdf.document(swept(batch), batch, clues=clues)["by_layer"]
    assert [sentence.split(" of ")[1] for sentence in shown["said"]] == [
        "the gap, +0.2000 ± 0.0200: the most",
        f"{WHOLE}, +0.2000 ± 0.0200: the most",
    ]
    assert shown["table"]["head"][1] == f"part of the gap, or {WHOLE}"


def test_distances_alone_make_no_page(batch, swept):
    (row,) = clued.trials(batch)
    clues = clued.table([clued.clue(row, "distance", "norm", 0.5, metric="kl")])
    shown = pdf.document(swept(batch), batch, clues=clues)
    assert shown["by_layer"]["table"]["rows"] == shown["layer_bars"] == []


def test_many_layers_take_the_whole_width(made):
    rows = made(norms=("batch",), seeds=(0, 1, 2))
    names = {f"stage_1_block_{n}_norm": 0.01 for n in range(19)}
    own = [clued.layers(row, names, 0.001) for row in clued.trials(rows)]
    drawn = pictures(counted(rows, *own))
    assert len(drawn) == 4
    assert "Drawn: the 4 of 6 trials with the largest gaps." in drawn[0].caption
    assert "stage_1_block_18_norm" in drawn[0].svg
