"""An autoencoder: strides make the image smaller, transposed strides make it as large as it was."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from bnlab.models.block import Block


def autoencoder(shape: Sequence[int], widths: Sequence[int], block: Block) -> keras.Model:
    """Build one convolution of stride 2 per width, as many transposed ones, and pixels in [0, 1].

    28x28 with two widths goes through 14 and 7 and back. Each convolution is normalized; a last one of
    1x1 with a sigmoid, not normalized and in float32, makes the pixels.
    """
    x = image = keras.Input(tuple(shape), name="image")
    for number, width in enumerate(widths, start=1):
        x = block(x, width, f"down{number}", stride=2)
    for number, width in reversed(list(enumerate([widths[0], *widths[:-1]], start=1))):
        x = block(x, width, f"up{number}", stride=2, transposed=True)
    pixels = layers.Conv2D(shape[-1], 1, activation="sigmoid", dtype="float32", name="pixels")(x)
    return keras.Model(image, pixels, name="autoencoder")
