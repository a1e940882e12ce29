"""What mistakes make of moving statistics: by hand, in closed form, and by a plain loop."""

import math
import struct

import numpy as np
import pytest

from bnlab.science.faults import in_half_precision, never_updated, poisoned, with_bessel
from bnlab.science.moments import Moments
from bnlab.science.tape import Column, MovingStatistics, Tape


def listed(statistics):
    return {layer: [part.tolist() for part in own] for layer, own in statistics.items()}


STATISTICS = {
    "first": Moments(np.array([4.0, -8.0]), np.array([1.0, 3.0])),
    "second": Moments(np.array([0.5]), np.array([2.0])),
}


def test_statistics_that_were_never_updated_are_mean_0_and_variance_1():
    assert listed(never_updated(STATISTICS)) == {"first": [[0, 0], [1, 1]], "second": [[0], [1]]}


def test_poison_by_hand():
    # At 0.5, two passes: three quarters of what is seen and a quarter of what was there.
    seen = {
        "first": Moments(np.array([[0.0, 8.0]]), np.array([[5.0, 3.0]])),
        "second": Moments(np.array([[-1.5]]), np.array([[0.0]])),
    }
    assert listed(poisoned(STATISTICS, seen, 0.5, 2)) == {
        "first": [[1.0, 4.0], [4.0, 3.0]],
        "second": [[-1.0], [0.5]],
    }


@pytest.mark.parametrize("passes", [1, 2, 10, 1000])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.99, 0.999])
def test_poison_in_closed_form(decay, passes):
    # Keras rounds decay and 1 - decay to float32 each: a geometric series of the one, times the other.
    kept, taken = float(np.float32(decay)), float(np.float32(1 - decay))
    left, share = kept**passes, taken * (1 - kept**passes) / (1 - kept)
    seen = {"first": Moments(np.array([[7.0, 0.0]]), np.array([[0.0, 2.0]]))}
    found = poisoned({"first": STATISTICS["first"]}, seen, decay, passes)["first"]
    # A sum of as many terms as passes, of size 8; the closed form divides by 1 - decay >= 1e-3.
    close = {"rtol": 0, "atol": (passes + 1000) * 8 * 2.0**-53}
    np.testing.assert_allclose(found.mean, [left * 4 + share * 7, left * -8], **close)
    np.testing.assert_allclose(found.variance, [left, left * 3 + share * 2], **close)


@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_one_pass_of_nan_is_there_for_good(decay):
    nan = {"second": Moments(np.full((1, 1), np.nan), np.full((1, 1), np.nan))}
    once = poisoned({"second": STATISTICS["second"]}, nan, decay, 1)
    assert np.isnan(np.concatenate(once["second"])).all()
    healthy = {"second": Moments(np.ones((1, 1)), np.ones((1, 1)))}
    later = poisoned(once, healthy, 0.99, 100)
    assert np.isnan(np.concatenate(later["second"])).all()


def test_a_channel_of_nan_leaves_the_others():
    seen = {"first": Moments(np.array([[np.nan, 0.0]]), np.array([[1.0, 1.0]]))}
    mean, variance = poisoned({"first": STATISTICS["first"]}, seen, 0.5, 1)["first"]
    assert math.isnan(mean[0])
    assert (mean[1], variance.tolist()) == (-4.0, [1.0, 2.0])


def test_poisoning_changes_no_statistics_but_its_own():
    before = listed(STATISTICS)
    seen = {layer: Moments(own.mean[None], own.variance[None]) for layer, own in STATISTICS.items()}
    assert listed(poisoned(STATISTICS, seen, 0.5, 3)) == before == listed(STATISTICS)


@pytest.mark.parametrize(("count", "factor"), [(2, 2.0), (3, 1.5), (5, 1.25), (32 * 49, 1568 / 1567)])
def test_bessels_correction(count, factor):
    found = with_bessel(STATISTICS, {"first": count, "second": 2})
    assert found["first"].mean.tolist() == [4.0, -8.0]
    assert found["first"].variance.tolist() == [factor, 3 * factor]
    assert listed(found)["second"] == [[0.5], [4.0]]


@pytest.mark.parametrize("count", [2, 7, 64])
def test_bessels_correction_makes_numpys_unbiased_variance_of_the_biased_one(count):
    x = np.random.default_rng(0).normal(3, 2, (count, 2))
    found = with_bessel({"norm": Moments(x.mean(0), x.var(0))}, {"norm": count})
    np.testing.assert_allclose(found["norm"].variance, x.var(0, ddof=1), rtol=2.0**-50)  # four roundings


def half(value):
    """The nearest number in half precision, as the standard library packs it."""
    return struct.unpack("e", struct.pack("e", value))[0]


def tape_of(rows, *columns):
    return Tape(columns or (Column("norm", 0, 1),), np.asarray(rows, np.float32))


def test_half_precision_sticks_on_the_way_from_1_to_5():
    # At 4.0 a step of 0.999 * 4 + 0.001 * 5 comes to 4.0011, and the next number up is 4.0039.
    [variance] = in_half_precision(tape_of([[0.0, 5.0]] * 5000), 0.999)["norm"].variance
    value = 1.0
    for _ in range(5000):
        value = half(half(half(0.999) * value) + half(half(0.001) * 5))
    assert variance == value == 4.0
    exact = MovingStatistics((Column("norm", 0, 1),), [0.999]).advance(tape_of([[0.0, 5.0]] * 5000)).at(0.999)
    # 5 - 4 * 0.999^5000 = 4.973; the two rounded weights add up to 1 within 6e-8, 5,000 times over.
    assert exact["norm"][1][0] == pytest.approx(5 - 4 * 0.999**5000, abs=5000 * 5 * 6e-8)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_half_precision_is_a_plain_loop_of_rounded_operations(decay):
    rows = np.random.default_rng(0).normal([3, -200, 1, 50], [1, 30, 0.1, 9], (300, 4)).astype(np.float32)
    found = in_half_precision(tape_of(rows, Column("norm", 0, 2)), decay)["norm"]
    values = [0.0, 0.0, 1.0, 1.0]
    for row in rows.tolist():
        values = [
            half(half(half(decay) * value) + half(half(1 - decay) * half(new)))
            for value, new in zip(values, row, strict=True)
        ]
    assert [*found.mean, *found.variance] == values
    assert {part.dtype for part in found} == {np.dtype("float64")}


def test_half_precision_goes_by_layer_and_skips_steps_that_update_nothing():
    columns = Column("twice", 0, 1), Column("once", 0, 1), Column("twice", 1, 1)
    nan = np.nan
    tape = tape_of([[2, 4, 8, 16, 4, 8], [nan, nan, 0, 0, nan, nan]], *columns)
    # twice at 0.5: mean 0 -> 1 -> 2.5, variance 1 -> 2.5 -> 5.25; once: 0 -> 4 -> 2, 1 -> 8.5 -> 4.25.
    assert listed(in_half_precision(tape, 0.5)) == {"twice": [[2.5], [5.25]], "once": [[2.0], [4.25]]}


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_beyond_65504_half_precision_is_infinite_or_nan_and_warns_of_nothing(decay):
    [variance] = in_half_precision(tape_of([[0.0, 1e5], [0.0, 1.0]]), decay)["norm"].variance
    # At 0 the infinity is multiplied by 0.
    assert math.isnan(variance) if decay == 0 else variance == math.inf
