"""Take hold of a model's normalization layers: which statistics they use, and what they saw.

Inside `probe(...)` every batch normalization layer of a model normalizes by the statistics it is given,
updates nothing, and can note the moments of what passed through it. Everything else in the model -
dropout included - follows the phase that the model is called with. Afterwards the model is as it was.

This replaces `call` on layer *instances*, so it holds for stock Keras layers, in eager mode, in
`tf.function` and under XLA. For plain float32 layers (not masked, renormalized or synchronized) the
arithmetic is Keras's own: whole-call batch statistics and fixed statistics give its outputs bit for bit.
A function must be traced inside to use it, and one traced inside keeps it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import keras
from keras import ops

Tensor: TypeAlias = Any
NormLayer: TypeAlias = Any  # keras.layers.BatchNormalization, which has no types


@dataclass(frozen=True)
class Batch:
    """Statistics of the batch itself (phase true), over groups of `size` consecutive images.

    Attributes:
        size: images that share their statistics; it must divide the number of images in a call.
            None takes the whole call as one batch, as in training.
    """

    size: int | None = None


# layer name -> (mean, variance), each (channels,): phase false, or any other fixed statistics.
Fixed: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
Statistics: TypeAlias = Batch | Fixed


class Note(NamedTuple):
    """Moments that one call of one layer saw: mean and variance are (groups, channels)."""

    layer: str
    call: int
    mean: Tensor
    variance: Tensor


def normalization_layers(model: keras.Model) -> list[NormLayer]:
    """List the batch normalization layers of a model, nested ones included, in the model's order.

    Raises:
        ValueError: two of them have one name, so statistics could not be told apart.
    """
    found = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    names = [layer.name for layer in found]
    if len(set(names)) < len(names):
        raise ValueError(f"normalization layers must have names of their own, got {sorted(names)}")
    return found


@contextmanager
def probe(model: keras.Model, statistics: Statistics, notes: list[Note] | None = None) -> Iterator[None]:
    """Normalize by `statistics` while inside; leave nothing behind.

    Args:
        model: any built Keras model; its variables are read, never written.
        statistics: `Batch` or, for every normalization layer, fixed (mean, variance).
        notes: with `Batch`, one entry per call of a layer is appended: what it saw.

    Raises:
        KeyError: fixed statistics lack a layer.
    """
    calls = {layer: _replacement(layer, statistics, notes) for layer in normalization_layers(model)}
    for layer, call in calls.items():
        layer.call = call
    try:
        yield
    finally:
        for layer in calls:
            del layer.call


def outputs(model: keras.Model, x: Tensor, statistics: Statistics) -> Tensor:
    """Evaluate a model under any statistics: a function of its arguments that changes none of them.

    Only normalization is switched: layers such as dropout stay off, under batch statistics too.

    Args:
        model: any built Keras model.
        x: (images, ...) inputs; with `Batch(b)`, b divides the number of images.
        statistics: `Batch(b)` for phase true, fixed ones for phase false and everything else.
    """
    with probe(model, statistics):
        return model(x, training=False)


def _replacement(layer: NormLayer, statistics: Statistics, notes: list[Note] | None) -> Callable[..., Tensor]:
    if isinstance(statistics, Batch):
        return _batch_call(layer, statistics.size, notes)
    mean, variance = statistics[layer.name]

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        spread = _broadcast_shape(layer, inputs.ndim, layer.axis)
        return _normalized(layer, inputs, ops.reshape(mean, spread), ops.reshape(variance, spread), spread)

    return call


def _batch_call(layer: NormLayer, size: int | None, notes: list[Note] | None) -> Callable[..., Tensor]:
    calls = itertools.count()

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        # One call over many batches at once: groups of images become an axis of their own.
        grouped = inputs if size is None else ops.reshape(inputs, (-1, size, *inputs.shape[1:]))
        lead = 0 if size is None else 1
        channel = layer.axis % inputs.ndim + lead
        axes = [axis for axis in range(lead, grouped.ndim) if axis != channel]
        mean, variance = ops.moments(grouped, axes, keepdims=True)
        spread = _broadcast_shape(layer, grouped.ndim, channel)
        if notes is not None:
            flat = (-1, spread[channel])
            notes.append(Note(layer.name, next(calls), ops.reshape(mean, flat), ops.reshape(variance, flat)))
        return ops.reshape(_normalized(layer, grouped, mean, variance, spread), ops.shape(inputs))

    return call


def _broadcast_shape(layer: NormLayer, rank: int, axis: int) -> list[int]:
    shape = [1] * rank
    shape[axis] = layer.moving_mean.shape[0]
    return shape


def _normalized(layer: NormLayer, x: Tensor, mean: Tensor, variance: Tensor, spread: list[int]) -> Tensor:
    """Scale and shift in the closed form x * inv + (beta - mean * inv), in Keras's order of operations."""
    inv = ops.rsqrt(variance + layer.epsilon)
    inv = inv * ops.reshape(layer.gamma, spread) if layer.scale else inv
    shift = ops.reshape(layer.beta, spread) - mean * inv if layer.center else -mean * inv
    return x * inv + shift
