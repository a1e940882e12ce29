import pandas as pd
import pytest

from bnlab.report import pdf
from bnlab.report.numbers.clues import tidied
from bnlab.report.numbers.remedies import best, remedies
from bnlab.report.numbers.rows import tidy
from bnlab.report.numbers.trained import trained
from bnlab.report.pictures.remedies import remedies as pictures
from bnlab.report.words.remedies import sentences, told
from tests.report import clued


@pytest.fixture
def batch(made):
    return made(norms=("batch",), sizes=(128,))


def counted(readings, *rows):
    table = tidy(readings)
    return remedies(tidied(clued.table(*rows), table), table)


def three(row):
    """Gaps of .022 at decay .9 and .214 at .999."""
    return [
        *clued.remedy(row, "test_statistics", 0.0),
        *clued.remedy(row, "population n4096", 0.0107, accuracy=0.95, seconds=2.0),
        *clued.remedy(row, "zero_debias", 0.107, decay=0.999),
    ]


def test_the_share_closed_is_what_is_not_left(batch):
    table = counted(batch, three(clued.trials(batch)[0])).set_index(["remedy", "decay"])
    assert table.loc[("population n4096", 0.999), "closed"] == pytest.approx(0.95)
    assert table.loc[("population n4096", 0.9), "closed"] == pytest.approx(1 - 0.0107 / 0.022)
    assert table.loc[("zero_debias", 0.999), "closed"] == pytest.approx(0.5)
    assert ("zero_debias", 0.9) not in table.index
    assert table.loc[("population n4096", 0.999), "seconds"] == 2


def test_where_phase_false_wins_there_is_nothing_to_close(made):
    rows = made(norms=("batch",), sizes=(2,))  # -.019 ± .001 and -.006 ± .004
    table = counted(rows, clued.remedy(clued.trials(rows)[0], "mixed", 0.0019))
    assert table["closed"].isna().tolist() == [True, True]
    assert table["accuracy"].tolist() == [0.9, 0.9]


def test_a_gap_within_two_standard_errors_has_nothing_to_close(made):
    rows = made(norms=("batch",), sizes=(128,))  # +.022 ± .002 and +.214 ± .003
    rows["rmse_gap_se"] = rows["rmse_gap_se"].mask(rows["decay"] == 0.9, 0.012)
    table = counted(rows, clued.remedy(clued.trials(rows)[0], "mixed", 0.0214))
    assert table["closed"].tolist() == [pytest.approx(float("nan"), nan_ok=True), pytest.approx(0.9)]


def test_over_seeds_shares_have_a_mean_and_a_spread(made):
    rows = made(norms=("batch",), sizes=(128,), decays=(0.999,), seeds=(0, 1))
    one, other = clued.trials(rows)
    (row,) = counted(
        rows,
        clued.remedy(one, "mixed", 0.0214, accuracy=0.9),
        clued.remedy(other, "mixed", 0.0642, accuracy=0.8),
    ).itertuples()
    assert (row.closed, row.closed_sd) == pytest.approx((0.8, 0.2 / 2**0.5))
    assert (row.accuracy, row.accuracy_sd) == pytest.approx((0.85, 0.1 / 2**0.5))
    assert row.seeds == 2


def test_what_looks_at_the_evaluated_images_stands_apart_and_is_never_the_best(batch, swept):
    clues = clued.table(three(clued.trials(batch)[0]))
    shown = pdf.document(swept(batch), batch, clues=clues)["remedies"]
    assert shown["table"]["head"] == [
        *("remedy", "closed at 0.9", "closed at 0.999", "accuracy at 0.9", "accuracy at 0.999", "cost")
    ]
    assert shown["table"]["rows"] == [
        ["population n4096", "51 %", "95 %", "0.9500", "0.9500", "2.0 s"],
        ["zero_debias", "–", "50 %", "–", "0.9000", "1.5 s"],
    ]
    assert shown["table"]["titles"] == {
        "0": "mnist, batch size 128: RMSE gap +0.0220 at 0.9, +0.2140 at 0.999"
    }
    assert shown["transductive"]["rows"] == [
        ["test_statistics", "100 %", "100 %", "0.9000", "0.9000", "1.5 s"]
    ]
    assert "transductive" in shown["remark"]
    table = counted(batch, three(clued.trials(batch)[0]))
    assert best(table)[["task", "remedy"]].to_numpy().tolist() == [["mnist", "population n4096"]]
    assert told(table) == ["mnist: population n4096 closes 95 % of +0.2140 at batch size 128, decay 0.999"]


