import pandas as pd
import pytest

from bnlab.report.finding import Finding, finding


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
    assert found.largest.startswith("No trial has a final reading of the whole test set")
    assert found.sentences == (found.largest,)
