"""A small convolution network: each block halves the image, a mean over positions ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from bnlab.models.block import conv_norm_relu


def convnet(
    shape: Sequence[int], classes: int, widths: Sequence[int], norm: str, options: Mapping[str, Any]
) -> keras.Model:
    """Build blocks of stride 2, one per width, then a global mean and one dense layer.

    28x28x1 with widths 16, 32, 64 takes 0.55 M multiply-adds per image; 32x32x3 with 32, 64, 128
    takes 2.6 M.
    """
    x = image = keras.Input(tuple(shape), name="image")
    for number, width in enumerate(widths, start=1):
        x = conv_norm_relu(x, width, f"block{number}", norm, options, stride=2)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="convnet")
