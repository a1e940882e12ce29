"""Averages and moments of any numbers, against arithmetic that is plain or exact."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bnlab.science.reference import batch_moments
from bnlab.science.sets import moments
from bnlab.science.tape import START_MEAN, START_VARIANCE, Column, MovingStatistics, Tape

quick = settings(derandomize=True, deadline=None, max_examples=60)
ROUNDING = 2.0**-53
# Float32 numbers, as tapes hold them, whose squares are within float32 too.
NUMBERS = st.floats(-(2.0**60), 2.0**60, width=32)
DECAYS = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 0.999, 0.9999]), st.floats(0, 0.9999))


def bound(operations):
    """How far so many roundings in a row may lead, relatively (Higham, Accuracy and Stability, lemma 3.1)."""
    return operations * ROUNDING / (1 - operations * ROUNDING)


@st.composite
def tapes(draw):
    """A tape of one layer, of any width and any number of calls a step, with where it is cut."""
    steps, calls, channels = draw(st.integers(0, 12)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    epsilon = draw(st.sampled_from([None, 1e-3]))
    columns = tuple(Column("norm", call, channels, epsilon) for call in range(calls))
    means, variances = (
        draw(arrays(np.float32, (steps, calls, channels), elements=own))
        for own in (NUMBERS, NUMBERS.map(abs))
    )
    rows = np.concatenate([means, variances], axis=2).reshape(steps, calls * 2 * channels)
    cuts = sorted(draw(st.lists(st.integers(0, steps), max_size=4)))
    return Tape(columns, rows), cuts


def recursion(values, start, decay):
    """v = decay * v + (1 - decay) * m, one number after another, with the weights as Keras rounds them."""
    kept, taken = float(np.float32(decay)), float(np.float32(1 - decay))
    for value in values:
        start = kept * start + taken * float(value)
    return start


@quick
@given(tapes(), st.lists(DECAYS, min_size=1, max_size=3, unique=True))
def test_a_replay_is_its_recursion_however_the_tape_is_cut(drawn, decays):
    tape, cuts = drawn
    carried = MovingStatistics(tape.columns, decays)
    for first, last in zip([0, *cuts], [*cuts, len(tape.moments)], strict=True):
        carried.advance(Tape(tape.columns, tape.moments[first:last]))
    updates, epsilon = tape.updates("norm").astype(np.float64), tape.columns[0].epsilon
    channels, stretches = tape.columns[0].channels, len(cuts) + 1
    # A power, its product, a sum of as many terms as updates, both weights' product: for each stretch, and
    # three roundings a step of the recursion. A step's weights add up to 1 + 2^-24 at most.
    operations = 4 * len(updates) + 6 * stretches
    for decay in decays:
        mean, variance = carried.at(decay)["norm"]
        for channel in range(channels):
            seen = updates[:, channel]
            largest = max([abs(START_MEAN), *np.abs(seen)]) * (1 + 2.0**-24) ** len(seen)
            assert abs(mean[channel] - recursion(seen, START_MEAN, decay)) <= bound(operations) * largest
            seen = updates[:, channels + channel]
            spread = seen if epsilon is None else np.sqrt(seen + epsilon)
            largest = max([START_VARIANCE, *spread]) * (1 + 2.0**-24) ** len(seen)
            error = bound(operations) * largest
            expected = recursion(spread, START_VARIANCE, decay)
            if epsilon is not None:  # squared and reduced: (v + e)^2 is 2 v e + e^2 away, and rounded twice
                expected = max(expected**2 - epsilon, 0.0)
                error = 2 * largest * error + error**2 + bound(4) * (largest**2 + epsilon)
            assert abs(variance[channel] - expected) <= error


SMALL = arrays(np.float32, st.integers(1, 40), elements=st.floats(-8, 8, width=32))
OFFSETS = st.sampled_from([0.0, 1.0, -(2.0**20), 1e6, 1e9])


def exact(values):
    """Mean and variance without any rounding."""
    numbers = [Fraction(float(value)) for value in values]
    mean = sum(numbers) / len(numbers)
    return mean, sum((number - mean) ** 2 for number in numbers) / len(numbers)


def errors(values, variance):
    """How far a mean and a variance in two passes may be from the exact ones.

    n - 1 sums and a division err by bound(n) of the largest. The mean's error e enters the variance as e^2
    alone, for deviations add up to zero; n sums, a division, a difference and a square add bound(n + 3).
    """
    count = len(values)
    mean = bound(count) * float(np.abs(values).max())
    return mean, mean**2 + bound(count + 3) * (variance + mean**2)


@quick
@given(SMALL, OFFSETS)
def test_moments_are_exact_to_rounding_however_far_from_zero(values, offset):
    values = values.astype(np.float64) + offset
    mean, variance = exact(values)
    found = batch_moments(values[:, None])
    near = errors(values, float(variance))
    assert abs(Fraction(float(found.mean[0])) - mean) <= near[0]
    assert abs(Fraction(float(found.variance[0])) - variance) <= near[1]


@quick
@given(st.integers(1, 4), st.integers(1, 5), OFFSETS, st.data())
def test_moments_of_parts_merge_into_those_of_the_whole(images, positions, offset, data):
    """Chan, Golub & LeVeque, 1979, for equal parts: the mean of variances and the variance of means."""
    drawn = data.draw(arrays(np.float32, (images, positions, 2), elements=st.floats(-8, 8, width=32)))
    x = drawn.astype(np.float64) + offset
    parts, whole = moments(x, "instance"), moments(x, "batch")
    means, variances = parts.mean[:, 0], parts.variance[:, 0]
    for order in (slice(None), slice(None, None, -1)):
        merged = means[order].mean(0), variances[order].mean(0) + means[order].var(0)
        for channel in range(2):
            values = x[..., channel].ravel()
            mean, variance = errors(values, float(whole.variance[0, 0, channel]))
            # The whole, the parts and their merging err as much each; means off by e move their variance by
            # 2 sd e at most, beside e^2.
            assert abs(merged[0][channel] - whole.mean[0, 0, channel]) <= 3 * mean
            spread = float(np.ptp(values))
            assert abs(merged[1][channel] - whole.variance[0, 0, channel]) <= 3 * variance + 2 * spread * mean
