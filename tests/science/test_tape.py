"""The tape's layout, and moving statistics of several layers carried along it."""

import numpy as np
import pytest

from bnlab.science.tape import Column, MovingStatistics, Tape


@pytest.fixture
def tape():
    """Two steps; layer `twice` is called before and after layer `once`, which has two channels.

    Every number is 100 * step + 10 * column + place in the column: means first, then variances.
    """
    columns = (Column("twice", 0, 1), Column("once", 0, 2), Column("twice", 1, 1))
    row = np.array([0, 1, 10, 11, 12, 13, 20, 21], np.float32)
    return Tape(columns, np.stack([100 + row, 200 + row]))


def test_a_layer_called_once_has_one_update_per_step(tape):
    assert tape.updates("once").tolist() == [[110, 111, 112, 113], [210, 211, 212, 213]]


def test_a_layer_called_twice_has_both_calls_of_a_step_before_the_next_step(tape):
    assert tape.updates("twice").tolist() == [[100, 101], [120, 121], [200, 201], [220, 221]]


def test_statistics_start_at_mean_0_and_variance_1(tape):
    start = MovingStatistics(tape.columns, [0.9]).at(0.9)
    assert {name: (m.tolist(), v.tolist()) for name, (m, v) in start.items()} == {
        "twice": ([0.0], [1.0]),
        "once": ([0.0, 0.0], [1.0, 1.0]),
    }


def test_statistics_of_two_layers_by_hand(tape):
    # once at 0.5: means 0 -> 55 -> 132.5 and 0 -> 55.5 -> 133.25;
    # twice: mean 0 -> 50 -> 85 -> 142.5 -> 181.25, variance 1 -> 51 -> 86 -> 143.5 -> 182.25.
    moving = MovingStatistics(tape.columns, [0.0, 0.5]).advance(tape)
    assert moving.at(0.5)["once"][0].tolist() == [132.5, 133.25]
    assert [part.tolist() for part in moving.at(0.5)["twice"]] == [[181.25], [182.25]]
    assert [part.tolist() for part in moving.at(0.0)["twice"]] == [[220.0], [221.0]]


def test_stretches_of_a_tape_add_up(tape):
    first, second = (Tape(tape.columns, tape.moments[part]) for part in (slice(1), slice(1, None)))
    halves = MovingStatistics(tape.columns, [0.5]).advance(first).advance(second).at(0.5)
    whole = MovingStatistics(tape.columns, [0.5]).advance(tape).at(0.5)
    # At 0.5 every product and sum of these numbers is exact in float64.
    assert {name: np.array(pair).tolist() for name, pair in halves.items()} == {
        name: np.array(pair).tolist() for name, pair in whole.items()
    }


def test_an_empty_stretch_changes_nothing(tape):
    moving = MovingStatistics(tape.columns, [0.5]).advance(tape)
    before = moving.at(0.5)["once"][1].tolist()
    assert moving.advance(Tape(tape.columns, tape.moments[:0])).at(0.5)["once"][1].tolist() == before


def test_a_model_without_batch_normalization_has_no_statistics():
    empty = Tape((), np.zeros((5, 0), np.float32))
    assert MovingStatistics(empty.columns, [0.9]).advance(empty).at(0.9) == {}


def test_a_decay_that_was_not_carried_is_an_error(tape):
    with pytest.raises(ValueError, match="not in tuple"):
        MovingStatistics(tape.columns, [0.5]).at(0.9)
