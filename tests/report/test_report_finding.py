import pandas as pd
import pytest

from bnlab.report.words.finding import Finding, finding


def test_the_largest_gap_is_said_with_both_phases(readings):
    found = finding(readings)
    assert found.largest == (
        "The gap is largest for mnist, batch size 128, decay 0.999: RMSE 0.1120 with phase true, "
        "0.3260 with phase false, a gap of +0.2140 ± 0.0030. Accuracy: 0.8880 and 0.4600."
    )


def test_an_average_that_has_not_arrived_is_named(readings):
    # 0.999 ** 156 = 0.8555
    assert finding(readings).lag == (
        "That moving average had not arrived: after 156 steps it still held 0.86 of its start (0.999^156)."
    )
    assert finding(readings[readings["decay"] != 0.999]).lag == ""


def test_where_phase_false_wins_is_said_only_beyond_two_standard_errors(readings):
    # batch 2, decay 0.999 is better by .006, which is 1.5 standard errors: not counted
    assert finding(readings).better == (
        "Of 4 gaps 3 are beyond two standard errors; in 1 of these phase false is better, most of all for "
        "mnist, batch size 2, decay 0.9: RMSE 0.1340 with phase true, 0.1150 with phase false, "
        "a gap of -0.0190 ± 0.0010."
    )


def test_gaps_of_one_sign_are_counted_in_one_word(made):
    worse, better = finding(made(sizes=(128,))).better, finding(made(sizes=(2,))).better
    assert worse == "Of 2 gaps 2 are beyond two standard errors, all with phase false worse."
    assert better == "Of 2 gaps 1 is beyond two standard errors, with phase false better."


def test_the_control_is_held_to_rounding(readings):
    assert finding(readings).control == (
        "Control without moving statistics (group normalization): largest |gap| 2e-8, below 1e-6 as expected."
    )
    off = readings.assign(rmse_gap=readings["rmse_gap"].mask(readings["norm"] == "group", 0.003))
    assert "largest |gap| 3e-3, although less than 1e-6 was expected" in finding(off).control


@pytest.mark.parametrize(
    ("seeds", "reach"),
    [
        ((0,), "One seed: this speaks of this run only."),
        ((0, 1), "Two seeds: this speaks of these runs only."),
        ((0, 1, 2), "Means over 3 seeds; ± is one standard error over the seeds."),
    ],
)
def test_it_says_how_far_it_reaches(made, seeds, reach):
    assert finding(made(seeds=seeds, shift=0.001)).reach == reach


def test_gaps_within_two_standard_errors_are_not_a_finding(readings):
    found = finding(readings.assign(rmse_gap_se=0.2))
    assert found.largest == (
        "No gap is beyond two standard errors: the largest, for mnist, batch size 128, decay 0.999: "
        "RMSE 0.1120 with phase true, 0.3260 with phase false, a gap of +0.2140 ± 0.2000."
    )
    assert (found.lag, found.better) == ("", "")


def test_stand_in_data_are_said(made):
    rows = made(tasks=("mnist", "cifar"))
    assert finding(rows).stand_in == ""
    assert finding(rows.assign(stand_in=True)).stand_in.startswith("Only stand-in data were used")
    mixed = finding(rows.assign(stand_in=rows["task"] == "cifar")).stand_in
    assert mixed == "Stand-in data were used for cifar: those numbers say nothing about real images."


def test_regressors_have_no_accuracy_to_speak_of(readings):
    blind = readings.assign(accuracy=float("nan"), accuracy_gap=float("nan"))
    assert "ccuracy" not in finding(blind).largest


def test_values_that_are_not_numbers_are_counted(readings):
    lost = (readings["norm"] == "batch") & (readings["decay"] == 0.999) & (readings["batch_size"] == 128)
    found = finding(readings.assign(rmse_gap=readings["rmse_gap"].mask(lost)))
    assert found.broken == "1 of 8 gaps are unknown: a value was missing or not a number."
    assert "decay 0.9:" in found.largest


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phases": (True,)}, "Only phase true was measured"),
        (
            {"norms": ("group",)},
            "No normalization with moving statistics was measured",
        ),
    ],
)
def test_a_sweep_without_gaps_says_why(made, changes, said):
    assert finding(made(**changes)).largest == f"{said}: there is no gap to look for."


def test_nothing_read_is_said():
    found = finding(pd.DataFrame())
    assert found == Finding(largest=found.largest)
    assert found.largest.startswith("No trial has a final reading: ")
    assert found.sentences == (found.largest,)


def test_a_regressor_that_learned_nothing_is_named_and_is_no_headline(made, regressed):
    rows = regressed(made(norms=("batch",)), constant=0.17)
    rows["rmse_gap"] = rows["rmse_gap"].mask(rows["batch_size"] == 2, 9.0)
    rows.loc[(rows["batch_size"] == 2) & ~rows["phase"], "rmse"] = 9.134
    found = finding(rows)
    assert found.largest.startswith("The gap is largest for mnist, batch size 128, decay 0.999: RMSE 0.1120")
    assert found.better.startswith("Of 2 gaps")
    assert found.unlearned == (
        "1 of 2 regressors with moving statistics does not beat a constant predictor by 30 % with phase true "
        "(mnist, batch, batch size 2, seed 0: RMSE 0.1340 against 0.1700): its gaps do not count."
    )


def test_if_no_regressor_learned_no_gap_counts(made, regressed):
    found = finding(regressed(made(seeds=(0, 1, 2)), constant=0.12))
    assert found.largest == "No trial with moving statistics has learned enough for its gap to count."
    assert found.unlearned.startswith("6 of 6 regressors with moving statistics do not beat a constant")
    assert found.unlearned.endswith("; and 2 more): their gaps do not count.")
    assert (found.lag, found.follows, found.better, found.reach) == ("", "", "", "")
    assert found.control != ""


def test_a_classifier_is_named_only_if_it_is_worse_than_a_constant(readings):
    assert finding(readings).unlearned == ""
    found = finding(readings.assign(constant_rmse=0.12))
    assert found.unlearned == (
        "1 of 2 classifiers with moving statistics is worse than a constant predictor with phase true "
        "(mnist, batch, batch size 2, seed 0: RMSE 0.1340 against 0.1200)."
    )
    assert found.largest == finding(readings).largest


def test_regressors_and_classifiers_are_judged_each_by_their_own_rule(made, regressed):
    rows = made(tasks=("mnist", "mnist_autoencoder"), norms=("batch",), sizes=(2,))
    regressor = rows["task"] == "mnist_autoencoder"
    mixed = pd.concat([rows[~regressor], regressed(rows[regressor], constant=0.16)])
    assert finding(mixed.assign(constant_rmse=0.16)).unlearned.startswith("1 of 1 regressor with moving")
    assert "classifier" not in finding(mixed.assign(constant_rmse=0.16)).unlearned


def test_what_a_faster_average_gives_follows_the_largest_gap(readings):
    assert finding(readings).follows == (
        "A faster average does not close the gap: the ratio is still 1.20 at decay 0.9, so lag alone does "
        "not explain it."
    )
    assert finding(readings[readings["decay"] != 0.9]).follows == ""
