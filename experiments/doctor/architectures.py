"""The networks: a table from a name to what builds it from a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
from keras import layers

from experiments.doctor.custom import AlwaysBatch
from experiments.doctor.recipe import Recipe

Tensor: TypeAlias = Any


def _norm(recipe: Recipe, number: int, **options: Any) -> layers.Layer:  # noqa: ANN401
    if recipe.normalizer == "group" and number % 2:
        return layers.GroupNormalization(groups=2, **options)
    kind = AlwaysBatch if recipe.normalizer == "always_batch" else layers.BatchNormalization
    if recipe.norm_dtype:
        options["dtype"] = recipe.norm_dtype
    return kind(momentum=recipe.momentum, epsilon=recipe.epsilon, **options)


def _normalized(recipe: Recipe, x: Tensor, number: int, **options: Any) -> Tensor:  # noqa: ANN401
    if recipe.before_norm:
        x = layers.Dropout(recipe.before_norm, seed=number)(x)
    return _norm(recipe, number, **options)(x)


def _conv(width: int, strides: int = 1, size: int = 3, **options: Any) -> layers.Layer:  # noqa: ANN401
    return layers.Conv2D(width, size, strides=strides, padding="same", use_bias=False, **options)


def _start(recipe: Recipe) -> tuple[Tensor, Tensor]:
    inputs = keras.Input(recipe.shape)
    if recipe.inside == "translation":
        return inputs, layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", seed=recipe.seed)(inputs)
    if recipe.inside == "noise":
        return inputs, layers.GaussianNoise(0.1, seed=recipe.seed)(inputs)
    if recipe.inside == "resizing":
        return inputs, layers.Resizing(recipe.shape[0] - 4, recipe.shape[1] - 4)(inputs)
    return inputs, inputs


def _head(recipe: Recipe, x: Tensor) -> Tensor:
    units = 2 if recipe.regression else 10
    softmax = recipe.task in ("ints", "one_hot")
    return layers.Dense(units, activation="softmax" if softmax else None, dtype="float32", name="head")(x)


def _blocks(recipe: Recipe, x: Tensor, **options: Any) -> Tensor:  # noqa: ANN401
    for number in range(recipe.depth):
        x = _conv(recipe.width * 2 ** min(number, 2), 2 if number < 3 else 1, **options)(x)
        x = layers.ReLU(**options)(_normalized(recipe, x, number, **options))
    return x


def cnn(recipe: Recipe) -> keras.Model:
    """Build convolutions with stride 2, each normalized."""
    inputs, x = _start(recipe)
    return keras.Model(inputs, _head(recipe, layers.Flatten()(_blocks(recipe, x))))


def mixed(recipe: Recipe) -> keras.Model:
    """Build the same, computing in float16 with variables in float32."""
    inputs, x = _start(recipe)
    x = _blocks(recipe, x, dtype="mixed_float16")
    return keras.Model(inputs, _head(recipe, layers.Flatten()(x)))


def renorm(recipe: Recipe) -> keras.Model:
    """Build the same with batch renormalization, corrections kept within the paper's bounds."""
    inputs, x = _start(recipe)
    bounds = {"rmax": 3.0, "rmin": 1 / 3, "dmax": 5.0}
    for number in range(recipe.depth):
        x = _conv(recipe.width * 2 ** min(number, 2), 2 if number < 3 else 1)(x)
        options = (
            {"renorm": True, "renorm_clipping": bounds, "renorm_momentum": 0.9}
            if recipe.normalizer == "batch"
            else {}
        )
        x = layers.ReLU()(_normalized(recipe, x, number, **options))
    return keras.Model(inputs, _head(recipe, layers.Flatten()(x)))


def resnet(recipe: Recipe) -> keras.Model:
    """Build a residual network of three blocks: seven normalized layers and two normalized shortcuts."""
    inputs, x = _start(recipe)
    x = layers.ReLU()(_normalized(recipe, _conv(recipe.width, 2)(x), 0))
    for block in range(3):
        width, strides = recipe.width * 2 ** min(block, 1), 2 if block == 1 else 1
        y = layers.ReLU()(_normalized(recipe, _conv(width, strides)(x), 3 * block + 1))
        y = _normalized(recipe, _conv(width)(y), 3 * block + 2)
        if x.shape != y.shape:
            x = _normalized(recipe, _conv(width, strides, 1)(x), 3 * block + 3)
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(inputs, _head(recipe, layers.GlobalAveragePooling2D()(x)))


def dropout(recipe: Recipe) -> keras.Model:
    """Build convolutions with dropout before some normalizations, and before the head."""
    inputs, x = _start(recipe)
    for number in range(recipe.depth):
        x = layers.ReLU()(_normalized(recipe, _conv(recipe.width * 2 ** min(number, 2), 2)(x), number))
        kind = layers.SpatialDropout2D if number % 2 else layers.Dropout
        x = kind(recipe.dropout / 2, seed=number)(x)
    x = layers.Dropout(recipe.dropout, seed=99)(layers.Flatten()(x))
    return keras.Model(inputs, _head(recipe, x))


def nested(recipe: Recipe) -> keras.Model:
    """Build a convolutional backbone, itself a model, with a normalized head around it."""
    inputs, x = _start(recipe)
    image = keras.Input(x.shape[1:])
    backbone = keras.Model(image, _blocks(recipe, image), name="backbone")
    y = layers.Flatten()(backbone(x))
    y = _normalized(recipe, layers.Dense(4 * recipe.width, use_bias=False)(y), 2)
    return keras.Model(inputs, _head(recipe, layers.ReLU()(y)))


def dense(recipe: Recipe) -> keras.Model:
    """Build normalized dense layers on flat inputs."""
    inputs, x = _start(recipe)
    x = layers.Flatten()(x)
    for number in range(recipe.depth):
        x = _normalized(recipe, layers.Dense(8 * recipe.width >> number, use_bias=False)(x), number)
        x = layers.ReLU()(x)
    return keras.Model(inputs, _head(recipe, x))


ARCHITECTURES: Mapping[str, Callable[[Recipe], keras.Model]] = {
    "cnn": cnn,
    "resnet": resnet,
    "dropout": dropout,
    "nested": nested,
    "dense": dense,
    "renorm": renorm,
    "mixed": mixed,
}


def build(recipe: Recipe) -> keras.Model:
    """Build the recipe's network, its weights drawn from the recipe's seed."""
    keras.utils.set_random_seed(recipe.seed * 7 + 1)
    return ARCHITECTURES[recipe.architecture](recipe)
