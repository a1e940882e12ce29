"""Evaluate a model over many images under any statistics, in a few graph calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab.science.probe import Batch, Statistics, normalization_layers, outputs

Tensor: TypeAlias = Any
# Images per graph call: enough to keep the convolutions busy, few enough for the caches.
_CALL = 512


class Evaluator:
    """A model's outputs under batch or fixed statistics; each kind is compiled once.

    Args:
        model: restored from checkpoints between the calls; never changed here.
        batch_size: images that share their statistics in phase true.
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        """Prepare to compile; nothing is traced yet."""
        self._layers = [layer.name for layer in normalization_layers(model)]
        self._call = batch_size * -(-_CALL // batch_size)
        self._batch = _compiled(lambda x, _: outputs(model, x, Batch(batch_size)))
        self._fixed = _compiled(
            lambda x, values: outputs(model, x, dict(zip(self._layers, values, strict=True)))
        )

    def __call__(self, images: np.ndarray, statistics: Statistics) -> np.ndarray:
        """Compute outputs (images, ...) for uint8 images.

        The last partial batch is filled by wrapping round to the first images, and the outputs of
        those are dropped: every image is normalized among as many as in training.
        """
        if isinstance(statistics, Batch):
            return self._over(images, self._batch, [])
        values = [[_float32(part) for part in statistics[layer]] for layer in self._layers]
        return self._over(images, self._fixed, values)

    def _over(self, images: np.ndarray, function: Callable[..., Tensor], values: Sequence) -> np.ndarray:
        count = len(images)
        numbers = np.arange(-(-count // self._call) * self._call) % count
        parts = [function(images[part], values).numpy() for part in numbers.reshape(-1, self._call)]
        return np.concatenate(parts)[:count]


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return tf.function(lambda x, values: function(tf.cast(x, tf.float32) / 255.0, values))


def _float32(values: np.ndarray) -> Tensor:
    return tf.constant(np.asarray(values, np.float32))
