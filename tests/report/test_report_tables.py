import math

import pandas as pd
import pytest

from bnlab.report.numbers import tables
from bnlab.report.numbers.rows import tidy


def cell(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_each_trial_gives_a_cell_for_each_decay_and_phase(readings):
    table = tables.cells(readings)
    assert len(table) == 2 * 2 * 2 * 2
    assert not table.duplicated(tables.CELL).any()
    assert table.iloc[:2][["norm", "batch_size", "decay", "phase"]].to_numpy().tolist() == [
        ["batch", 2, 0.9, True],
        ["batch", 2, 0.9, False],
    ]


def test_a_cell_holds_the_last_reading_of_the_whole_test_set(readings):
    row = cell(tables.cells(readings), norm="batch", batch_size=128, decay=0.999, phase=False)
    assert row[["rmse", "accuracy", "loss"]].tolist() == pytest.approx([0.326, 0.46, 1.63])
    assert row[["rmse_gap", "rmse_gap_se"]].tolist() == pytest.approx([0.214, 0.003])
    assert (row["steps"], row["images"]) == (156, 10_000)


def test_phase_true_is_the_same_for_all_decays(readings):
    table = tables.cells(readings)
    true = table[table["phase"] & (table["norm"] == "batch") & (table["batch_size"] == 2)]
    assert true["decay"].tolist() == [0.9, 0.999]
    assert true["rmse"].tolist() == [0.134, 0.134]
    assert true["rmse_gap"].isna().all()


def test_phase_true_alone_takes_the_decays_that_were_asked(made):
    rows = made(phases=(True,))
    assert tables.cells(rows)["decay"].isna().all()
    assert len(tables.cells(rows)) == 4
    assert tables.cells(rows, (0.5, 0.9, 0.99))["decay"].tolist() == [0.5, 0.9, 0.99] * 4


def test_gaps_stand_worst_first(readings):
    table = tables.gaps(readings)
    assert table["norm"].tolist() == ["batch"] * 4 + ["group"] * 4
    assert table["rmse_gap"].tolist()[:4] == pytest.approx([0.214, 0.022, -0.019, -0.006])
    assert table["rmse_true"].tolist()[:4] == [0.112, 0.112, 0.134, 0.134]
    assert table["rmse_false"].tolist()[:4] == pytest.approx([0.326, 0.134, 0.115, 0.128])
    assert table["accuracy_gap"].tolist()[:2] == pytest.approx([-0.428, -0.044])


def test_one_seed_has_the_paired_standard_error_of_its_images(readings):
    table = tables.gaps(readings)
    assert table["seeds"].unique().tolist() == [1]
    assert table["rmse_gap_se"].tolist()[:4] == pytest.approx([0.003, 0.002, 0.001, 0.004])
    assert table["rmse_gap_sd"].isna().all()
    assert table["rmse_beyond"].tolist() == [True, True, True, False] + [False] * 4


def test_three_seeds_have_the_standard_error_of_their_mean(made):
    # gaps .214, .244, .274: mean .244, standard deviation .03, standard error .03 / sqrt(3)
    row = tables.gaps(made(seeds=(0, 1, 2), shift=0.03)).iloc[0]
    assert row["seeds"] == 3
    assert row["rmse_gap"] == pytest.approx(0.244)
    assert row["rmse_gap_sd"] == pytest.approx(0.03)
    assert row["rmse_gap_se"] == pytest.approx(0.03 / math.sqrt(3))
    assert row["rmse_false"] == pytest.approx(0.112 + 0.244)


def test_a_gap_without_a_phase_true_row_still_tells_phase_true(made):
    row = tables.gaps(made(phases=(False,))).iloc[0]
    assert row["rmse_true"] == pytest.approx(0.112)


def test_rounding_never_counts_as_a_gap():
    gap, error = pd.Series([2e-8, 2e-3, 0.1]), pd.Series([1e-12, 1e-12, math.nan])
    assert tables.beyond(gap, error).tolist() == [False, True, False]


def test_levels_average_over_seeds(made):
    table = tables.levels(made(seeds=(0, 1), shift=0.02))
    row = cell(table, norm="batch", batch_size=128, decay=0.999, phase=False)
    assert row["rmse"] == pytest.approx(0.336)
    assert row["sd"] == pytest.approx(0.02 / math.sqrt(2))
    assert row["seeds"] == 2


def test_curves_share_one_phase_true_line(readings):
    table = tables.curves(readings)
    own = table[(table["norm"] == "batch") & (table["batch_size"] == 2) & (table["split"] == "test_probe")]
    assert own["step"].tolist() == [1, 100, 10_000] * 3
    assert own[own["phase"]]["decay"].isna().all()
    assert own[~own["phase"]]["decay"].tolist() == [0.9] * 3 + [0.999] * 3
    assert "test" not in set(table["split"])


def test_the_training_batch_size_is_preferred_for_evaluation(readings):
    larger = readings.assign(eval_batch_size=1_000, rmse=0.5)
    both = pd.concat([larger, readings], ignore_index=True)
    assert tables.cells(both)["rmse"].tolist() == tables.cells(readings)["rmse"].tolist()
    largest = pd.concat([larger, larger.assign(eval_batch_size=500, rmse=0.7)], ignore_index=True)
    assert tables.cells(largest)["rmse"].unique().tolist() == [0.5]


def test_trials_that_look_alike_are_told_apart(readings):
    twin = readings.assign(trial="f" + readings["trial"].str[1:])
    table = tables.cells(pd.concat([readings, twin], ignore_index=True))
    assert len(table) == 32
    assert not table.duplicated(tables.CELL).any()
    assert table["task"].str.fullmatch(r"mnist [0-9a-f]{6}").all()


def test_a_reading_stored_twice_counts_once(readings):
    twice = pd.concat([readings, readings], ignore_index=True)
    pd.testing.assert_frame_equal(tables.gaps(twice), tables.gaps(readings))


@pytest.mark.parametrize("table", [tables.cells, tables.gaps, tables.curves, tables.levels])
@pytest.mark.parametrize("kept", [None, 0])
def test_nothing_read_gives_an_empty_table_with_its_columns(readings, table, kept):
    empty = pd.DataFrame() if kept is None else readings.iloc[:0]
    assert table(empty).empty
    assert table(empty).columns.tolist() == table(readings).columns.tolist()


def test_numbers_have_no_negative_zero_and_nothing_is_a_dash():
    assert tables.number(-0.00004) == "0.0000"
    assert tables.number(-0.00005001, signed=True) == "-0.0001"
    assert tables.typeset(tables.number(-0.0301, signed=True)) == "−0.0301"
    assert tables.number(math.inf) == "inf"


def test_the_final_split_may_be_all_images_trained_on(made):
    rows = made(final="train")
    assert tables.cells(rows).drop(columns="split").equals(tables.cells(made()).drop(columns="split"))
    for table in (tables.cells, tables.gaps, tables.levels):
        assert table(rows)["split"].unique().tolist() == ["train"]


def test_rows_stored_before_drills_and_constants_are_read(readings):
    old = readings.drop(columns=["drill", "constant_rmse"])
    assert tables.cells(old)["constant_rmse"].isna().all()
    assert tables.cells(old)["learned"].all()
    drawn = ["rmse_gap", "rmse_gap_se", "rmse_beyond"]
    assert tables.gaps(old)[drawn].equals(tables.gaps(readings)[drawn])
    unknown = readings.assign(drill=math.nan)
    assert tables.cells(unknown).equals(tables.cells(readings))


def test_a_regressor_must_beat_the_constant_for_its_gap_to_count(made, regressed):
    # phase true .112 with batches of 128 and .134 with 2: against .17 only the former is below 70 %
    rows = regressed(made(norms=("batch",)), constant=0.17)
    table = tables.gaps(rows)
    assert table["batch_size"].tolist() == [128, 128, 2, 2]
    assert table["learned"].tolist() == table["rmse_beyond"].tolist() == [True, True, False, False]
    own = tables.cells(rows)
    assert own[~own["learned"]]["batch_size"].unique().tolist() == [2]
    assert own[own["phase"]]["of_constant"].unique() == pytest.approx([0.134 / 0.17, 0.112 / 0.17])


def test_a_classifier_counts_whatever_a_constant_gets(readings):
    assert tables.cells(readings.assign(constant_rmse=0.1))["learned"].all()


def test_what_a_regressor_learned_is_known_without_a_phase_true_row(made, regressed):
    rows = regressed(made(norms=("batch",), sizes=(2,), phases=(False,)), constant=0.17)
    assert not tables.cells(rows)["learned"].any()


def test_a_seed_that_learned_nothing_makes_the_mean_not_count(made, regressed):
    rows = regressed(made(norms=("batch",), sizes=(128,), seeds=(0, 1, 2), shift=0.001))
    assert tables.gaps(rows)["rmse_beyond"].tolist() == [True, True]
    rows["constant_rmse"] = rows["constant_rmse"].mask(rows["seed"] == 1, 0.12)
    assert tables.gaps(rows)["rmse_beyond"].tolist() == [False, False]


def test_rows_that_were_joined_without_a_new_index_stay_single(readings):
    rows = pd.concat([readings[readings["step"] == step] for step in sorted(set(readings["step"]))])
    joined = rows.set_axis([0] * len(rows))
    pd.testing.assert_frame_equal(tidy(joined), tidy(rows.reset_index(drop=True)))
