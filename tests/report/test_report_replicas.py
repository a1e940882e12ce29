"""Several devices in the report: what sharing costs, which statistics to keep, and what to choose."""

import pandas as pd
import pytest

from bnlab.report import pdf
from bnlab.report.numbers import drills
from bnlab.report.numbers.clues import tidied
from bnlab.report.numbers.replicas import shared
from bnlab.report.numbers.rows import tidy
from bnlab.report.words.replicas import sentences
from tests.report import clued

ONE, APART, TOGETHER = "mnist", "mnist, 4 replicas x 32", "mnist, 4 replicas x 32, synchronized"
TRUE = {ONE: 0.10, APART: 0.14, TOGETHER: 0.11}
FALSE = {ONE: 0.09, APART: 0.13, TOGETHER: 0.10}
# RMSE with phase false under the mean of the replicas' statistics, by seed: .01 and .012 less.
MEAN = {0: 0.120, 1: 0.118}


def readings(made, drilled, seeds=(0, 1)):
    rows = made(tasks=tuple(TRUE), norms=("batch",), sizes=(128,), decays=(0.9,), seeds=seeds)
    true, false = rows["task"].map(TRUE), rows["task"].map(FALSE)
    rows = rows.assign(rmse=true.where(rows["phase"], false), rmse_gap=(false - true).mask(rows["phase"]))
    other = drilled(rows[rows["task"] == APART], {"replicas mean": None})
    other = other[other["drill"] != ""]
    mean = other["seed"].map(MEAN)
    return pd.concat([rows, other.assign(rmse=mean, rmse_gap=mean - TRUE[APART])], ignore_index=True)


def clues_of(rows, cancelled):
    one = clued.trials(rows[rows["task"] == APART])
    signs = {"replicas_apart": 4e-4, "cancelled": cancelled}
    return clued.table(*(clued.signs(row, signs, decay=0.9) for row in one))


@pytest.fixture
def rows(made, drilled):
    return readings(made, drilled)


def test_a_row_for_each_way_to_share_a_batch(rows):
    table = shared(rows, tidied(clues_of(rows, 1e-5), tidy(rows)))
    ways = table[["alike", "replicas", "each", "synchronized"]].to_numpy().tolist()
    assert ways == [["mnist", 1, 128, False], ["mnist", 4, 32, False], ["mnist", 4, 32, True]]
    apart = table.loc[1]
    assert apart["mean"] == pytest.approx(0.119)
    assert apart["mean_change"] == pytest.approx(-0.011)
    assert apart["mean_se"] == pytest.approx(0.001)  # two seeds .002 apart: .002 / root 2 / root 2
    assert apart["replicas_apart"] == pytest.approx(4e-4)
    assert table.loc[[0, 2], ["mean", "merged", "replicas_apart"]].isna().all(axis=None)


def test_the_answers_and_what_to_choose(rows):
    assert sentences(shared(rows, tidied(clues_of(rows, 1e-5), tidy(rows)))) == [
        "mnist, batch size 128: 4 replicas normalize 32 images each; RMSE with phase true is 0.1400 instead "
        "of 0.1000 on one device and 0.1100 synchronized.",
        "mnist, batch size 128, decay 0.9: the mean of the statistics of 4 replicas, which lie 4e-4 squared "
        "deviations from their merge, gives RMSE 0.1190 with phase false, -0.0110 ± 0.0010 from "
        "the first one's.",
        "To choose: norm.synchronized=true, or more images for each replica, where it has 32 (RMSE with "
        "phase false: 0.1000 synchronized, 0.1300 apart, at decay 0.9); keep the mean of the replicas' "
        "statistics at decay 0.9.",
    ]


def test_variances_that_would_cancel_are_warned_of(rows):
    said = sentences(shared(rows, tidied(clues_of(rows, 0.2), tidy(rows))))[-1]
    assert said.endswith("might be off by 20% of a variance here; bring what the layers see nearer to 0.")


def test_what_does_not_show_is_no_reason_to_choose(rows):
    other = rows["drill"] == "replicas mean"
    rows.loc[other, "rmse"] = FALSE[APART] - 2e-5 - 1e-6 * rows.loc[other, "seed"]
    said = sentences(shared(rows, tidied(clued.table(), tidy(rows))))
    assert said[-1].endswith("; keep any replica's statistics, for the difference does not show.")


def test_seeds_are_paired(rows):
    # Seed 1 is .03 worse both ways: the difference between the ways is as sure as before.
    own = (rows["seed"] == 1) & ~rows["phase"] & (rows["drill"] == "") & (rows["task"] != ONE)
    rows.loc[own, "rmse"] += 0.03
    apart = shared(rows, tidied(clued.table(), tidy(rows))).loc[1]
    assert (apart["lost"], apart["lost_se"]) == pytest.approx((0.03, 0.0))


def test_what_does_worse_is_not_kept(rows):
    other = rows["drill"] == "replicas mean"
    rows.loc[other, "rmse"] = FALSE[APART] + 0.01 + 1e-3 * rows.loc[other, "seed"]
    said = sentences(shared(rows, tidied(clued.table(), tidy(rows))))
    assert said[-1].endswith("; keep the first replica's statistics at decay 0.9.")


def test_one_seed_chooses_nothing(made, drilled):
    rows = readings(made, drilled, seeds=(0,))
    assert not [
        said
        for said in sentences(shared(rows, tidied(clued.table(), tidy(rows))))
        if said.startswith("To choose")
    ]


def test_they_are_no_restore_drills(rows, swept):
    assert drills.drilled(drills.restores(rows, ())).empty
    assert set(drills.drilled(drills.sound(rows, ()))["drill"]) == {"replicas mean"}
    shown = pdf.document(swept(rows), rows, clues=clues_of(rows, 1e-5))
    assert shown["drilled"]["rows"] == []
    assert [row[1:8] for row in shown["replicas"]["table"]["rows"]] == [
        ["1 x 128", "", "0.9", "0.1000", "0.0900", "–", "–"],
        ["4 x 32", "apart", "0.9", "0.1400", "0.1300", "0.1190", "–"],
        ["4 x 32", "synchronized", "0.9", "0.1100", "0.1000", "–", "–"],
    ]


def test_without_replicas_there_is_no_such_page(made, swept):
    rows = made(norms=("batch",))
    own = pdf.document(swept(rows), rows)["replicas"]
    assert (own["said"], own["table"]["rows"]) == ([], [])


def test_a_control_shares_no_statistics(made):
    rows = made(tasks=(ONE, APART), norms=("group",), sizes=(128,), decays=(0.9,))
    assert shared(rows, tidied(clued.table(), tidy(rows))).empty
