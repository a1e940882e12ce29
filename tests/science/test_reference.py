"""The reference by hand, by its structure, and its backward pass by numerical differentiation."""

import numpy as np
import pytest

from bnlab.science.reference import (
    backward,
    batch_moments,
    closed_form,
    forward,
    infer,
    update_moving,
)
from bnlab.science.sets import Moments, moments

KINDS = ["batch", "layer", "instance", "group"]
SHAPES = {"images": (4, 3, 5, 6), "channels first": (4, 6, 3, 5), "sequences": (4, 5, 6), "vectors": (9, 6)}


def axis_of(form):
    return 1 if form == "channels first" else -1


def problem(form, seed=0):
    """Inputs of mean 3 and deviation 2 with 6 channels, gamma, beta, and the loss's gradient by y."""
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(3, 2, SHAPES[form]), rng.normal(size=SHAPES[form])
    x, dy = (values.astype(np.float32).astype(np.float64) for values in (x, dy))
    gamma, beta = (np.round(rng.uniform(-1.5, 1.5, 6), 2).astype(np.float32) for _ in range(2))
    return x, gamma.astype(np.float64), beta.astype(np.float64), dy


# By hand.


def test_forward_by_hand():
    # Mean 2, variance 8, and 8 + 1 has root 3: (-2, -2, 4) / 3, then times 6 plus 1.
    y, _ = forward(np.array([[0.0], [0.0], [6.0]]), [6.0], [1.0], "batch", epsilon=1.0)
    assert y.ravel().tolist() == pytest.approx([-3, -3, 9], rel=1e-15)


def test_backward_by_hand():
    # n = (-2, -2, 4) / 3, inv = 1/3, g = (6, 0, 0): g - mean g = (4, -2, -2) and mean(g n) = -4/3, so
    # dx = ((4, -2, -2) + 4/3 n) / 3 = (28, -26, -2) / 27; dgamma = -2/3, dbeta = 1.
    _, cache = forward(np.array([[0.0], [0.0], [6.0]]), [6.0], [1.0], "batch", epsilon=1.0)
    dx, dgamma, dbeta = backward(np.array([[1.0], [0.0], [0.0]]), cache)
    assert dx.ravel() == pytest.approx(np.array([28, -26, -2]) / 27, rel=1e-14)
    assert (dgamma[0], dbeta[0]) == pytest.approx((-2 / 3, 1.0), rel=1e-15)


def test_inference_by_hand():
    # (x - 1) / 2 * 6 + 10; statistics that do not answer to x: dx = 3 dy.
    y, cache = infer(np.array([[3.0], [0.0]]), [6.0], [10.0], Moments([1.0], [3.0]), epsilon=1.0)
    dx, dgamma, dbeta = backward(np.array([[1.0], [2.0]]), cache)
    assert y.ravel().tolist() == [16, 7]
    assert dx.ravel().tolist() == [3, 6]
    assert (dgamma.tolist(), dbeta.tolist()) == ([0.0], [3.0])  # normalized (1, -1/2) against (1, 2)


def test_moving_statistics_by_hand():
    start = Moments(np.array([0.0, 0.0]), np.array([1.0, 1.0]))
    batch = batch_moments(np.array([[1.0, 0.0], [3.0, 8.0]]))
    moved = update_moving(update_moving(start, batch, 0.5), batch, 0.5)
    assert (batch.mean.tolist(), batch.variance.tolist()) == ([2, 4], [1, 16])
    assert (moved.mean.tolist(), moved.variance.tolist()) == ([1.5, 3], [1, 12.25])
    assert (start.mean.tolist(), start.variance.tolist()) == ([0, 0], [1, 1])  # a new value each time


def test_a_set_of_one_value_gives_the_shift_and_no_gradient():
    # Batch 1 with one position: the value is its own mean.
    y, cache = forward(np.array([[5.0, -7.0]]), [2.0, 3.0], [0.5, -0.5], "batch")
    dx, dgamma, dbeta = backward(np.array([[4.0, 6.0]]), cache)
    assert (y.tolist(), dx.tolist()) == ([[0.5, -0.5]], [[0, 0]])
    assert (dgamma.tolist(), dbeta.tolist()) == ([0, 0], [4, 6])


# By structure.


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_set_comes_out_with_mean_zero_and_variance_below_one(form, kind):
    x, axis = problem(form)[0], axis_of(form)
    variance = moments(x, kind, 3, axis).variance
    y, _ = forward(x, np.ones(6), np.zeros(6), kind, 3, axis, epsilon=0.1)
    after = moments(y, kind, 3, axis)
    # Normalized values up to 5, at most 100 of them in a set, in float64.
    np.testing.assert_allclose(after.mean, 0, rtol=0, atol=100 * 5 * 2.0**-53)
    np.testing.assert_allclose(after.variance, variance / (variance + 0.1), rtol=0, atol=100 * 25 * 2.0**-53)


