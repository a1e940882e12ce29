"""A replay of recorded moments is Keras's own moving average, to float32 rounding."""

import numpy as np
import pytest

from bnlab.science.averages import advance, replay_tolerance

DECAYS = [0.5, 0.9, 0.99, 0.999, 0.9999]
STEPS, BATCH, CHANNELS = 20_000, 4, 3
START = np.repeat([0.0, 1.0], CHANNELS)


@pytest.fixture(scope="module")
def in_graph():
    """Keras's moving statistics after 20,000 training steps at each decay, and the moments of every step.

    A layer of momentum 0 holds the last batch's moments: Keras itself records them.
    """
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x = rng.normal([3.0, -5.0, 0.7], [0.5, 2.0, 1.0], (STEPS, BATCH, CHANNELS)).astype(np.float32)
    layers = {decay: keras.layers.BatchNormalization(momentum=decay) for decay in [0.0, *DECAYS]}
    for layer in layers.values():
        layer.build((None, CHANNELS))

    @tf.function
    def run():
        moments = tf.TensorArray(tf.float32, STEPS)
        for i in tf.range(STEPS):
            for layer in layers.values():
                layer(tf.gather(x, i), training=True)
            moments = moments.write(i, tf.concat([layers[0.0].moving_mean, layers[0.0].moving_variance], 0))
        return moments.stack()

    moments = run().numpy().astype(np.float64)
    return moments, {
        d: np.concatenate([layer.moving_mean, layer.moving_variance]) for d, layer in layers.items()
    }


def replayed(moments, decay, weights=None):
    """(final, largest on the way) average; with other weights than Keras's by recursion."""
    kept, taken = weights or (float(np.float32(decay)), float(np.float32(1 - decay)))
    value, largest = START, 0.0
    for row in moments:
        value = kept * value + taken * row
        largest = max(largest, np.abs(value).max())
    return value, largest


def spread(decay, moments):
    """Six standard deviations of Keras's rounding, were its errors independent.

    An update rounds kept * v, taken * m and their sum; a rounded float32 is off by at most 2^-24 of its
    size and, over a unit in the last place of at most 2^-23 of it, has a deviation of 2^-23 / sqrt(12).
    Older errors decay: their variances add up to 1 / (1 - decay^2) times that of one update.
    """
    _, v = replayed(moments, decay)
    m = np.abs(moments).max()
    one = 2.0**-23 / np.sqrt(12) * np.sqrt((decay * v) ** 2 + ((1 - decay) * m) ** 2 + v**2)
    return 6 * one / np.sqrt(1 - decay**2)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_replay_lies_within_the_proven_bound(in_graph, decay):
    moments, keras_average = in_graph
    [own] = advance(START[None], moments, [decay])
    bound = replay_tolerance(decay, largest=max(1.0, np.abs(moments).max()))
    np.testing.assert_allclose(own, keras_average[decay], rtol=0, atol=bound)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_replay_lies_within_the_spread_of_independent_rounding(in_graph, decay):
    moments, keras_average = in_graph
    [own] = advance(START[None], moments, [decay])
    np.testing.assert_allclose(own, keras_average[decay], rtol=0, atol=spread(decay, moments))


def test_weights_that_add_up_to_one_miss_keras_at_high_decays(in_graph):
    moments, keras_average = in_graph
    naive, _ = replayed(moments, 0.9999, weights=(0.9999, 1 - 0.9999))
    assert np.abs(naive - keras_average[0.9999]).max() > 2 * spread(0.9999, moments)
