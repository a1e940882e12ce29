"""The reference against Keras's layers: outputs, gradients and moving statistics, in two precisions.

Float64 shows that both compute the same thing, float32 that both phases of a trained network do. Tolerances
count roundings at worst, each of half a step of the format. A sum of m terms, in whatever order, rounds each
of them at most m times. With reach = largest |x| * largest inv:

- y: the mean is off by m roundings of |x|, the variance's root by as much, and the two terms of the closed
  form, of size reach * |gamma|, by a few more: (2 m + 10) of reach * |gamma| + |beta|.
- dx and dgamma: Keras sums dy * x where the reference sums dy * (x - mean). Two sums and the errors of mean
  and variance make (4 m + 20) roundings of terms up to |dy| * (1 + reach), times what multiplies them.
"""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bnlab.science.averages import replay_tolerance
from bnlab.science.reference import backward, batch_moments, forward, infer, update_moving
from bnlab.science.sets import Moments

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


OPTIONS = {
    "plain": {},
    "no scale": {"scale": False},
    "no center": {"center": False},
    "neither": {"scale": False, "center": False},
    "small epsilon": {"epsilon": 1e-7},
}


def keras_layer(kind, form, **options):
    if kind in ("batch", "inference"):
        return layers.BatchNormalization(axis=axis_of(form), **options)
    groups = {"layer": 1, "instance": -1, "group": 3}[kind]
    return layers.GroupNormalization(groups, axis=axis_of(form), **options)


def keras_run(layer, x, dy, **phase):
    """Output of a layer and gradients by x and by those of gamma and beta that it has, by name."""
    x, dy = (tf.constant(values, layer.compute_dtype) for values in (x, dy))
    sources = {"x": x, **{variable.name: variable.value for variable in layer.trainable_variables}}
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **phase)
        loss = tf.reduce_sum(y * dy)
    return {"y": y, **tape.gradient(loss, sources)}


def tolerances(x, gamma, beta, dy, cache, dtype):
    """See the top; m is the largest set or sum over a channel."""
    half, m = np.finfo(dtype).eps / 2, max(x.size // len(x), x.size // 6)
    scale, pull, inv, largest = (np.abs(v).max() for v in (gamma, dy, cache.inv, cache.normalized))
    reach = inv * np.abs(x).max()
    return {
        "y": (2 * m + 10) * half * (reach * scale + np.abs(beta).max()),
        "x": (4 * m + 20) * half * scale * inv * (1 + largest) * pull * (1 + reach),
        "gamma": (4 * m + 20) * half * m * pull * (1 + reach),
        "beta": m * half * m * pull,
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("kind", [*KINDS, "inference"])
def test_outputs_and_gradients_are_keras(kind, form, options, dtype):
    (x, gamma, beta, dy), axis, given = problem(form), axis_of(form), OPTIONS[options]
    gamma, beta = gamma if given.get("scale", True) else np.ones(6), beta * given.get("center", True)
    layer, epsilon = keras_layer(kind, form, dtype=dtype, **given), given.get("epsilon", 1e-3)
    layer.build(x.shape)
    moving = Moments(np.linspace(-1, 1, 6, dtype=np.float32), np.geomspace(0.5, 2, 6, dtype=np.float32))
    values = {"gamma": gamma, "beta": beta, "moving_mean": moving.mean, "moving_variance": moving.variance}
    for variable in layer.variables:
        variable.assign(values[variable.name])
    if kind == "inference":
        y, cache = infer(x, gamma, beta, moving, axis, epsilon)
    else:
        y, cache = forward(x, gamma, beta, kind, 3, axis, epsilon)
    own = {"y": y, **backward(dy, cache)._asdict()}
    atol = tolerances(x, gamma, beta, dy, cache, dtype)
    phase = {"training": kind == "batch"} if kind in ("batch", "inference") else {}
    for name, theirs in keras_run(layer, x, dy, **phase).items():
        np.testing.assert_allclose(theirs, own[name], rtol=0, atol=atol[name], err_msg=name)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moving_statistics_are_keras_over_many_steps(dtype, form, decay):
    layer, moving = keras_layer("batch", form, momentum=decay, dtype=dtype), Moments(np.zeros(6), np.ones(6))
    for seed in range(20):
        x = problem(form, seed)[0] * (1 + seed)  # wider from step to step
        layer(tf.constant(x, dtype), training=True)
        moving = update_moving(moving, batch_moments(x, axis_of(form)), decay)
    # The average's own rounding, derived for float32 and scaled; that of moments of at most 60 values; and
    # that of the two weights, by half a step each, in each of 20 updates.
    half, largest = np.finfo(dtype).eps / 2, (x**2).max()
    atol = replay_tolerance(decay, largest) * half * 2**24 + (60 + 10 + 2 * 20) * half * largest
    np.testing.assert_allclose(layer.moving_mean, moving.mean, rtol=0, atol=atol)
    np.testing.assert_allclose(layer.moving_variance, moving.variance, rtol=0, atol=atol)
