"""The fused operation against the float64 oracle, and where the probe uses it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab.science.fused import normalized
from bnlab.science.probe import probe
from bnlab.science.reference import backward, batch_moments, forward
from bnlab.science.sources import Batch

EPSILON = 1e-3
SHAPES = {"images": (4, 5, 6, 3), "pairs": (2, 3), "sequences": (4, 7, 3), "large": (64, 14, 14, 3)}


def problem(form, mean=3.0):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(mean, 2, SHAPES[form]), rng.normal(size=SHAPES[form])
    return [a.astype(np.float32) for a in (x, dy, rng.uniform(0.5, 1.5, 3), rng.uniform(-1, 1, 3))]


def test_by_hand():
    # Mean 2, variance 8 (divisor 3), and 8 + 1 has root 3: (-2, -2, 4) / 3, then times 6 plus 1.
    y, mean, variance = normalized(tf.constant([[0.0], [0.0], [6.0]]), [6.0], [1.0], epsilon=1.0)
    assert np.ravel(y).tolist() == pytest.approx([-3, -3, 9], rel=2.0**-22)
    assert (float(mean[0]), float(variance[0])) == pytest.approx((2, 8), rel=2.0**-22)


@pytest.mark.parametrize("mean", [0.0, 3.0, 300.0])
@pytest.mark.parametrize("form", sorted(SHAPES))
def test_moments_and_outputs_are_the_oracles(form, mean):
    x, _, gamma, beta = problem(form, mean)
    y, *seen = normalized(tf.constant(x), gamma, beta, EPSILON)
    expected, _ = forward(x, gamma, beta, "batch", epsilon=EPSILON)
    # A sum in a row wanders off like sqrt(N) roundings (16 at least), so a mean is off by so many of its own
    # size, a deviation by as much, and a variance by the square of the first and twice their product.
    off = max(16, (x.size / 3) ** 0.5) * 2.0**-24 * np.abs(x).max()
    truth, spread = batch_moments(x), np.abs(x - x.mean()).max()
    np.testing.assert_allclose(seen[0], truth.mean, rtol=0, atol=off)
    np.testing.assert_allclose(seen[1], truth.variance, rtol=2.0**-20, atol=off * (off + 2 * spread))
    inv = 1 / np.sqrt(truth.variance.min() + EPSILON)
    atol = 1.5 * inv * 2 * off + 2.0**-20 * np.abs(expected).max() * (1 + inv**2 * off * spread)
    np.testing.assert_allclose(y, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("form", sorted(SHAPES))
def test_gradients_are_the_oracles(form):
    x, dy, gamma, beta = map(tf.constant, problem(form))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        y, _, _ = normalized(x, gamma, beta, EPSILON)
    found = tape.gradient(y, [x, gamma, beta], dy)
    _, cache = forward(x.numpy(), gamma.numpy(), beta.numpy(), "batch", epsilon=EPSILON)
    expected = backward(dy.numpy().astype(np.float64), cache)
    # Sums over up to 12,544 values in blocks: fewer than 256 roundings of 2^-24 each of the largest sum.
    size = np.abs(dy).sum() / 3 * np.abs(cache.normalized).max()
    for own, truth in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(own, truth, rtol=0, atol=256 * 2.0**-24 * size)
    np.testing.assert_allclose(found[0], expected.x, rtol=0, atol=256 * 2.0**-24 * 4 * cache.inv.max() * 1.5)


def model(dtype="float32", **options):
    keras.utils.set_random_seed(1)
    image = keras.Input((6, 6, 4))
    x = keras.layers.Conv2D(4, 3, name="conv", dtype=dtype)(image)
    return keras.Model(image, keras.layers.BatchNormalization(name="norm", dtype=dtype, **options)(x))


def probed(net, batch):
    notes, x = [], tf.constant(np.random.default_rng(0).normal(size=(8, 6, 6, 4)).astype(np.float32))

    @tf.function
    def run(x):
        with probe(net, batch, notes):
            return net(x, training=True)

    y = run(x).numpy()
    fused = any(o.type == "FusedBatchNormV3" for o in run.get_concrete_function(x).graph.get_operations())
    return y, notes, fused


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"axis": 3}])
def test_the_probe_gives_keras_outputs_and_notes_what_was_seen(options):
    net = model(**options)
    y, notes, fused = probed(net, Batch(fused=True))
    expected, other, plain = probed(net, Batch())
    assert (fused, plain) == (True, False)
    # Of order one, by sums of fewer than 1,000 terms: fewer than 64 roundings.
    np.testing.assert_allclose(y, expected, rtol=0, atol=64 * 2.0**-24 * np.abs(expected).max())
    assert [note[:2] for note in notes] == [note[:2] for note in other] == [("norm", 0)]
    assert notes[0].mean.shape == notes[0].variance.shape == (1, 4)


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({"axis": 1}, Batch(fused=True)),
        ({"dtype": "float64"}, Batch(fused=True)),
        ({"renorm": True}, Batch(fused=True)),
        ({}, Batch(groups=2, fused=True)),
    ],
)
def test_what_cannot_be_fused_is_computed_in_keras_own_way(options, batch):
    assert not probed(model(**options), batch)[2]
