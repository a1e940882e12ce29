"""The forum question's network: an encoder of each frame, a sampled latent, a GRU over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
from keras import layers, ops

from bnlab.models.block import Block

Tensor: TypeAlias = Any
LATENT = 16
UNITS = 32


def sequence(shape: Sequence[int], frames: int, widths: Sequence[int], block: Block) -> keras.Model:
    """Build 4x4 convolutions of stride 2, one per width, a latent of 16, a GRU of 32, one output per frame.

    Its inputs are frames (N, T, H, W, C) and standard normal noise (N, T, 16): the latent is mean +
    deviation * noise. With the noise outside, two evaluations can be given the same draws, and nothing
    but the statistics differs between them.
    """
    images = keras.Input((frames, *shape), name="frames")
    noise = keras.Input((frames, LATENT), name="noise")
    x = ops.reshape(images, (-1, *shape))
    for number, width in enumerate(widths, start=1):
        x = block(x, width, f"block{number}", kernel=4, stride=2)
    latent = _sampled(layers.Flatten(name="flat")(x), noise)
    states = layers.GRU(UNITS, return_sequences=True, name="gru")(latent)
    output = layers.Dense(1, dtype="float32", name="output")(states)
    values = layers.Reshape((frames,), dtype="float32", name="values")(output)
    return keras.Model([images, noise], values, name="sequence")


def _sampled(x: Tensor, noise: Tensor) -> Tensor:
    mean = layers.Dense(LATENT, name="latent_mean")(x)
    deviation = layers.Dense(LATENT, activation="softplus", name="latent_deviation")(x)
    per_frame = (-1, *noise.shape[1:])
    return ops.reshape(mean, per_frame) + ops.reshape(deviation, per_frame) * noise
