"""Histograms of every layer over a trial's checkpoints: what it holds, what it gives, what it averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.checkpoint import chain, restore
from bnlab.data import Images
from bnlab.data.order import probe, trained_on
from bnlab.plan import Wanted
from bnlab.records import Trial
from bnlab.science.histogram import LayerHistogram, block, histogram
from bnlab.science.norms import in_training
from bnlab.science.probe import outputs
from bnlab.science.sources import Batch
from bnlab.science.tape import MovingStatistics
from bnlab.store import Folder

Tensor: TypeAlias = Any
Named: TypeAlias = Iterator[tuple[str, str, np.ndarray]]  # layer, kind, values
_KINDS = {
    "kernel": "weights",
    "recurrent_kernel": "weights",
    "bias": "biases",
    "gamma": "scales",
    "beta": "shifts",
}
# A histogram of a layer's outputs needs no more: the first convolution alone makes thousands per image.
_IMAGES = 256


def histograms(
    trial: Trial, images: Images, folder: Folder, wanted: Wanted, decay: float
) -> Iterator[LayerHistogram]:
    """Count the values of every layer at each wanted step, restored one after another into one new model.

    Args:
        trial: a trained one.
        images: its data set.
        folder: its checkpoints and tape.
        wanted: steps, train probe and evaluation batch size.
        decay: of the moving statistics.

    Yields:
        Weights, biases, scales and shifts of each layer; activations of each block with phase true, on
        the train probe's first images; mean and variance of each layer with moving statistics.
    """
    model = models.build(trial)
    activations = _activations(trial, model, wanted.eval_batch_size)
    pixels = _pixels(trial, images, wanted)
    moving = None
    for step, checkpoint in chain(folder):
        tape = checkpoint.tape
        moving = (moving or MovingStatistics(tape.columns, [decay])).advance(tape)
        if step not in wanted.steps:
            continue
        restore(checkpoint, model)
        for layer, kind, values in (*_parameters(model), *activations(pixels, step)):
            yield LayerHistogram(step, layer, kind, histogram(values))
        for layer, kind, values in _moving(moving, decay):
            yield LayerHistogram(step, layer, kind, histogram(values), decay)


def _pixels(trial: Trial, images: Images, wanted: Wanted) -> np.ndarray:
    seen = trained_on(trial.seed, len(images.train_x), trial.steps * trial.batch_size)
    most = max(_IMAGES, wanted.eval_batch_size)
    return images.train_x[probe(seen, wanted.train_images)[:most]]


def _parameters(model: keras.Model) -> Named:
    for layer in model.layers:
        found = defaultdict(list)
        for variable in layer.weights:
            if variable.name in _KINDS:  # moving statistics are replayed, not those of the model
                found[_KINDS[variable.name]].append(np.ravel(variable))
        yield from ((layer.name, kind, np.concatenate(parts)) for kind, parts in found.items())


def _moving(moving: MovingStatistics, decay: float) -> Named:
    for layer, (mean, variance) in moving.at(decay).items():
        yield layer, "moving mean", mean
        yield layer, "moving variance", variance


def _activations(trial: Trial, model: keras.Model, size: int) -> Callable[[np.ndarray, int], Named]:
    """Compile what every block gives with phase true: (images, step) -> the outputs of each."""
    ends = _ends(model)
    taps = keras.Model(model.input, [layer.output for layer in ends])

    @tf.function
    def run(images: Tensor, share: Tensor) -> list[Tensor]:
        trained = in_training(trial.norm, dict(trial.options), size, share)
        inputs = models.network_inputs(trial, tf.cast(images, tf.float32) / 255.0, draw=-1)
        return outputs(taps, inputs, Batch(images.shape[0] // size, clip=trained.clip))

    def activations(images: np.ndarray, step: int) -> Named:
        # Whole batches: the last one is filled by wrapping round, and the outputs of those are dropped.
        whole = images[np.arange(-(-len(images) // size) * size) % len(images)]
        given = run(tf.constant(whole), tf.constant(step / trial.steps, tf.float32))
        for layer, values in zip(ends, given, strict=True):
            # A layer that sees the frames of a sequence one by one gives several rows per image.
            rows = len(values) // len(whole) * len(images)
            yield layer.name, "activations", values[:rows].numpy()

    return activations


def _ends(model: keras.Model) -> list[keras.Layer]:
    """List the last layer of each block: its ReLU, else its normalization, else the layer itself."""
    last = {}
    for layer in model.layers:
        if layer.weights or block(layer.name) != layer.name:
            last[block(layer.name)] = layer
    return list(last.values())
