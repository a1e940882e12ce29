import pandas as pd
import pytest

from bnlab.report import parts, pdf
from bnlab.report.numbers import causes
from bnlab.report.numbers.clues import NO_CLUES, plain, tidied
from bnlab.report.numbers.rows import tidy
from bnlab.report.numbers.tables import gaps
from bnlab.report.pictures.causes import stacks, waterfalls
from bnlab.report.words import causes as words
from tests.report import clued

PARTS = {"lag": 0.2, "noise": 0.03, "bias": 0.001, "shift": -0.007, "batch": -0.01}
"""They add up to .214, the gap of batches of 128 at decay .999."""
ACCURACY = {name: -2 * value for name, value in PARTS.items()}


@pytest.fixture
def batch(made):
    return made(norms=("batch",), sizes=(128,), decays=(0.999,))


@pytest.fixture
def clues(batch):
    (row,) = clued.trials(batch)
    return clued.table(
        clued.causes(row, PARTS),
        clued.causes(row, ACCURACY, metric="accuracy"),
        clued.causes(row, {**PARTS, "shift": 0.0}, split="train_probe"),
        clued.causes(row, {"lag": 9.0}, split="test_probe"),
        clued.causes(row, {"deployment": 9.0}, drill="not_restored"),
    )


def counted(clues, readings):
    rows = tidy(readings)
    own = plain(tidied(clues, rows), ())
    return causes.parts(own), causes.totals(own, rows)


def test_the_parts_stand_in_the_order_of_the_chain_and_add_up_to_the_gap(clues, batch):
    table, whole = counted(clues, batch)
    own = table[table["metric"] == "rmse"]
    assert dict(zip(own["cause"], own["value"], strict=True)) == PARTS
    assert own["cause"].tolist() == list(PARTS)
    assert own["se"].tolist() == [0.002] * 5
    assert own["beyond"].tolist() == [True, True, False, True, True]
    cell = whole[whole["metric"] == "rmse"].iloc[0]
    assert cell["value"] == pytest.approx(0.214)
    assert cell["se"] == pytest.approx(0.003)  # the readings' own
    assert whole.loc[whole["metric"] == "accuracy", "value"].item() == pytest.approx(-0.428)


def test_over_seeds_the_error_is_that_of_their_mean(made):
    rows = made(norms=("batch",), sizes=(128,), decays=(0.999,), seeds=(0, 1))
    one, other = clued.trials(rows)
    clues = clued.table(
        clued.causes(one, {"lag": 0.2, "noise": 0.01}), clued.causes(other, {"lag": 0.24, "noise": 0.01})
    )
    table, whole = counted(clues, rows)
    lag = table.set_index("cause").loc["lag"]
    # sd of .20 and .24 is .04 / sqrt 2; over sqrt 2 again .02
    assert lag[["value", "sd", "se", "seeds"]].tolist() == pytest.approx([0.22, 0.04 / 2**0.5, 0.02, 2])
    assert whole[["value", "se"]].to_numpy().tolist() == [pytest.approx([0.23, 0.02])]


def test_the_way_leads_from_phase_false_to_phase_true(clues, batch):
    table, _ = counted(clues, batch)
    falls = causes.falls(table, gaps(batch))
    assert falls["before"].tolist() == pytest.approx([0.326, 0.126, 0.096, 0.095, 0.102])
    assert falls["after"].tolist() == pytest.approx([0.126, 0.096, 0.095, 0.102, 0.112])
    assert falls["true"].tolist() == [0.112] * 5


def test_the_tables_show_each_part_with_its_error_and_what_counts_in_bold(clues, batch, swept):
    shown = pdf.document(swept(batch), batch, clues=clues)["causes"]
    assert shown["rmse"]["head"] == [
        *("task", "batch size", "decay", "gap", "lag", "noise", "bias", "shift", "batch")
    ]
    assert shown["rmse"]["rows"] == [
        [
            *("mnist", "128", "0.999", "+0.2140 ± 0.0030", "+0.2000 ± 0.0020", "+0.0300 ± 0.0020"),
            *("+0.0010 ± 0.0020", "−0.0070 ± 0.0020", "−0.0100 ± 0.0020"),
        ]
    ]
    assert shown["rmse"]["bold"] == [[0, 3], [0, 4], [0, 5], [0, 7], [0, 8]]
    assert shown["accuracy"]["rows"][0][3:5] == ["−0.4280 ± 0.0060", "−0.4000 ± 0.0020"]
    assert "shift" not in shown["training"]["head"]
    assert shown["training"]["rows"][0][4] == "+0.2000 ± 0.0020"
    assert [cause for cause, _ in shown["meanings"]] == list(PARTS)


def test_deployment_has_a_column_where_it_is_present(batch):
    (row,) = clued.trials(batch)
    table, whole = counted(clued.table(clued.causes(row, {"deployment": 0.1, **PARTS})), batch)
    assert parts.causes(table, whole, "rmse")["head"][3:6] == ["gap", "deployment", "lag"]


