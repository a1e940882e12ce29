"""Ratios within rounds, and tables made of rows, with numbers that can be checked by hand."""

import doctest
import math

import pandas as pd
import pytest

from experiments.throughput import (
    rounds,
    scaling,
    scaling_tables,
    steps,
    steps_tables,
    sweep,
    sweep_tables,
    tables,
)


@pytest.mark.parametrize("module", [rounds, scaling, tables], ids=lambda module: module.__name__)
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_everyone_is_first_once():
    names = ["a", "b", "c"]
    assert [rounds.turns(names, number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(rounds.turns(names, number)) == names for number in range(4))


def test_a_ratio_is_taken_within_each_round():
    # A machine that slows down by half from round to round: the speeds spread, their ratio does not.
    ours, peer = {0: 40.0, 1: 20.0, 2: 10.0}, {0: 20.0, 1: 10.0, 2: 5.0}
    assert rounds.ratio(ours, peer) == (2.0, 2.0, 2.0)
    assert rounds.ratio(ours, {1: 10.0}) == (2.0, 2.0, 2.0)


def test_a_spread_of_nothing_is_not_known():
    assert all(map(math.isnan, rounds.spread([])))


@pytest.fixture
def race():
    """Two rounds; without XLA ours makes 100 and 200 steps/s, with XLA 300 both times, Keras 50 and 50."""
    paces = {"bnlab xla=false": (100, 200), "bnlab xla=true": (300, 300), "Keras fit": (50, 50)}
    first = {"bnlab xla=false": 1.0, "bnlab xla=true": 3.0, "Keras fit": 0.5}
    return pd.DataFrame(
        {
            "task": "mnist",
            "batch_size": 8,
            "table_xla": False,
            "default_steps": 301,
            "contender": name,
            "chosen": 1 if name == "Keras fit" else "",
            "first_s": first[name],
            "round": number,
            "pace": float(pace),
        }
        for name, own in paces.items()
        for number, pace in enumerate(own)
    )


def test_ours_is_what_the_table_chooses(race):
    paces = steps_tables.paces(race)
    assert paces == {"bnlab": {0: 100.0, 1: 200.0}, "Keras fit": {0: 50.0, 1: 50.0}}
    assert rounds.ratio(paces["bnlab"], paces["Keras fit"]) == (3.0, 2.0, 4.0)


def test_a_default_run_is_the_first_call_and_all_other_steps(race):
    assert steps_tables.default_run(race, "bnlab xla=false") == 1.0 + 300 / 150
    assert steps_tables.default_run(race, "bnlab xla=true") == 3.0 + 300 / 300
    assert steps_tables.default_run(race, "Keras fit") == 0.5 + 300 / 50


def test_the_tables_name_who_wins(race):
    rows = race.assign(steps=race["pace"], seconds=1.0)
    text = steps_tables.tables(rows)
    assert "| mnist | 8 | 150 | 3.00 (2.00 to 4.00) | Keras fit: 3.00 |" in text
    assert "| mnist | 8 | 2.25 (1.50 to 3.00) | 4.0, 3.0 | without | without | right |" in text
    slower = rows.assign(seconds=rows["contender"].map(lambda name: 4.0 if "bnlab" in name else 1.0))
    assert "**Keras fit wins: 0.75**" in steps_tables.tables(slower)


def test_contenders_that_differ_are_found():
    same = {"parameters": 10, "losses": [2.0, 1.9]}
    steps.check({"a": same, "b": {"parameters": 10, "losses": [2.0001, 1.91]}})
    with pytest.raises(steps.Different, match="b has 11 parameters, a 10"):
        steps.check({"a": same, "b": {**same, "parameters": 11}})
    with pytest.raises(steps.Different, match=r"b has loss 2.01 at step 1, a 2.0"):
        steps.check({"a": same, "b": {**same, "losses": [2.01, 1.9]}})


@pytest.fixture
def cells():
    """One trial in both phases, in two arrangements; in `two` it takes 4 s to build and fit."""
    return pd.DataFrame(
        {
            "kind": "cell",
            "arrangement": arrangement,
            "task": "mnist",
            "norm": norm,
            "batch_size": 2,
            "phase": phase,
            "build_s": 1.0,
            "fit_s": fit,
            "evaluate_s": 2.0 if phase else 1.0,
            "written_s": 20.0 if phase else 3.0,
            "seconds": 1.0 + fit + (2.0 if phase else 1.0),
            **{f"{part}_cpu_s": 1.0 for part in ("build", "fit", "evaluate", "written")},
        }
        for arrangement, fits in (("one", {"batch": 2.0}), ("two", {"batch": 3.0, "group": 5.0}))
        for norm, fit in fits.items()
        for phase in (True, False)
    )


def test_the_usual_way_is_four_decays_of_the_sample_shared_evenly(cells):
    own = cells[cells["arrangement"] == "two"]
    start = pd.Series({"seconds": 10.0, "cpu_s": 7.0})
    usual = sweep_tables.Usual(own, start, 2, "evaluate")
    # Phase true: 1 + 3 + 2 and 1 + 5 + 2; phase false: 1 + 3 + 1 and 1 + 5 + 1.
    assert usual.wall == (
        10 + 4 * (6 + 8 + 5 + 7) / 2,
        10 + 4 * (6 + 6 + 5 + 5) / 2,
        10 + 4 * (8 + 8 + 7 + 7) / 2,
    )
    assert usual.cpu == 7 + 4 * 4 * 3
    # Once per trial: 4 s and 6 s of building and fitting, and all evaluation of one decay.
    assert usual.once == 10 + (4 + 6 + 2 + 2 + 1 + 1) / 2
    assert usual._replace(evaluation="written").once == 10 + (4 + 6 + 20 + 20 + 3 + 3) / 2


def test_arrangements_are_compared_on_the_cells_that_both_did(cells):
    both = sweep_tables.common(cells)
    assert set(both["norm"]) == {"batch"}
    assert len(both) == 4
    # One process: 5 + 4 s. Two: (6 + 5) / 2 s.
    assert sweep.faster(both) == "two"
    assert (
        sweep.faster(both.assign(seconds=both["seconds"] * both["arrangement"].map({"one": 1, "two": 3})))
        == "one"
    )


def test_fit_runs_as_it_was_fastest_over_a_default_run(race, tmp_path):
    jit = race[race["contender"] == "Keras fit"].assign(
        contender="Keras fit, jit, many", chosen=32, pace=100.0
    )
    rows = pd.concat([race, jit.assign(first_s=2.0)]).assign(seconds=1.0, steps=lambda frame: frame["pace"])
    rows.to_csv(tmp_path / "steps.csv", index=False)
    assert sweep.fit_setting(tmp_path / "steps.csv", "mnist", 8) == {"steps_per_execution": 32, "jit": True}
    rows[rows["contender"] != "Keras fit, jit, many"].to_csv(tmp_path / "steps.csv", index=False)
    assert sweep.fit_setting(tmp_path / "steps.csv", "mnist", 8) == {"steps_per_execution": 1, "jit": False}
    assert sweep.fit_setting(tmp_path / "none.csv", "mnist", 8) == {"steps_per_execution": 32, "jit": False}


def test_what_one_more_costs_is_a_slope():
    seconds = {0: {1: 2.0, 4: 5.0, 16: 29.0}, 1: {1: 2.0, 4: 8.0, 16: 20.0}}
    rows = pd.DataFrame(
        {"round": number, "decays": count, "seconds": value}
        for number, own in seconds.items()
        for count, value in own.items()
    )
    # (5 - 2) / 3, (29 - 5) / 12, (8 - 2) / 3, (20 - 8) / 12
    assert scaling_tables.slopes(rows, "decays") == (1.5, 1.0, 2.0)


def test_one_more_trial_is_the_longest_sweep_less_the_shortest():
    rows = pd.DataFrame(
        {"workers": [1, 1, 2, 2], "trials": [6, 2, 2, 6], "seconds": [50.0, 20.0, 15.0, 31.0]}
    )
    assert scaling_tables.per_trial(rows, 1) == 7.5
    assert scaling_tables.per_trial(rows, 2) == 4.0


@pytest.mark.parametrize("count", [1, 4, 16, 40])
def test_decays_are_all_different(count):
    found = scaling.decays(count)
    assert len(set(found)) == count
    assert found[0] == 0.5
    assert max(found) < 1
