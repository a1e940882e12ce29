import io

import pandas as pd
import pytest
from rich.console import Console

from bnlab.closing import show_answers, show_failures, show_gaps
from bnlab.records import Failure
from bnlab.report.__main__ import _write_tables
from tests.report import clued


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


@pytest.fixture
def answered(swept):
    def show(readings, clues, **sweep):
        text = io.StringIO()
        show_answers(Console(file=text, width=200), swept(readings, **sweep), readings, clues)
        return [line for line in text.getvalue().splitlines() if "still holds" not in line]

    return show


def test_clues_are_told_in_a_line_for_each_of_the_worst_gaps_and_one_for_remedies(answered, made):
    rows = made(norms=("batch",), sizes=(128,))
    (row,) = clued.trials(rows)
    clues = clued.table(
        clued.causes(row, {"lag": 0.2, "noise": 0.014}),
        clued.causes(row, {"lag": 0.022, "noise": 0.0}, decay=0.9),
        clued.remedy(row, "population n4096", 0.0107, decay=0.999),
        clued.remedy(row, "test_statistics", 0.0),
    )
    assert answered(rows, clues) == [
        "mnist batch b128, decay 0.999: gap +0.2140 ± 0.0030: lag +0.2000 ± 0.0020, noise +0.0140 ± 0.0020",
        "mnist batch b128, decay 0.9: gap +0.0220 ± 0.0020: lag +0.0220 ± 0.0020",
        "remedies: mnist: population n4096 closes 95 % of +0.2140 at batch size 128, decay 0.999",
    ]
    assert answered(rows, pd.DataFrame()) == []


def test_at_most_three_gaps_are_explained(answered, made):
    rows = made(norms=("batch",), sizes=(2, 8, 32, 128), decays=(0.9,))
    assert (
        len(
            answered(
                rows, clued.table(*(clued.causes(row, {"lag": 0.1}, decay=0.9) for row in clued.trials(rows)))
            )
        )
        == 3
    )


def test_faults_are_no_drills(answered, made, drilled):
    rows = drilled(made(norms=("batch",), sizes=(128,)), {"nan": 0.5})
    trial = rows["trial"].iloc[0]
    assert len(answered(rows, pd.DataFrame())) == 1
    assert answered(rows, pd.DataFrame(), faults=(("nan", trial, "nan"),)) == [
        "fault nan, mnist: RMSE gap +0.5000 (healthy +0.0220), accuracy 0.844; no remedy was measured"
    ]


def test_faults_are_told_by_their_gaps_the_largest_first(answered, made, drilled):
    gaps = {"slow 0.9999": 0.3, "bessel": 0.214, "epsilon": -0.1, "nan": float("nan"), "hot": 0.5}
    rows = drilled(made(norms=("batch",), sizes=(128,), decays=(0.999,)), gaps)
    (row,) = clued.trials(rows)
    clues = clued.table(
        clued.remedy(row, "population n4096", 0.006, drill="slow 0.9999"),
        clued.remedy(row, "population n4096", 0.01, drill="nan"),
        clued.remedy(row, "mixed", 0.5, drill="hot"),
    )
    known = (("none", row["trial"], ""), *((name, row["trial"], name) for name in gaps))
    assert answered(rows, clues, faults=known) == [
        "fault nan, mnist: RMSE gap not a number (healthy +0.2140), accuracy 0.460; "
        "population n4096 closes it",
        "fault hot, mnist: RMSE gap +0.5000 (healthy +0.2140), accuracy 0.460; nothing closes it",
        "fault slow 0.9999, mnist: RMSE gap +0.3000 (healthy +0.2140), accuracy 0.460; "
        "population n4096 closes 98 % of it",
        "fault bessel, mnist: RMSE gap +0.2140 (healthy +0.2140), accuracy 0.460; no effect",
        "fault epsilon, mnist: RMSE gap -0.1000 (healthy +0.2140), accuracy 0.460; nothing to close",
    ]


def test_a_fault_has_one_line_for_each_task(answered, made, drilled):
    rows = drilled(made(norms=("batch",), tasks=("a", "b"), decays=(0.999,)), {"nan": 0.5})
    rows = rows[(rows["batch_size"] == 128) | (rows["task"] == "a")]
    known = tuple(("nan", trial, "nan") for trial in rows["trial"].unique())
    lines = answered(rows, pd.DataFrame(), faults=known)
    assert [line.split(":")[0] for line in lines] == ["fault nan, a", "fault nan, b"]


def test_clues_have_a_table_of_their_own(made, swept, tmp_path, capsys):
    rows = made(norms=("batch",), sizes=(128,))
    clues = clued.table(clued.causes(clued.trials(rows)[0], {"lag": 0.2}))
    _write_tables(tmp_path / "cells.csv", swept(rows), rows, clues)
    _write_tables(tmp_path / "none" / "cells.csv", swept(rows), rows, pd.DataFrame())
    written = pd.read_csv(tmp_path / "cells-clues.csv")
    assert written[["name", "value", "decay"]].to_numpy().tolist() == [["lag", 0.2, 0.999]]
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["cells.csv"]
    assert len(capsys.readouterr().out.splitlines()) == 3
