"""Convolution networks that classify: each block halves the image, a mean over positions ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import layers

from bnlab.models.block import Block

Tensor: TypeAlias = Any


def convnet(
    shape: Sequence[int], classes: int, widths: Sequence[int], block: Block, dropout: float = 0.0
) -> keras.Model:
    """Build blocks of stride 2, one per width, then a global mean and one dense layer.

    28x28x1 with widths 16, 32, 64 takes 0.55 M multiply-adds per image; 32x32x3 with 32, 64, 128
    takes 2.6 M.
    """
    x = image = keras.Input(tuple(shape), name="image")
    for number, width in enumerate(widths, start=1):
        x = block(x, width, f"block{number}", stride=2)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, logits(x, classes, dropout), name="convnet")


def convnet_5x5(
    shape: Sequence[int], classes: int, widths: Sequence[int], block: Block, dropout: float = 0.0
) -> keras.Model:
    """Build 5x5 convolutions without padding, one per width, then 2x2 maxima and one dense layer.

    With one width of 32 and 28x28x1, 24 x 24 positions of a batch share each filter's moments.
    """
    x = image = keras.Input(tuple(shape), name="image")
    for number, width in enumerate(widths, start=1):
        x = block(x, width, f"block{number}", kernel=5, padding="valid")
    x = layers.Flatten(name="flat")(layers.MaxPooling2D(2, name="maxima")(x))
    return keras.Model(image, logits(x, classes, dropout), name="convnet_5x5")


def logits(x: Tensor, classes: int, dropout: float) -> Tensor:
    """End a classifier: dropout, where there is any, and one dense layer, in float32 at any precision."""
    x = layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return layers.Dense(classes, dtype="float32", name="logits")(x)
