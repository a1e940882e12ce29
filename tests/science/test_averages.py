"""Moving averages against the recursion that defines them, in float64."""

import numpy as np
import pytest

from bnlab.science.averages import advance, keras_weights

DECAYS = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]


def recursion(start, moments, decay):
    """The definition, step by step, with both weights rounded to float32 as Keras rounds them."""
    kept, taken = float(np.float32(decay)), float(np.float32(1 - decay))
    value = np.array(start, np.float64)
    for row in moments:
        value = kept * value + taken * row
    return value


def tolerance(decay, moments):
    """Float64 rounding at worst: one unit per term of a product over a block of 4,096 updates, and two per
    step of the recursion, which forgets them like everything else."""
    return (4096 + 2 / (1 - decay)) * 2.0**-53 * np.abs(moments).max()


@pytest.fixture(scope="module")
def moments():
    """9,000 updates, more than two blocks, of three channels far from zero."""
    return np.random.default_rng(0).normal([3.0, -2.0, 0.5], [1.0, 0.1, 2.0], (9000, 3))


@pytest.mark.parametrize("decay", DECAYS)
def test_an_average_is_its_recursion(moments, decay):
    start = np.array([[0.0, 1.0, -5.0]])
    expected = recursion(start[0], moments, decay)
    np.testing.assert_allclose(
        advance(start, moments, [decay])[0], expected, rtol=0, atol=tolerance(decay, moments)
    )


@pytest.mark.parametrize("cuts", [[1], [4095], [4096], [4097], [0, 0, 8192, 8999]])
def test_stretches_add_up_to_the_whole(moments, cuts):
    start = np.ones((len(DECAYS), 3))
    average = start
    for stretch in np.split(moments, cuts):
        average = advance(average, stretch, DECAYS)
    whole = advance(start, moments, DECAYS)
    np.testing.assert_allclose(average, whole, rtol=0, atol=tolerance(DECAYS[-1], moments))


def test_by_hand_two_decays_and_two_channels():
    # At 0.5: (1, 0) -> (1.5, 1) -> (2.75, 3); at 0: the last moments. Both weights are exact in float32.
    average = advance(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[2.0, 2.0], [4.0, 5.0]]), [0.5, 0.0])
    assert average.tolist() == [[2.75, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("decay", "updates", "left"), [(0.99, 5, 0.951), (0.99, 100, 0.366), (0.999, 500, 0.606)]
)
def test_what_is_left_of_the_start_is_decay_to_the_power_of_the_updates(decay, updates, left):
    [[share]] = advance(np.ones((1, 1)), np.zeros((updates, 1)), [decay])
    assert share == pytest.approx(left, abs=5e-4)  # half of the last digit given


def test_no_updates_leave_an_average_as_it_is():
    assert advance(np.array([[1.5, 2.5]]), np.zeros((0, 2)), [0.9]).tolist() == [[1.5, 2.5]]


def test_arguments_stay_as_they_are():
    start, moments = np.ones((1, 2)), np.full((3, 2), 7.0, np.float32)
    advance(start, moments, [0.5])
    assert (start == 1).all()
    assert (moments == 7).all()


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=rf"every decay must lie in \[0, 1\), got \[0.5, {decay}\]"):
        advance(np.zeros((2, 1)), np.zeros((1, 1)), [0.5, decay])


@pytest.mark.parametrize(("decay", "kept", "taken"), [(0.0, 0.0, 1.0), (0.5, 0.5, 0.5), (0.75, 0.75, 0.25)])
def test_weights_that_float32_holds_are_exact(decay, kept, taken):
    assert tuple(map(float, keras_weights(decay))) == (kept, taken)


def test_weights_are_rounded_to_float32_one_by_one():
    # The float32 neighbours of 0.9999 and 0.0001, written out.
    kept, taken = keras_weights(0.9999)
    assert (float(kept), float(taken)) == (0.9998999834060669, 9.999999747378752e-05)
