"""Moments over all replicas: those of the whole batch, forth and back, where Keras's own cancel."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnlab.science.moments import Moments
from bnlab.science.probe import Note, probe
from bnlab.science.sources import Batch
from bnlab.science.synchronized import cancelled, synchronized
from bnlab.train.replicas import Ledger, current_replica

COUNT = 4


@pytest.fixture(scope="module")
def four():
    return tf.distribute.MirroredStrategy(
        [f"CPU:{number}" for number in range(COUNT)], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def on_each(strategy, parts, function):
    """Run a function of each replica's part; returns what each gives."""

    def own():
        return function(tf.gather(tf.constant(parts), current_replica()))

    given = tf.function(lambda: strategy.run(own), autograph=False)()
    return [np.array(value) for value in strategy.experimental_local_results(given)]


def moments_of(part):
    return tf.stack(synchronized(*tf.nn.moments(part, [0])))


def test_all_replicas_have_the_moments_of_the_whole_batch(four):
    # Means 0, 2, 4, 6 and variance 1 in each part: mean 3, variance 1 + 5.
    parts = np.array([[[-1.0], [1.0]], [[1.0], [3.0]], [[3.0], [5.0]], [[5.0], [7.0]]], np.float32)
    assert [own.ravel().tolist() for own in on_each(four, parts, moments_of)] == [[3.0, 6.0]] * COUNT


def test_one_device_has_nobody_to_ask():
    mean, variance = synchronized(tf.constant([1.0]), tf.constant([2.0]))
    assert (mean.numpy().tolist(), variance.numpy().tolist()) == ([1.0], [2.0])


def test_nothing_cancels_where_keras_loses_all_variance(four):
    # Exactly -1 and 1 around 10,000: mean 10,000, variance 1. In float32 both E[x^2] = 100,000,001 and
    # E[x]^2 = 100,000,000 lie between neighbours 8 apart, and are the same number.
    parts = np.tile(np.array([[9999.0], [10001.0]], np.float32), (COUNT, 1, 1))
    with four.scope():
        layer = keras.layers.BatchNormalization(synchronized=True, momentum=0.0)
        layer.build((None, 1))
    on_each(four, parts, lambda part: layer(part, training=True))
    assert layer.moving_variance.numpy().tolist() == [0.0]
    assert [own.ravel().tolist() for own in on_each(four, parts, moments_of)] == [[10_000.0, 1.0]] * COUNT


@pytest.mark.parametrize("mean", [3.0, 30.0, 300.0])
def test_what_cancels_is_no_more_than_is_said(mean):
    x = np.random.default_rng(3).normal(mean, 1.0, (500, 64)).astype(np.float32)
    wide = x.astype(np.float64)
    true = Moments(wide.mean(1), wide.var(1))
    found = np.square(x).mean(1) - np.square(x.mean(1))
    off = np.abs(found - true.variance) / true.variance
    # numpy sums 64 numbers as 8 sums of 8: 10 roundings more in the one mean, twice 10 by the other's square.
    assert (off <= cancelled(true, 0.0) * (1 + 30 / 5)).all()
    # Nor is it said of nothing: the typical error is a tenth of it or more.
    assert np.median(off) > np.median(cancelled(true, 0.0)) / 20


def test_keras_keeps_the_first_replica(four):
    parts = np.array([[[10.0 * r - 1], [10.0 * r + 1]] for r in range(COUNT)], np.float32)
    with four.scope():
        layer = keras.layers.BatchNormalization(momentum=0.0)
        layer.build((None, 1))
    on_each(four, parts, lambda part: layer(part, training=True))
    assert [copy.numpy().tolist() for copy in layer.moving_mean.value.values] == [[0], [10], [20], [30]]
    assert layer.moving_mean.numpy().tolist() == [0.0]
    # Under the strategy each replica uses its own: its part of mean 10 r + 0 is centered there.
    inside = on_each(four, parts, lambda part: layer(part, training=False))
    assert [own.mean() for own in inside] == pytest.approx([0.0] * COUNT, abs=2.0**-18)


def layer_and_batch():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.BatchNormalization(name="norm")(inputs))
    return model, np.random.default_rng(1).normal(2, 3, (COUNT, 8, 3)).astype(np.float32)


def test_outputs_notes_and_gradients_are_those_of_the_whole_batch(four):
    with four.scope():
        model, parts = layer_and_batch()
    ledger = Ledger()

    def sloped(part):
        with tf.GradientTape() as tape:
            tape.watch(part)
            loss = tf.reduce_sum(model(part, training=True) ** 3)
        [note] = ledger.replicas[current_replica()]
        return tf.concat([tape.gradient(loss, part), note.mean, note.variance], 0)

    with probe(model, Batch(synchronized=True), ledger):
        given = on_each(four, parts, sloped)
    whole, notes = tf.constant(parts.reshape(-1, 3)), list[Note]()
    with probe(model, Batch(), notes), tf.GradientTape() as tape:
        tape.watch(whole)
        loss = tf.reduce_sum(model(whole, training=True) ** 3)
    slope = tape.gradient(loss, whole).numpy().reshape(COUNT, 8, 3)
    # Sums of 32 numbers below 150 in another order.
    np.testing.assert_allclose([own[:8] for own in given], slope, atol=32 * 2.0**-23 * 150)
    for own in given:
        np.testing.assert_allclose(own[8], notes[0].mean[0], atol=32 * 2.0**-23 * 10)
        np.testing.assert_allclose(own[9], notes[0].variance[0], atol=32 * 2.0**-23 * 100)


def test_groups_are_not_synchronized():
    with pytest.raises(ValueError, match="one group in one part on every replica, got groups=2 and parts=1"):
        Batch(groups=2, synchronized=True)


def test_a_masked_batch_is_not_synchronized():
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Masking(), keras.layers.BatchNormalization()])
    with (
        probe(model, Batch(synchronized=True)),
        pytest.raises(ValueError, match="unequal counts cannot be synchronized"),
    ):
        model(np.ones((2, 4, 2), np.float32), training=True)
