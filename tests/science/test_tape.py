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


def test_what_is_left_of_the_start_is_taken_out_by_hand(tape):
    # once at 0.5 has weights 1/4 and 1/2, and 1/4 of the start: 110 / 4 + 210 / 2 = 132.5, over 3/4 of all;
    # twice has four updates, and 1/16 of the start: 0 in its mean of 181.25, 1 in its variance of 182.25.
    moving = MovingStatistics(tape.columns, [0.9, 0.5]).advance(tape)
    mean, variance = moving.debiased(0.5)["once"]
    close = {"rtol": 2.0**-50}  # a few float64 roundings; both weights are exact in float32
    np.testing.assert_allclose(mean, [132.5 / 0.75, 133.25 / 0.75], **close)
    np.testing.assert_allclose(variance, [(112 / 4 + 212 / 2) / 0.75, (113 / 4 + 213 / 2) / 0.75], **close)
    twice = np.concatenate(moving.debiased(0.5)["twice"])
    np.testing.assert_allclose(twice, [181.25 * 16 / 15, (182.25 - 1 / 16) * 16 / 15], **close)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.999])
def test_of_equal_moments_nothing_else_is_left(decay):
    columns = (Column("norm", 0, 1),)
    moving = MovingStatistics(columns, [decay]).advance(Tape(columns, np.full((7, 2), 3, np.float32)))
    # Seven products, the start and their sums are rounded at 2^-53 of at most 3; what is left of the average
    # is divided by 1 - decay at least.
    bound = 9 * 3 * 2.0**-53 / (1 - decay)
    np.testing.assert_allclose(np.concatenate(moving.debiased(decay)["norm"]), 3, rtol=0, atol=bound)


def test_the_start_is_taken_out_of_an_average_of_deviations():
    # With epsilon 1 deviations sqrt(variance + 1) of 2 and 3 are averaged: (2 / 4 + 3 / 2) / (3 / 4) = 8 / 3.
    # The average of deviations starts at 1 as that of variances does; of it 1/4 is left, and taken out.
    columns = (Column("norm", 0, 1, epsilon=1.0),)
    moving = MovingStatistics(columns, [0.5]).advance(Tape(columns, np.float32([[4, 3], [8, 8]])))
    mean, variance = moving.debiased(0.5)["norm"]
    np.testing.assert_allclose(mean, [(4 / 4 + 8 / 2) / 0.75], rtol=2.0**-50)
    np.testing.assert_allclose(variance, [(8 / 3) ** 2 - 1], rtol=2.0**-49)


def test_statistics_that_were_never_updated_hold_nothing_but_their_start(tape):
    with pytest.raises(ValueError, match="undefined before the first update, got 0 updates"):
        MovingStatistics(tape.columns, [0.5]).debiased(0.5)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_row_of_nan_is_no_update(tape, place):
    still = Tape(tape.columns, np.insert(tape.moments, place, np.nan, axis=0))
    for layer in ("once", "twice"):
        assert still.updates(layer).tolist() == tape.updates(layer).tolist()
    # At 0.5 every product and sum of these numbers is exact in float64.
    moved, expected = (MovingStatistics(tape.columns, [0.5]).advance(own).at(0.5) for own in (still, tape))
    assert np.array_equal(moved["twice"], expected["twice"])
    assert np.array_equal(moved["once"], expected["once"])


def test_one_layer_may_go_without_an_update_where_another_has_one(tape):
    moments = tape.moments.copy()
    moments[0, 2:6] = np.nan  # `once` in the first step
    moments[1, 6:] = np.nan  # the second call of `twice` in the second step
    own = Tape(tape.columns, moments)
    assert own.updates("once").tolist() == [[210, 211, 212, 213]]
    assert own.updates("twice").tolist() == [[100, 101], [120, 121], [200, 201]]


def test_nan_in_some_channels_is_an_update_that_poisons_those(tape):
    moments = tape.moments.copy()
    moments[1, 2] = np.nan  # mean of the first channel of `once`
    own = Tape(tape.columns, moments)
    moving = MovingStatistics(tape.columns, [0.5]).advance(own)
    assert len(own.updates("once")) == moving.updates["once"] == 2
    mean, variance = moving.at(0.5)["once"]
    assert [np.isnan(mean).tolist(), np.isnan(variance).tolist()] == [[True, False], [False, False]]


def test_updates_are_counted_layer_by_layer_over_all_stretches(tape):
    moving = MovingStatistics(tape.columns, [0.5])
    assert moving.updates == {"twice": 0, "once": 0}
    moving.advance(tape)
    assert moving.updates == {"twice": 4, "once": 2}
    moving.advance(Tape(tape.columns, np.full((5, 8), np.nan, np.float32)))
    assert moving.updates == {"twice": 4, "once": 2}
    moments = tape.moments.copy()
    moments[:, 2:6] = np.nan
    assert moving.advance(Tape(tape.columns, moments)).updates == {"twice": 8, "once": 2}
