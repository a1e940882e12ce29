"""Moving averages against the recursion that defines them, in float64."""

import numpy as np
import pytest

from bnlab.science.averages import (
    advance,
    averages_in_use,
    keras_weights,
    replay_tolerance,
    start_share,
    zero_debiased,
)

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


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("updates", [0, 1, 5, 500])
def test_the_start_share_is_what_the_recursion_leaves_of_a_one(decay, updates):
    left = recursion([1.0], np.zeros((updates, 1)), decay)[0]
    # A power and as many products: each rounds at most once per update.
    assert start_share(decay, updates) == pytest.approx(left, rel=2 * (updates + 1) * 2.0**-53, abs=0)


@pytest.mark.parametrize(
    ("decay", "updates", "left"),
    [(0.5, 3, 0.125), (0.9, 2, 0.81), (0.99, 5, 0.951), (0.99, 100, 0.366), (0.999, 500, 0.606)],
)
def test_start_shares_by_hand(decay, updates, left):
    assert start_share(decay, updates) == pytest.approx(left, abs=5e-4)  # half of the last digit given


def test_zero_debias_by_hand():
    # From 1 at 0.5, having seen 3 and 5: 1 -> 2 -> 3.5. Weights 1/4 and 1/2: (3/4 + 5/2) / (3/4) = 13/3.
    assert zero_debiased(np.array([2.0]), 1.0, 0.5, 1).tolist() == [3.0]
    assert zero_debiased(np.array([3.5]), 1.0, 0.5, 2).tolist() == [pytest.approx(13 / 3, rel=1e-15)]


def test_dividing_alone_is_wrong_for_a_variance_that_starts_at_one():
    # Every batch has variance 4. At 0.9, from 1, two updates: 1 -> 1.3 -> 1.57; 0.81 is left of the start.
    [[variance]] = advance(np.ones((1, 1)), np.full((2, 1), 4.0), [0.9])
    assert variance == pytest.approx(1.57, abs=1e-6)
    assert variance / (1 - 0.81) == pytest.approx(8.263, abs=1e-3)  # twice what was seen
    # Some ten roundings at 1.1e-16, over the share 0.19 that was seen.
    assert zero_debiased(variance, 1.0, 0.9, 2) == pytest.approx(4.0, rel=1e-14)
    # From zero, as the mean does, dividing is enough: 0 -> 0.4 -> 0.76.
    [[mean]] = advance(np.zeros((1, 1)), np.full((2, 1), 4.0), [0.9])
    assert mean / (1 - 0.81) == pytest.approx(4.0, abs=1e-5)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("start", [0.0, 1.0, -5.0])
def test_debiased_a_constant_is_the_constant_from_the_first_step_on(decay, start):
    used = averages_in_use(np.full((300, 2), 2.5), decay, start, debias=True)
    # A difference of numbers up to 5, over 1 - decay or more, after at most 300 roundings.
    assert used == pytest.approx(2.5, abs=300 * 5 * 2.0**-53 / (1 - decay))


def test_the_normalizer_is_the_sum_of_the_weights_that_keras_multiplies_by():
    # The two weights at 0.9999 add up to 1 - 1.7e-8: 1 - kept^n is off by 1.7e-8 / 1e-4 = 1.7e-4.
    (kept, _), ones = keras_weights(0.9999), advance(np.zeros((1, 1)), np.ones((5000, 1)), [0.9999])
    # One rounding per update at most, over the share 1 - 0.9999^5000 = 0.39 that was seen.
    assert zero_debiased(ones, 0.0, 0.9999, 5000) == pytest.approx(1.0, rel=5000 * 2.0**-53 / 0.39)
    assert ones[0, 0] / (1 - kept**5000) == pytest.approx(1 - 1.66e-4, abs=1e-6)


def test_debiased_averages_are_weighted_means_of_what_was_seen(moments):
    weights = 0.9 ** np.arange(49, -1, -1)
    expected = np.average(moments[:50], axis=0, weights=weights)
    used = averages_in_use(moments[:50], 0.9, [0.0, 1.0, -5.0], debias=True)[-1]
    # Weights kept^k against 0.9^k: float32 rounds 0.9 by at most 2^-25, so a weight changes by at most 50
    # times 2^-25 / 0.9 of itself, and a weighted mean by twice that share of the largest value.
    np.testing.assert_allclose(used, expected, rtol=0, atol=2 * 50 * 2.0**-25 / 0.9 * np.abs(moments).max())


