import math

import numpy as np
import pandas as pd
import pytest

from bnlab.report import pages
from bnlab.report.numbers import best, decays, tables
from bnlab.report.pictures import decay_curve
from bnlab.report.words import best_decay
from bnlab.report.words.finding import finding

FLAT = dict.fromkeys((0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999), 0.12)
FORTY = tuple(n / 40 for n in range(40))


def found(rows, metric="rmse"):
    return best.best(tables.gaps(rows), metric)


def test_the_best_decay_is_the_lowest_point_and_its_range_what_lies_within_its_error(curve, valley):
    [row] = found(curve(valley)).to_dict("records")
    assert (row["task"], row["norm"], row["batch_size"], row["steps"]) == ("mnist", "batch", 128, 156)
    assert (row["decay"], row["fastest"], row["slowest"], row["at_end"]) == (0.95, 0.9, 0.98, False)
    assert [row["value"], row["gap"], row["gap_se"]] == pytest.approx([0.1, -0.012, 0.005])
    assert found(curve(valley, se=0.0041)).loc[0, ["fastest", "slowest"]].tolist() == [0.9, 0.98]
    assert found(curve(valley, se=0.0039)).loc[0, ["fastest", "slowest"]].tolist() == [0.95, 0.98]
    assert found(curve(valley, se=0.001)).loc[0, ["fastest", "slowest"]].tolist() == [0.95, 0.95]


def test_the_best_accuracy_is_the_highest(curve, valley):
    [row] = found(curve(valley), "accuracy").to_dict("records")
    assert (row["decay"], row["fastest"], row["slowest"]) == (0.95, 0.9, 0.98)
    assert [row["value"], row["gap"], row["gap_se"]] == pytest.approx([0.8, 0.024, 0.01])


def test_of_equal_decays_the_fastest_is_best_and_a_worse_one_ends_the_range(curve, valley):
    [row] = found(curve(valley | {0.5: 0.1})).to_dict("records")
    assert (row["decay"], row["fastest"], row["slowest"]) == (0.5, 0.5, 0.5)


def test_a_value_that_is_not_a_number_is_never_best_and_ends_the_range(curve, valley):
    [row] = found(curve(valley | {0.95: math.nan})).to_dict("records")
    assert (row["decay"], row["fastest"], row["slowest"]) == (0.98, 0.98, 0.98)
    [row] = found(curve(valley | {0.0: math.nan, 0.5: 0.05})).to_dict("records")
    assert (row["decay"], row["at_end"]) == (0.5, True)


@pytest.mark.parametrize(
    "values",
    [FLAT, {0.9: 0.1}, {0.9: 0.1, 0.99: math.nan}, dict.fromkeys(FLAT, math.nan)],
    ids=["without moving statistics", "one decay", "one number", "no number"],
)
def test_no_best_is_named_where_there_is_none(curve, values):
    table = tables.gaps(curve(values))
    assert best.best(table).empty
    assert best_decay.named(best.best(table)) == ""
    assert best_decay.sentences(table) == []
    assert pages.best_decays(table)["rows"] == []


def test_controls_and_regressors_that_learned_nothing_have_no_best(curve, regressed, valley):
    assert found(curve(valley, norms=("group",))).empty
    assert found(regressed(curve(valley), constant=0.15)).empty
    assert found(regressed(curve(valley), constant=0.3))["decay"].tolist() == [0.95]
    assert found(regressed(curve(valley)), "accuracy").empty


def test_without_a_standard_error_the_range_is_unknown(curve, valley):
    rows = curve(valley, se=math.nan)
    assert found(rows)[["fastest", "slowest"]].isna().all(axis=None)
    assert best_decay.sentences(tables.gaps(rows))[0].startswith(
        "mnist: the best decay is 0.95 (range unknown) at batch size 128. "
    )


def test_several_seeds_are_taken_together(curve, valley):
    rows = curve(valley, seeds=(0, 1))
    second = (rows["seed"] == 1) & ~rows["phase"]
    own = {"rmse": rows["rmse"] + 0.004 * second, "rmse_gap": rows["rmse_gap"] + 0.004 * second}
    [row] = found(rows.assign(**own)).to_dict("records")
    assert row["decay"] == 0.95
    assert row["value"] == pytest.approx(0.102)
    assert row["gap_se"] == pytest.approx(0.002)  # two values 0.004 apart


