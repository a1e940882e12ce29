import io

import pandas as pd
import pytest
from rich.console import Console

from bnlab.closing import show_failures, show_gaps
from bnlab.records import Failure


@pytest.fixture
def printed():
    def show(readings):
        text = io.StringIO()
        show_gaps(Console(file=text, width=100), readings)
        return [" ".join(line.split()) for line in text.getvalue().splitlines()]

    return show


def test_the_gaps_are_shown_worst_first(printed, readings):
    lines = printed(readings)
    assert lines[0] == "gap = phase false - phase true on the whole test set, worst first (8 of 8)"
    assert lines[5] == "mnist batch 128 0.999 0.1120 0.3260 +0.2140 ± 0.0030* 0.8880 0.4600"
    assert lines[-1] == "* beyond two standard errors"


def test_regressors_have_no_columns_of_accuracy(printed, made, regressed):
    lines = printed(regressed(made(final="train")))
    assert lines[0] == "gap = phase false - phase true on all images trained on, worst first (8 of 8)"
    assert "acc." not in " ".join(lines)
    assert lines[5] == "mnist batch 128 0.999 0.1120 0.3260 +0.2140 ± 0.0030*"
    assert lines[-1] == "RMSE over outputs; a regressor has no accuracy"


def test_a_gap_that_does_not_count_stands_last_and_is_marked(printed, made, regressed):
    rows = made(tasks=("a", "b"), norms=("batch",), sizes=(128,), decays=(0.999,))
    blind = rows["task"] == "a"
    lines = printed(pd.concat([regressed(rows[blind], constant=0.12), rows[~blind]]))
    assert lines[5:7] == [
        "b batch 128 0.999 0.1120 0.3260 +0.2140 ± 0.0030* 0.8880 0.4600",
        "a batch 128 0.999 0.1120 0.3260 +0.2140 ± 0.0030o - -",
    ]
    assert "o phase true does not beat a constant predictor by 30 %: the gap does not count" in lines


def test_nothing_read_shows_nothing(printed, made):
    assert printed(pd.DataFrame()) == printed(made(phases=(True,))) == []


def test_a_failure_says_what_tells_its_trial_apart():
    text = io.StringIO()
    failure = Failure("aaaa", "mnist", "batch", 32, 0, "it stopped", "dropout 0.5")
    show_failures(Console(file=text, width=100), [failure])
    assert text.getvalue() == "failed: mnist batch b32 s0 dropout 0.5: it stopped\n"
