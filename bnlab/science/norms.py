"""The normalization layers, by name: one table, Keras's own layers, options passed by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras

Layer: TypeAlias = Any  # a Keras layer; Keras has no types


def batch(name: str, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize each channel by its mean and variance over the batch and all positions (N, H, W).

    Ioffe & Szegedy, arXiv 1502.03167, section 3.2. The layer's momentum is Keras's default: no moving
    average is taken in training here, the tape replays them all.
    """
    return keras.layers.BatchNormalization(name=name, **options)


def group(name: str, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize each image by mean and variance over positions and a group of channels (C/G, H, W).

    Wu & He, arXiv 1803.08494, section 3. Nothing depends on the batch, so both phases are one function.
    """
    return keras.layers.GroupNormalization(name=name, **options)


NORMS: Mapping[str, Callable[..., Layer]] = {"batch": batch, "group": group}