def test_the_best_decays_and_the_price_of_the_usual_ones_are_said(curve, valley):
    parts = [
        curve(valley, sizes=(2, 128)),
        curve(valley | {0.9999: 0.09}, sizes=(8,)),
        curve(valley, norms=("ghost",), tasks=("cifar",)),
    ]
    rows = pd.concat(parts, ignore_index=True)
    assert best_decay.sentences(tables.gaps(rows)) == [
        "cifar with ghost normalization: the best decay is 0.95 (0.9 to 0.98) at batch size 128. "
        "0.9 (PyTorch's default) costs up to 0.0040 of RMSE, at batch size 128; "
        "0.99 (Keras's default) costs up to 0.0200 of RMSE, at batch size 128.",
        "mnist: the best decay is 0.95 (0.9 to 0.98) at batch size 2, "
        "0.9999 (no other, the end of those measured) at 8 and 0.95 (0.9 to 0.98) at 128. "
        "0.9 (PyTorch's default) costs up to 0.0140 of RMSE, at batch size 8; "
        "0.99 (Keras's default) costs up to 0.0300 of RMSE, at batch size 8.",
    ]
    assert finding(rows).sentences[0] == (
        "The best decay by RMSE: cifar with ghost normalization 0.95 at batch size 128; "
        "mnist 0.95 at batch size 2, 0.9999 (the end of those measured) at 8 and 0.95 at 128."
    )


def test_a_headline_names_two_tasks_and_a_page_four(curve, valley):
    rows = curve(valley, tasks=tuple("abcde"), sizes=(2, 128))
    assert finding(rows).best == (
        "The best decay by RMSE: a 0.95 at batch size 2 and 0.95 at 128; "
        "b 0.95 at batch size 2 and 0.95 at 128; 3 more have a page."
    )
    assert len(best_decay.sentences(tables.gaps(rows))) == 4


def test_a_usual_decay_that_was_not_measured_has_no_price(curve, valley):
    values = {0.91 if decay == 0.9 else decay: rmse for decay, rmse in valley.items()}
    [sentence] = best_decay.sentences(tables.gaps(curve(values)))
    assert "PyTorch" not in sentence
    assert "0.99 (Keras's default) costs up to 0.0200" in sentence
    assert "gap at 0.9" not in pages.best_decays(tables.gaps(curve(values)))["head"]


def test_few_decays_have_no_finding_of_their_own(curve, valley):
    few = {decay: valley[decay] for decay in (0.5, 0.9, 0.95, 0.99)}
    rows = curve(few)
    assert finding(rows).best == ""
    assert decay_curve.decay_curve(tables.gaps(rows)) == []
    assert decays.note(rows) == ""
    assert len(decays.thinned(rows)) == len(rows)


def test_the_table_has_a_line_for_each_trial(curve, regressed, valley):
    rows = curve(valley)
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
    several = pages.best_decays(tables.gaps(curve(valley, norms=("batch", "ghost"))))
    assert several["head"][1] == "norm"


def test_round_decays_stand_for_many(valley):
    assert decays.few(np.array(list(valley))).tolist() == [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    assert decays.few(np.array([*valley, 0.99995])).tolist() == [0, 0.9, 0.99, 0.999, 0.99995]
    forty = np.array(FORTY)  # 0.5 and 0.9 are the only round ones beside 0
    assert decays.few(forty).tolist() == [0.0, 0.525, 0.775, 0.9, 0.95, 0.975]
    assert decays.shown(tuple(valley)).tolist() == [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    assert decays.shown(list(valley)[:8]).tolist() == list(valley)[:8]


def test_thinning_keeps_phase_true_and_says_what_is_left(curve, valley):
    rows = curve(valley)
    few = decays.thinned(rows)
    assert few["phase"].sum() == rows["phase"].sum()
    assert decays.measured(few).tolist() == [0, 0.5, 0.9, 0.99, 0.999, 0.9999]
    assert decays.note(rows) == "6 of 9 decays are shown here: 0, 0.5, 0.9, 0.99, 0.999, 0.9999."