def test_no_updates_have_no_debiased_average():
    with pytest.raises(ValueError, match=r"undefined before the first update, got 0 updates"):
        zero_debiased(np.ones(1), 1.0, 0.9, 0)


@pytest.mark.parametrize("use", [start_share, lambda decay, n: zero_debiased(np.ones(1), 0.0, decay, n)])
def test_shares_and_debias_refuse_a_decay_outside_its_range(use):
    with pytest.raises(ValueError, match=r"every decay must lie in \[0, 1\), got 1.0"):
        use(1.0, 3)


def test_averages_in_use_by_hand():
    # At 0.5 from 1, seeing 3, 5, 1: 1 | 2, 3.5, 2.25. Debiased: 3, 13/3, (0.375 + 1.25 + 0.5) / 0.875 = 17/7.
    seen = np.array([[3.0], [5.0], [1.0]])
    exact = pytest.approx
    assert averages_in_use(seen, 0.5, 1.0).ravel().tolist() == [2.0, 3.5, 2.25]
    assert averages_in_use(seen, 0.5, 1.0, update_first=False).ravel().tolist() == [1.0, 2.0, 3.5]
    debiased = averages_in_use(seen, 0.5, 1.0, debias=True).ravel()
    assert debiased.tolist() == exact([3.0, 13 / 3, 17 / 7], rel=1e-15)
    before = averages_in_use(seen, 0.5, 1.0, debias=True, update_first=False).ravel()
    assert before.tolist() == exact([np.nan, 3.0, 13 / 3], rel=1e-15, nan_ok=True)


@pytest.mark.parametrize("decay", DECAYS)
def test_averages_in_use_are_advanced_one_by_one(moments, decay):
    start, seen = np.array([0.0, 1.0, -5.0]), moments[:60]
    for count, used in enumerate(averages_in_use(seen, decay, start), 1):
        expected = advance(start[None], seen[:count], [decay])[0]
        np.testing.assert_allclose(used, expected, rtol=0, atol=tolerance(decay, moments))


@pytest.mark.parametrize("debias", [False, True])
def test_both_orders_are_one_sequence_one_step_apart(moments, debias):
    first = averages_in_use(moments[:20], 0.9, 1.0, debias)
    before = averages_in_use(moments[:20], 0.9, 1.0, debias, update_first=False)
    assert np.array_equal(before[1:], first[:-1])
    assert np.isnan(before[0]).all() if debias else (before[0] == 1.0).all()


@pytest.mark.parametrize("debias", [False, True])
def test_no_steps_use_no_averages(debias):
    assert averages_in_use(np.zeros((0, 3)), 0.9, 0.0, debias).shape == (0, 3)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99, 0.999])
def test_averages_updated_first_are_those_that_keras_holds_after_each_step(decay):
    from keras import layers

    rng = np.random.default_rng(3)
    batches = rng.normal(3, 2, (40, 16, 2)).astype(np.float32)
    layer, held = layers.BatchNormalization(momentum=decay), []
    for batch in batches:
        layer(batch, training=True)
        held.append([np.array(layer.moving_mean), np.array(layer.moving_variance)])
    exact = batches.astype(np.float64)
    for seen, start, kept in [(exact.mean(1), 0.0, 0), (exact.var(1), 1.0, 1)]:
        used, largest = averages_in_use(seen, decay, start), (exact**2).max()
        # Float32 moments of 16 values: under 20 roundings of at most the largest square.
        atol = replay_tolerance(decay, seen.max()) + 20 * 2.0**-24 * largest
        np.testing.assert_allclose(np.array(held)[:, kept], used, rtol=0, atol=atol)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_what_was_infinite_once_is_never_finite_again_and_spoils_no_other_channel(decay):
    rows = np.ones((3000, 3))
    whole = advance(np.zeros((1, 3)), rows, [decay])[0]
    rows[7, 1] = np.inf
    end = advance(np.zeros((1, 3)), rows, [decay])[0]
    assert np.isfinite(end).tolist() == [True, False, True]
    np.testing.assert_array_equal(end[[0, 2]], whole[[0, 2]])
