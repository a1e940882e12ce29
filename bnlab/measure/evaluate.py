"""Evaluate a model over many images under any statistics, in a few graph calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.records import Trial
from bnlab.science.norms import in_training
from bnlab.science.probe import Batch, Fixed, Statistics, outputs, switched_layers

Tensor: TypeAlias = Any
# Images per graph call: enough to keep the convolutions busy, few enough for the caches.
_CALL = 512


class Evaluator:
    """A model's outputs under batch or fixed statistics; each kind is compiled once.

    Args:
        trial: what the model was built for.
        model: restored from checkpoints between the calls; never changed here.
        batch_size: images that share their statistics in phase true.
    """

    def __init__(self, trial: Trial, model: keras.Model, batch_size: int) -> None:
        """Prepare to compile; nothing is traced yet."""
        self._trial, self._model, self._size = trial, model, batch_size
        self._layers = [layer.name for layer in switched_layers(model)]
        self._call = batch_size * -(-_CALL // batch_size)
        self._batch = tf.function(self._with_batches)
        self._fixed = tf.function(self._with_fixed)

    def in_batches(self, images: np.ndarray, step: int) -> np.ndarray:
        """Compute outputs with phase true: each batch by its own statistics, as in training at a step.

        The last partial batch is filled by wrapping round to the first images, and the outputs of
        those are dropped: every image is normalized among as many as in training.
        """
        return self._over(images, self._batch, tf.constant(step / self._trial.steps, tf.float32))

    def with_fixed(self, images: np.ndarray, statistics: Fixed) -> np.ndarray:
        """Compute outputs with phase false: every image by the same given statistics."""
        values = [[_float32(part) for part in statistics[layer]] for layer in self._layers]
        return self._over(images, self._fixed, values)

    def of_another(self, images: np.ndarray, model: keras.Model) -> np.ndarray:
        """Compute what another model gives at inference, as it is, on the same inputs."""
        return self._over(images, lambda x, call, _: model(self._inputs(x, call), training=False), None)

    def _over(self, images: np.ndarray, function: Callable[..., Tensor], values: Any) -> np.ndarray:  # noqa: ANN401
        count = len(images)
        numbers = np.arange(-(-count // self._call) * self._call) % count
        calls = enumerate(numbers.reshape(-1, self._call))
        parts = [function(images[part], tf.constant(call), values).numpy() for call, part in calls]
        return np.concatenate(parts)[:count]

    def _with_batches(self, images: Tensor, call: Tensor, share: Tensor) -> Tensor:
        trained = in_training(self._trial.norm, dict(self._trial.options), self._size, share)
        batches = Batch(images.shape[0] // self._size, clip=trained.clip)
        return self._outputs(images, call, batches)

    def _with_fixed(self, images: Tensor, call: Tensor, values: Sequence) -> Tensor:
        return self._outputs(images, call, dict(zip(self._layers, values, strict=True)))

    def _outputs(self, images: Tensor, call: Tensor, statistics: Statistics) -> Tensor:
        return outputs(self._model, self._inputs(images, call), statistics)

    def _inputs(self, images: Tensor, call: Tensor) -> Any:  # noqa: ANN401
        pixels = tf.cast(images, tf.float32) / 255.0
        # Equal draws for equal calls: the noise of a latent is the same in both phases.
        return models.network_inputs(self._trial, pixels, draw=-1 - call)


def _float32(values: np.ndarray) -> Tensor:
    return tf.constant(np.asarray(values, np.float32))