def test_a_remedy_that_overshoots_is_not_the_best(batch):
    (row,) = clued.trials(batch)
    table = counted(
        batch, clued.remedy(row, "wild", -0.4, decay=0.999), clued.remedy(row, "mild", 0.1, decay=0.999)
    )
    assert best(table)["remedy"].tolist() == ["mild"]


def test_regressors_have_an_rmse_and_no_accuracy(batch, regressed, swept):
    rows = regressed(batch)
    clues = clued.table(clued.remedy(clued.trials(rows)[0], "mixed", 0.0, rmse=0.13, accuracy=float("nan")))
    shown = pdf.document(swept(rows), rows, clues=clues)["remedies"]["table"]
    assert shown["head"][3] == "RMSE at 0.9"
    assert shown["rows"][0][3] == "0.1300"


def test_nothing_to_close_is_said(made):
    rows = made(norms=("batch",), sizes=(2,), decays=(0.999,))
    table = counted(rows, clued.remedy(clued.trials(rows)[0], "mixed", 0.0))
    assert table["gap"].tolist() == pytest.approx([-0.006])
    assert sentences(table) == [
        "Phase false is nowhere worse than phase true beyond two standard errors: there is nothing to close."
    ]
    assert pictures(table) == []
    assert told(table) == []


def test_the_picture_is_of_the_decay_with_the_largest_gap(made):
    rows = made(norms=("batch",), sizes=(2, 128))
    (picture,) = pictures(counted(rows, *map(three, clued.trials(rows))))
    assert {"population n4096", "zero_debias", "test_statistics"} <= set(_comments(picture))
    assert "at the decay with the largest gap" in picture.caption


def _comments(picture):
    return [line.strip().removeprefix("<!-- ").removesuffix(" -->") for line in picture.svg.splitlines()]


def test_what_needs_training_stands_beside_batch_normalization(made, swept):
    rows = made(sizes=(128,), decays=(0.999,))
    clues = clued.table(three(clued.trials(rows)[0]))
    shown = pdf.document(swept(rows), rows, clues=clues)["remedies"]["trained"]
    assert shown["rows"] == [
        [
            *("mnist", "128", "0.999", "group (trained)", "0.0000 ± 0.0000", "+0.2140 ± 0.0030"),
            *("0.8280", "0.4600"),
        ]
    ]


def test_a_variant_stands_beside_the_plainest(made):
    plain = made(tasks=("mnist, freeze default",), norms=("batch", "group"), sizes=(128,), decays=(0.999,))
    frozen = made(tasks=("mnist, freeze 0.5",), norms=("batch",), sizes=(128,), decays=(0.999,))
    table = trained(tidy(pd.concat([plain, frozen])), ["mnist"])
    assert table[["norm", "variant", "variant_batch"]].to_numpy().tolist() == [
        ["batch", "freeze 0.5", "freeze default"],
        ["group", "freeze default", "freeze default"],
    ]


def test_variants_that_are_all_set_are_not_compared_with_each_other(made):
    rows = made(tasks=("mnist, dropout 0.1", "mnist, dropout 0.5"), sizes=(128,), decays=(0.999,))
    table = trained(tidy(rows), ["mnist"])
    assert table["norm"].tolist() == ["group", "group"]
    assert (table["variant"] == table["variant_batch"]).all()
    assert trained(tidy(rows), []).empty


def test_a_trial_trained_with_a_fault_is_no_remedy(made):
    rows = made(sizes=(128,), decays=(0.999,))
    group = rows.loc[rows["norm"] == "group", "trial"].iloc[0]
    assert trained(tidy(rows), ["mnist"], [("hot", group, "")]).empty


def test_a_small_gap_does_not_decide_which_remedy_is_the_best(batch):
    (row,) = clued.trials(batch)
    table = counted(
        batch,
        clued.remedy(row, "wide", 0.0107, decay=0.999),
        clued.remedy(row, "wide", -0.011, decay=0.9),  # closes 150 % of .022
        clued.remedy(row, "narrow", 0.107, decay=0.999),
        clued.remedy(row, "narrow", 0.0, decay=0.9),
    )
    (found,) = best(table).itertuples()
    assert (found.remedy, found.decay, found.closed) == ("wide", 0.999, pytest.approx(0.95))
