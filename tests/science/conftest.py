"""Small Keras models with batch normalization in many places, float32 or float64."""

import numpy as np
import pytest

# Input shapes: 12 images each.
SHAPES = {
    "images": (12, 8, 8, 2),
    "sequences": (12, 7, 3),
    "vectors": (12, 5),
    "one channel": (12, 6, 6, 1),
    "channels first": (12, 3, 5, 4),
    "no scale": (12, 4, 4, 3),
    "no center": (12, 4, 4, 3),
    "neither": (12, 4, 4, 3),
    "small epsilon": (12, 4, 4, 3),
}
OPTIONS = {
    "channels first": {"axis": 1},
    "no scale": {"scale": False},
    "no center": {"center": False},
    "neither": {"scale": False, "center": False},
    "small epsilon": {"epsilon": 1e-5},
}


def network(kind, dtype):
    """A convolution network with two normalizations, dense ones with one, or the lone layer."""
    from keras import Input, Model, layers

    def norm(number):
        return layers.BatchNormalization(name=f"norm{number}", dtype=dtype, **OPTIONS.get(kind, {}))

    x = image = Input(SHAPES[kind][1:], dtype=dtype)
    if kind == "images":
        x = norm(1)(layers.Conv2D(4, 3, dtype=dtype, name="conv1")(x))
        x = norm(2)(layers.Conv2D(3, 3, activation="relu", dtype=dtype, name="conv2")(x))
        x = layers.Dense(3, dtype=dtype)(layers.Flatten(dtype=dtype)(x))
    elif kind in ("sequences", "vectors"):
        x = layers.Dense(2, dtype=dtype)(norm(1)(layers.Dense(6, dtype=dtype)(x)))
    else:
        x = norm(1)(x)
    return Model(image, x)


def scramble(model, seed=1):
    """Give every variable a value of its own; variances stay positive."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([1, 1, 1.5], variable.shape))


@pytest.fixture(params=list(SHAPES))
def kind(request):
    return request.param


@pytest.fixture
def make():
    """Build a scrambled model of a kind with inputs for it, of mean 3 and deviation 2."""

    def made(kind, dtype="float32"):
        model = network(kind, dtype)
        scramble(model)
        return model, np.random.default_rng(0).normal(3, 2, SHAPES[kind]).astype(dtype)

    return made


@pytest.fixture
def fixed_of():
    """A model's own moving statistics, as a value."""
    from bnlab.science.probe import normalization_layers

    return lambda model: {
        layer.name: (np.array(layer.moving_mean), np.array(layer.moving_variance))
        for layer in normalization_layers(model)
    }