def test_layer_and_instance_are_one_group_and_as_many_as_channels():
    x, gamma, beta, _ = problem("images")
    for kind, groups in [("layer", 1), ("instance", 6)]:
        named, _ = forward(x, gamma, beta, kind)
        assert np.array_equal(named, forward(x, gamma, beta, "group", groups)[0])


@pytest.mark.parametrize("form", SHAPES)
def test_batch_moments_are_the_moments_of_kind_batch(form):
    x, axis = problem(form)[0], axis_of(form)
    for each, spread in zip(batch_moments(x, axis), moments(x, "batch", axis=axis), strict=True):
        np.testing.assert_allclose(
            np.moveaxis(spread, axis, -1),
            np.broadcast_to(each, np.moveaxis(x, axis, -1).shape),
            rtol=100 * 2.0**-53,
        )


def test_the_closed_form_is_the_definition():
    x, gamma, beta, _ = problem("images")
    fixed = Moments(np.linspace(-5, 5, 6), np.geomspace(0.01, 100, 6))
    expected = gamma * (x - fixed.mean) / np.sqrt(fixed.variance + 1e-3) + beta
    # Some ten roundings of terms up to (|x| + |mean|) * inv * |gamma| + |beta|.
    atol = 10 * 2.0**-53 * ((np.abs(x).max() + 5) * 1.5 / np.sqrt(0.011) + 1.5)
    np.testing.assert_allclose(closed_form(x, fixed, gamma, beta), expected, rtol=0, atol=atol)


def test_the_closed_form_cancels_in_float32_where_the_mean_is_many_deviations():
    # x - 10,000 is -1 or 1, exactly. With inv = 1/sqrt(3), x * inv near 5,773.5 is rounded to a multiple of
    # 2^-11 = 4.9e-4, where the plain definition is off by 1e-7 of y.
    one = np.float32(1)
    x, fixed = np.array([9999, 10001], np.float32), Moments(np.float32(10_000), one * 3)
    exact = np.array([-1, 1]) / np.sqrt(3)
    plain = (x - fixed.mean) * (one / np.sqrt(fixed.variance))
    folded = closed_form(x, fixed, one, np.float32(0), epsilon=np.float32(0))
    assert (plain.dtype, folded.dtype) == (np.float32, np.float32)
    assert np.abs(plain - exact).max() < 1e-7
    assert 1e-5 < np.abs(folded - exact).max() <= 2 * 2.0**-12


# By numerical differentiation.


def differences(loss, values):
    """The loss's gradient by central differences at h and 2h, extrapolated to h = 0 (error of order h^4)."""
    found, h = np.empty(values.shape), 2.0**-10
    for index in np.ndindex(values.shape):
        step = np.zeros(values.shape)
        step[index] = h
        narrow = (loss(values + step) - loss(values - step)) / (2 * h)
        wide = (loss(values + 2 * step) - loss(values - 2 * step)) / (4 * h)
        found[index] = (4 * narrow - wide) / 3
    return found


def difference_tolerance(dy, y):
    """At worst: a loss of n terms rounds each n times, and each y some 20 times; two differences over 2h and
    4h, weighted 4/3 and 1/3, multiply that by 1.5 / h. What extrapolation leaves, h^4 / 30 = 3e-14 times a
    fifth derivative (under 1,000 for deviations above 1), stays below."""
    return 1.5 * 2**10 * (dy.size + 20) * 2.0**-53 * np.abs(dy * y).sum()


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("kind", [*KINDS, "inference"])
def test_the_backward_pass_is_the_derivative(form, kind):
    (x, gamma, beta, dy), axis = problem(form), axis_of(form)
    moving = Moments(np.linspace(-1, 1, 6), np.geomspace(0.5, 2, 6))

    def run(x, gamma, beta):
        if kind == "inference":
            return infer(x, gamma, beta, moving, axis)
        return forward(x, gamma, beta, kind, 3, axis)

    y, cache = run(x, gamma, beta)
    dx, dgamma, dbeta = backward(dy, cache)
    atol = difference_tolerance(dy, y)
    for found, loss, at in [
        (dx, lambda v: (dy * run(v, gamma, beta)[0]).sum(), x),
        (dgamma, lambda v: (dy * run(x, v, beta)[0]).sum(), gamma),
        (dbeta, lambda v: (dy * run(x, gamma, v)[0]).sum(), beta),
    ]:
        np.testing.assert_allclose(found, differences(loss, at), rtol=0, atol=atol)
