"""Evaluate a model over many images under any statistics, in a few graph calls.

What lies before the first normalization is the same under all fixed statistics, so it is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.records import Trial
from bnlab.science.moments import Moments, merged
from bnlab.science.norms import in_training
from bnlab.science.probe import Note, outputs, probe, switched_layers
from bnlab.science.scores import Scores
from bnlab.science.sources import Batch, Blend, Fixed

Tensor: TypeAlias = Any
# (split, statistics as `content` names them) -> scores: what was evaluated once need not be again.
Known: TypeAlias = dict[tuple[str, bytes], Scores]
# Images per graph call: enough to keep the convolutions busy, few enough for the caches.
_CALL = 512
# Outputs under several sets of statistics that are held at once: many of a classifier, few of an autoencoder.
_BYTES = 64 * 2**20
# Bytes of the widest layer's inputs, at once for population statistics; some three times as much is held.
_AT_ONCE = 2**29
# Draws of a latent's noise for fresh batches: none of them are those of an evaluation.
_FRESH = 2**20


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
        self._before, self._rest = _cut(model)
        self._call = batch_size * -(-_CALL // batch_size)
        self._batch = tf.function(self._with_batches)
        self._fixed = tf.function(self._with_fixed, reduce_retracing=True)
        self._blend = tf.function(self._with_blends, reduce_retracing=True)
        self._seen = tf.function(self._noted_under)
        found = switched_layers(model)
        self._channels = {layer.name: layer.moving_mean.shape[0] for layer in found}
        # Bytes that one image makes of the widest input of a normalization; a sequence is several frames.
        frames = dict(trial.details).get("frames") or 1
        self._widest = max((4 * frames * math.prod(layer.input.shape[1:]) for layer in found), default=0)
        self._noting: dict[tuple, Callable[..., dict]] = {}

    @property
    def layers(self) -> list[str]:
        """Names of the normalization layers that have two phases, in the model's order."""
        return list(self._layers)

    def in_batches(self, images: np.ndarray, step: int) -> np.ndarray:
        """Compute outputs with phase true: each batch by its own statistics, as in training at a step.

        The last partial batch is filled by wrapping round to the first images, and the outputs of
        those are dropped: every image is normalized among as many as in training.
        """
        return self._over(images, self._batch, tf.constant(step / self._trial.steps, tf.float32))

    def with_fixed(self, images: np.ndarray, statistics: Sequence[Fixed]) -> Iterator[np.ndarray]:
        """Compute outputs with phase false, every image by the same statistics: once for each given set."""
        together = self._together(images)
        for first in range(0, len(statistics), together):
            some = statistics[first : first + together]
            values = [_stacked([fixed[layer] for fixed in some]) for layer in self._layers]
            yield from self._over(images, self._fixed, (tf.range(len(some)), values), axis=1)

    def blended(
        self, images: np.ndarray, fixed: Fixed, weights: np.ndarray, each: bool = False
    ) -> Iterator[np.ndarray]:
        """Compute outputs under fixed statistics mixed with those of the batch, once for each set of weights.

        Args:
            images: pixels, as everywhere.
            fixed: what is mixed in with weight 0.
            weights: (sets, layers) in [0, 1]: the share of the batch's own, as in `Blend`.
            each: mix in each image's own moments instead of the batch's.
        """
        values = [_stacked([fixed[layer]]) for layer in self._layers]
        values = [(mean[0], variance[0]) for mean, variance in values]
        for some in np.array_split(
            np.asarray(weights, np.float32), -(-len(weights) // self._together(images))
        ):
            given = tf.constant(some), values, each
            yield from self._over(images, self._blend, given, axis=1)

    def moments(self, images: np.ndarray, size: int, step: int) -> dict[str, Moments]:
        """Note the moments of every batch with phase true, as in training at a step.

        Args:
            images: whole batches, one after another.
            size: images in a batch.
            step: of training, for clipping that depends on it.

        Returns:
            layer -> moments, (batches, channels) each.
        """
        share, most = tf.constant(step / self._trial.steps, tf.float32), size * -(-_CALL // size)
        parts = [
            self._notes(images[first : first + most], tf.constant(_FRESH + call), share, size, None)
            for call, first in enumerate(range(0, len(images), most))
        ]
        return {
            layer: Moments(*(np.concatenate([part[layer][i] for part in parts]) for i in (0, 1)))
            for layer in parts[0]
        }

    def population(self, images: np.ndarray) -> dict[str, Moments]:
        """Compute population statistics: layer by layer, earlier layers on population statistics already.

        All images are one batch, so each layer sees what those before it gave under the moments of all of
        them. Moments of parts are merged in float64, in the full form E[var] + Var[mean]. So many images
        that they would fill the memory are passed once for each layer instead, in parts.

        Returns:
            layer -> moments, (channels,) each.
        """
        if len(images) * self._widest > _AT_ONCE:
            return self._layer_by_layer(images)
        # Each image is a part: a float32 sum of all their values would lose digits.
        count = len(images)
        noted = self._notes(images, tf.constant(_FRESH), tf.constant(0.0), count, count)
        return {layer: merged(Moments(mean, variance)) for layer, (mean, variance) in noted.items()}

    def _layer_by_layer(self, images: np.ndarray) -> dict[str, Moments]:
        """Compute population statistics with a pass for each layer: those before it are known then."""
        firsts = range(0, len(images), _CALL)
        counts = [len(images[first : first + _CALL]) for first in firsts]
        found = {layer: Moments(np.zeros(n), np.ones(n)) for layer, n in self._channels.items()}
        for layer in self._layers:
            given = [_stacked([found[name]]) for name in self._layers]
            seen = [
                self._seen(images[first : first + _CALL], tf.constant(_FRESH + call), given)[layer]
                for call, first in enumerate(firsts)
            ]
            # A layer that is called several times sees as much in each call.
            means, variances = (np.concatenate(rows) for rows in zip(*seen, strict=True))
            found[layer] = merged(
                Moments(means, variances), list(np.repeat(counts, len(means) // len(counts)))
            )
        return found

    def of_another(self, images: np.ndarray, model: keras.Model) -> np.ndarray:
        """Compute what another model gives at inference, as it is, on the same inputs."""

        def given(x: Tensor, call: Tensor, _: None) -> Tensor:
            return model(self._inputs(x, call), training=False)

        # A graph fuses bfloat16 products with what is added to them, and rounds once where eager mode rounds
        # twice: all else here is a graph.
        half = self._trial.precision != "float32"
        return self._over(images, tf.function(given) if half else given, None)

    def _together(self, images: np.ndarray) -> int:
        """Count the sets of statistics whose outputs are held at once."""
        return max(1, _BYTES // (4 * len(images) * math.prod(self._model.output_shape[1:])))

    def _over(
        self,
        images: np.ndarray,
        function: Callable[..., Tensor],
        values: Any,  # noqa: ANN401
        axis: int = 0,
    ) -> np.ndarray:
        count = len(images)
        numbers = np.arange(-(-count // self._call) * self._call) % count
        calls = enumerate(numbers.reshape(-1, self._call))
        parts = [function(images[part], tf.constant(call), values).numpy() for call, part in calls]
        return np.concatenate(parts, axis).take(range(count), axis)

    def _with_batches(self, images: Tensor, call: Tensor, share: Tensor) -> Tensor:
        trained = in_training(self._trial.norm, dict(self._trial.options), self._size, share)
        batches = Batch(images.shape[0] // self._size, clip=trained.clip)
        return outputs(self._model, self._inputs(images, call), batches)

    def _with_fixed(self, images: Tensor, call: Tensor, values: tuple[Tensor, Sequence]) -> Tensor:
        x = self._before(self._inputs(images, call))

        def given(one: tuple[Tensor, Sequence]) -> Tensor:
            return outputs(self._rest, x, dict(zip(self._layers, one[1], strict=True)))

        return tf.map_fn(given, values, fn_output_signature=tf.float32, parallel_iterations=1)

    def _with_blends(self, images: Tensor, call: Tensor, values: tuple[Tensor, Sequence, bool]) -> Tensor:
        x = self._before(self._inputs(images, call))
        weights, fixed, each = values
        groups = images.shape[0] // (1 if each else self._size)

        def given(weight: Tensor) -> Tensor:
            shares = dict(zip(self._layers, tf.unstack(weight, len(self._layers)), strict=True))
            return outputs(self._rest, x, Blend(dict(zip(self._layers, fixed, strict=True)), shares, groups))

        return tf.map_fn(given, weights, parallel_iterations=1)

    def _noted_under(self, images: Tensor, call: Tensor, given: Sequence[tuple[Tensor, Tensor]]) -> dict:
        """Collect what every layer sees where all are normalized by fixed statistics."""
        fixed = {
            layer: (mean[0], variance[0]) for layer, (mean, variance) in zip(self._layers, given, strict=True)
        }
        notes = list[Note]()
        with probe(self._model, fixed, notes):
            self._model(self._inputs(images, call), training=False)
        return self._by_layer(notes)

    def _notes(self, images: np.ndarray, call: Tensor, share: Tensor, size: int, parts: int | None) -> dict:
        """Run `_noted`, compiled once for each number of images and their division."""
        # Not one function for all: TensorFlow warns of one that is traced again and again.
        key = len(images), size, parts
        if key not in self._noting:
            self._noting[key] = tf.function(partial(self._noted, size=size, parts=parts))
        return self._noting[key](images, call, share)

    def _noted(self, images: Tensor, call: Tensor, share: Tensor, size: int, parts: int | None) -> dict:
        """Collect what every layer sees: layer -> (means, variances), a row for each batch and call."""
        trained = in_training(self._trial.norm, dict(self._trial.options), size, share)
        count, notes = images.shape[0], list[Note]()
        # Population statistics are plain ones: no renormalization corrects them.
        clip = trained.clip if parts is None else (1.0, 0.0)
        with probe(self._model, Batch(count // size, clip=clip, parts=parts or 1), notes):
            self._model(self._inputs(images, call), training=False)
        return self._by_layer(notes)

    def _by_layer(self, notes: Sequence[Note]) -> dict[str, tuple[Tensor, ...]]:
        return {
            layer: tuple(
                tf.concat([getattr(n, part) for n in notes if n.layer == layer], 0)
                for part in ("mean", "variance")
            )
            for layer in self._layers
        }

    def _inputs(self, images: Tensor, call: Tensor) -> Any:  # noqa: ANN401
        pixels = tf.cast(images, tf.float32) / 255.0
        # Equal draws for equal calls: the noise of a latent is the same in both phases.
        return models.network_inputs(self._trial, pixels, draw=-1 - call)


def content(statistics: Fixed) -> bytes:
    """Name statistics by what they are in float32, as they are evaluated; nothing stands for phase true."""
    return b"".join(np.asarray(part, np.float32).tobytes() for own in statistics.values() for part in own)


def _cut(model: keras.Model) -> tuple[Callable[[Tensor], Tensor], keras.Model]:
    """Split a model in two at its first normalization; one that cannot be split there is all second part."""
    try:
        border = switched_layers(model)[0].input
        return partial(keras.Model(model.input, border), training=False), keras.Model(border, model.output)
    except (IndexError, ValueError):  # no normalization; inside another layer, or passed by on another path
        return lambda x: x, model


def _stacked(statistics: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Stack a layer's means and variances: two of (sets of statistics, channels)."""
    means, variances = (np.asarray(parts, np.float32) for parts in zip(*statistics, strict=True))
    return tf.constant(means), tf.constant(variances)