def test_the_largest_parts_and_the_rest_are_said(clues, batch):
    (line,) = words.lines(*counted(clues, batch))
    assert line == (
        "mnist batch b128, decay 0.999: gap +0.2140 ± 0.0030: "
        "lag +0.2000 ± 0.0020, noise +0.0300 ± 0.0020, batch -0.0100 ± 0.0020, the rest -0.0060"
    )
    assert words.sentences(*counted(clues, batch)) == [
        "For mnist, batch size 128, decay 0.999, the RMSE gap is +0.2140 ± 0.0030: "
        "lag +0.2000 ± 0.0020, noise +0.0300 ± 0.0020, batch -0.0100 ± 0.0020, the rest -0.0060."
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"lag": 0.2, "noise": 0.0083, "bias": 0.00004},
            "gap +0.2083 ± 0.0030: lag +0.2000 ± 0.0020, noise +0.0083 ± 0.0020",
        ),
        (
            {"lag": 0.1796, "noise": 0.0290, "batch": -0.0003},
            "gap +0.2083 ± 0.0030: lag +0.1796 ± 0.0020, noise +0.0290 ± 0.0020, the rest -0.0003",
        ),
        (
            {"lag": 0.10004, "noise": 0.10004},
            "gap +0.2001 ± 0.0030: lag +0.1000 ± 0.0020, noise +0.1000 ± 0.0020, the rest +0.0001",
        ),
        (
            {"lag": 0.0039, "noise": 0.0039},
            "gap +0.0078 ± 0.0030: no part is beyond two standard errors",
        ),
    ],
    ids=["no rest", "a rest", "as shown", "no part"],
)
def test_all_that_is_said_of_a_gap_adds_up(batch, values, said):
    (row,) = clued.trials(batch)
    (line,) = words.lines(*counted(clued.table(clued.causes(row, values)), batch))
    assert line == f"mnist batch b128, decay 0.999: {said}"


def test_a_part_that_is_shown_as_nothing_is_neither_named_nor_bold(batch):
    (row,) = clued.trials(batch)
    own = [clued.clue(row, "cause", "lag", 0.2, 0.002), clued.clue(row, "cause", "noise", 0.00004, 0.000001)]
    table, whole = counted(clued.table(own), batch)
    assert table["beyond"].all()
    assert parts.causes(table, whole, "rmse")["bold"] == [[0, 3], [0, 4]]
    assert words.lines(table, whole)[0].endswith("gap +0.2000 ± 0.0030: lag +0.2000 ± 0.0020")


def test_a_gap_within_two_errors_has_no_sentence(batch):
    (row,) = clued.trials(batch)
    table, whole = counted(clued.table(clued.causes(row, {"lag": 0.004})), batch)
    assert not whole["beyond"].any()
    assert words.lines(table, whole) == []


def test_a_part_that_is_no_number_leaves_no_whole(batch):
    (row,) = clued.trials(batch)
    table, whole = counted(clued.table(clued.causes(row, {"lag": float("nan"), "noise": 0.1})), batch)
    assert whole["value"].isna().all()
    assert causes.falls(table, gaps(batch)).empty
    assert parts.causes(table, whole, "rmse")["rows"][0][3:] == [
        "– ± 0.0030",
        "– ± 0.0020",
        "+0.1000 ± 0.0020",
    ]
    assert waterfalls(causes.falls(table, gaps(batch)), whole) == []


def test_only_the_largest_gaps_have_a_picture(made):
    rows = made(norms=("batch",), decays=tuple(n / 10 for n in range(9)))
    own = [
        clued.causes(row, {"lag": 0.01 * (1 + n)}, decay=n / 10)
        for row in clued.trials(rows)
        for n in range(9)
    ]
    table, whole = counted(clued.table(*own), rows)
    (picture,) = waterfalls(causes.falls(table, gaps(rows)), whole)
    assert "Drawn: the 12 largest of 18 gaps." in picture.caption
    assert len(stacks(table, whole)) == 1


@pytest.mark.parametrize(
    "empty", [NO_CLUES, pd.DataFrame(columns=["trial", "value"])], ids=["none", "no rows"]
)
def test_without_clues_nothing_is_explained(batch, swept, empty):
    shown = pdf.document(swept(batch), batch, clues=empty)
    assert shown["causes"]["meanings"] == shown["causes"]["said"] == []
    assert shown["by_layer"]["table"]["rows"] == shown["remedies"]["table"]["rows"] == []
    assert shown["faults"] == {"table": shown["faults"]["table"], "guide": []}
    for place in ("waterfalls", "stacks", "layer_bars", "closing"):
        assert shown[place] == []


def test_clues_of_earlier_steps_and_other_ways_are_left_out(clues, batch):
    early = clues.assign(step=1, value=7.0)
    other = clues.assign(eval_batch_size=64, value=8.0)
    table, _ = counted(pd.concat([early, other, clues]), batch)
    assert set(table.loc[table["metric"] == "rmse", "value"]) == set(PARTS.values())


def test_infinite_clues_do_not_stop_the_report(clues, batch, swept):
    (row,) = clued.trials(batch)
    more = clued.table(
        clued.layers(row, {"one": 0.1, "two": 0.1}, 0.01),
        clued.remedy(row, "mixed", 0.1),
        [clued.clue(row, "distance", "one", 0.1, metric="kl")],
    )
    lost = pd.concat([clues, more]).assign(value=float("inf"))
    shown = pdf.document(swept(batch), batch, clues=lost)
    assert shown["waterfalls"] == []
    assert shown["causes"]["rmse"]["rows"][0][4] == "– ± 0.0020"
    assert shown["remedies"]["table"]["rows"] == [["mixed", "–", "–", "–"]]
