"""Untrained networks whose right statistics and labels are known: what the doctor's core is tested on."""

from contextlib import contextmanager

import keras
import numpy as np
from keras import layers

from bnlab.doctor.chart import Chart
from bnlab.doctor.data import Data
from bnlab.doctor.subject import Subject
from bnlab.science.moments import Moments
from bnlab.science.probe import put_statistics

BATCH = 32
SAMPLES = 1024
"""Half of `DATA` estimates, half is scored on."""


def blobs(count, seed):
    """Samples of three kinds, as many of each but one, in six dimensions."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(1, 1.5, (3, 6))
    return (centers[rng.permutation(count) % 3] + rng.normal(size=(count, 6))).astype(np.float32)


def dense(momentum=0.99, epsilon=1e-3, dropout=0.0, norm=layers.BatchNormalization):
    """Two normalizations in a small network with weights of its own; outputs are logits of three classes."""
    own = {"momentum": momentum, "epsilon": epsilon}
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, name="first"),
            *([layers.Dropout(dropout, seed=1)] if dropout else []),
            norm(name="one", **own),
            layers.ReLU(),
            layers.Dense(8, name="second"),
            norm(name="two", **own),
            layers.ReLU(),
            layers.Dense(3, name="last"),
        ]
    )
    scramble(model)
    return model


def scramble(model, seed=11):
    """Give weights values that do not depend on Keras's own random numbers."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if variable.ndim > 1:
            size = 8.0 if "last" in variable.path else 1.0
            variable.assign(rng.normal(0, size / np.sqrt(np.prod(variable.shape[:-1])), variable.shape))
        else:
            middle = 1.0 if "gamma" in variable.path else 0.0
            variable.assign(rng.normal(middle, 0.3, variable.shape))


def oracle(model, x, statistics=None):
    """Run a chain of layers in float64 numpy; convolutions are of one pixel.

    Returns the outputs, and layer -> moments of what each normalization saw. Statistics that are not given
    are those of x itself: the population's, layer by layer.
    """
    x, seen = np.asarray(x, np.float64), {}
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            axes = tuple(range(x.ndim - 1))
            seen[layer.name] = Moments(x.mean(axes), x.var(axes))
            mean, variance = (statistics or seen)[layer.name]
            x = (x - mean) / np.sqrt(variance + layer.epsilon)
            x = x * np.array(layer.gamma, np.float64) + np.array(layer.beta, np.float64)
        elif isinstance(layer, layers.Dense | layers.Conv2D):
            kernel, bias = (np.array(own, np.float64) for own in layer.get_weights())
            x = x @ kernel.reshape(kernel.shape[-2:]) + bias
        elif isinstance(layer, layers.ReLU):
            x = np.maximum(x, 0)
    return x, seen


def drawn(logits, seed):
    """Draw labels from a model's own probabilities: no other model knows better."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return (logits + noise).argmax(-1)


def data_of(model, train=2 * SAMPLES // 2, test=SAMPLES // 2, labelled=True):
    """Data on which a model is as good as can be under the population's statistics; those too."""
    x_train, x_test = blobs(train, 1), blobs(test, 2)
    logits, population = oracle(model, x_train)
    y_train, y_test = drawn(logits, 3), drawn(oracle(model, x_test, population)[0], 4)
    labels = (y_train, y_test) if labelled else (None, None)
    return Data(x_train, labels[0], x_test, labels[1]), population


@contextmanager
def charted(subject, statistics, data, **facts):
    """Chart a subject with other moving statistics; what it has compiled is used again."""
    put_statistics(subject.model, statistics)
    with subject:
        yield Chart(subject, data, SAMPLES, facts)


def subject_of(model, data):
    return Subject(model, data.x_train, BATCH)


def mixture_of_start(population, share):
    """Averages that still hold a share of mean 0 and variance 1."""
    return {
        key: Moments((1 - share) * own.mean, (1 - share) * own.variance + share)
        for key, own in population.items()
    }
