"""Take hold of a model's normalization layers: which statistics they use, and what they saw.

Inside `probe(...)` every batch normalization layer of a model normalizes by the statistics it is given,
updates nothing, and can note the moments of what passed through it. Everything else in the model -
dropout included - follows the phase that the model is called with. Afterwards the model is as it was.

This replaces `call` on layer *instances*, so it holds for stock Keras layers, in eager mode, in
`tf.function` and under XLA. For plain float32 layers (not masked or synchronized) the arithmetic is
Keras's own: whole-call batch statistics and fixed statistics give its outputs bit for bit, but for
`Batch.fused`, which gives them to within rounding. A frozen layer (`trainable = False`) is left alone:
Keras never gives it batch statistics, whatever the phase. A function must be traced inside to use it, and
one traced inside keeps it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
from keras import ops

from bnlab.science.fused import normalized
from bnlab.science.sources import Batch, Blend, Fixed, Statistics, Tensor

NormLayer: TypeAlias = Any  # keras.layers.BatchNormalization, which has no types


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


def named_layers(model: keras.Model) -> dict[str, NormLayer]:
    return {layer.name: layer for layer in normalization_layers(model)}


def switched_layers(model: keras.Model) -> list[NormLayer]:
    """List the normalization layers that have two phases: all but the frozen ones."""
    return [layer for layer in normalization_layers(model) if layer.trainable]


def own_statistics(model: keras.Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the moving statistics that a model's layers hold: layer -> (mean, variance), float32 arrays."""
    found = switched_layers(model)
    return {layer.name: (np.array(layer.moving_mean), np.array(layer.moving_variance)) for layer in found}


def put_statistics(model: keras.Model, statistics: Fixed) -> None:
    """Write moving statistics into a model's layers, as if it had been trained with them."""
    for layer in switched_layers(model):
        mean, variance = statistics[layer.name]
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
        if layer.renorm:
            layer.moving_stddev.assign(np.sqrt(variance + layer.epsilon))


@contextmanager
def probe(model: keras.Model, statistics: Statistics, notes: list[Note] | None = None) -> Iterator[None]:
    """Normalize by `statistics` while inside; leave nothing behind.

    Args:
        model: any built Keras model; its variables are read, never written (but see `Batch.update`).
        statistics: `Batch`, `Blend` or, for every layer that is not frozen, fixed (mean, variance).
        notes: one entry per call of a layer is appended, but with `Blend`: what it saw.

    Raises:
        KeyError: fixed statistics lack a layer.
    """
    calls = {layer: _replacement(layer, statistics, notes) for layer in switched_layers(model)}
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
        x: (images, ...) inputs; with `Batch(groups)` their number is a multiple of groups.
        statistics: `Batch(groups)` for phase true, fixed ones for phase false and everything else.
    """
    with probe(model, statistics):
        return model(x, training=False)


def _replacement(layer: NormLayer, statistics: Statistics, notes: list[Note] | None) -> Callable[..., Tensor]:
    if isinstance(statistics, Batch):
        return (_fused_call if _can_fuse(layer, statistics) else _batch_call)(layer, statistics, notes)
    if isinstance(statistics, Blend):
        return _blended_call(layer, statistics)
    (mean, variance), calls = statistics[layer.name], itertools.count()

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        spread = _broadcast_shape(layer, inputs.ndim, layer.axis)
        if notes is not None:
            _, axes, _ = _in_groups(layer, inputs, 1)
            # Each image is a part: what is noted here is of many at once.
            seen = _moments(inputs, axes, inputs.shape[0] or 1)
            notes.append(Note(layer.name, next(calls), *(ops.reshape(part, (1, -1)) for part in seen)))
        return _normalized(layer, inputs, ops.reshape(mean, spread), ops.reshape(variance, spread), spread)

    return call


def _batch_call(layer: NormLayer, batch: Batch, notes: list[Note] | None) -> Callable[..., Tensor]:
    calls = itertools.count()

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        grouped, axes, channel = _in_groups(layer, inputs, batch.groups)
        spread = _broadcast_shape(layer, grouped.ndim, channel)
        mean, variance = _moments(grouped, axes, batch.parts)
        if notes is not None:
            flat = (-1, spread[channel])
            notes.append(Note(layer.name, next(calls), ops.reshape(mean, flat), ops.reshape(variance, flat)))
        corrections = _corrections(layer, batch, mean, variance, spread) if layer.renorm else (None, None)
        y = _normalized(layer, grouped, mean, variance, spread, *corrections)
        return ops.reshape(y, ops.shape(inputs))

    return call


def _blended_call(layer: NormLayer, blend: Blend) -> Callable[..., Tensor]:
    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        grouped, axes, channel = _in_groups(layer, inputs, blend.groups)
        spread = _broadcast_shape(layer, grouped.ndim, channel)
        own = ops.moments(grouped, axes, keepdims=True)
        fixed = [ops.reshape(part, spread) for part in blend.fixed[layer.name]]
        mean, variance = _mixed(own, fixed, blend.weight[layer.name])
        return ops.reshape(_normalized(layer, grouped, mean, variance, spread), ops.shape(inputs))

    return call


def _mixed(own: tuple[Tensor, Tensor], fixed: Sequence[Tensor], weight: Tensor) -> tuple[Tensor, Tensor]:
    rest = 1 - weight
    apart = ops.square(own[0] - fixed[0])
    return (
        rest * fixed[0] + weight * own[0],
        rest * fixed[1] + weight * own[1] + rest * weight * apart,
    )


def _in_groups(layer: NormLayer, inputs: Tensor, groups: int) -> tuple[Tensor, list[int], int]:
    """Give groups of a call an axis of their own: the array, axes of its moments, axis of its channels."""
    lead = int(groups > 1)
    grouped = ops.reshape(inputs, (groups, -1, *inputs.shape[1:])) if lead else inputs
    channel = layer.axis % inputs.ndim + lead
    return grouped, [axis for axis in range(lead, grouped.ndim) if axis != channel], channel


def _moments(x: Tensor, axes: list[int], parts: int) -> tuple[Tensor, Tensor]:
    """Compute mean and variance, kept broadcastable; in parts, which are merged in float64."""
    if parts == 1:
        return ops.moments(x, axes, keepdims=True)
    apart, within = ops.reshape(x, (parts, -1, *x.shape[1:])), [axis + 1 for axis in axes]
    means, variances = (ops.cast(part, "float64") for part in ops.moments(apart, within, keepdims=True))
    mean = ops.mean(means, axis=0)
    variance = ops.mean(variances, axis=0) + ops.mean(ops.square(means - mean), axis=0)
    return ops.cast(mean, x.dtype), ops.cast(variance, x.dtype)


def _can_fuse(layer: NormLayer, batch: Batch) -> bool:
    last = layer.axis in (-1, layer.input_spec.ndim - 1)
    plain = layer.compute_dtype == "float32" and not layer.renorm
    return batch.fused and batch.groups == batch.parts == 1 and last and plain


def _fused_call(layer: NormLayer, _: Batch, notes: list[Note] | None) -> Callable[..., Tensor]:
    calls = itertools.count()

    def call(inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        scale = layer.gamma if layer.scale else ops.ones(inputs.shape[-1])
        offset = layer.beta if layer.center else ops.zeros(inputs.shape[-1])
        y, mean, variance = normalized(inputs, scale, offset, layer.epsilon)
        if notes is not None:
            notes.append(Note(layer.name, next(calls), mean[None], variance[None]))
        return y

    return call


def _corrections(
    layer: NormLayer, batch: Batch, mean: Tensor, variance: Tensor, spread: list[int]
) -> tuple[Tensor, Tensor]:
    """Compute r and d of batch renormalization (Ioffe, arXiv 1702.03275, algorithm 1), as constants."""
    own = layer.renorm_clipping
    r_max, d_max = batch.clip or (own.get("rmax", np.inf), own.get("dmax", np.inf))
    r_min = 1 / r_max if batch.clip else own.get("rmin", 0.0)
    deviation = ops.sqrt(variance + layer.epsilon)
    kept = ops.reshape(ops.maximum(layer.renorm_stddev, layer.epsilon**0.5), spread)
    r = ops.clip(deviation / kept, r_min, r_max)
    d = ops.clip((mean - ops.reshape(layer.renorm_mean, spread)) / kept, -d_max, d_max)
    if batch.update:
        for average, seen in ((layer.renorm_mean, mean), (layer.renorm_stddev, deviation)):
            share = layer.renorm_momentum
            average.assign(average * share + ops.reshape(seen, average.shape) * (1.0 - share))
    return ops.stop_gradient(r), ops.stop_gradient(d)


def _broadcast_shape(layer: NormLayer, rank: int, axis: int) -> list[int]:
    shape = [1] * rank
    shape[axis] = layer.moving_mean.shape[0]
    return shape


def _normalized(
    layer: NormLayer,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    spread: list[int],
    r: Tensor | None = None,
    d: Tensor | None = None,
) -> Tensor:
    """Scale and shift in the closed form x * inv + (beta - mean * inv), in Keras's order of operations."""
    scale, offset = _scale_and_offset(layer, spread, r, d)
    inv = ops.rsqrt(variance + layer.epsilon)
    inv = inv if scale is None else inv * scale
    return x * inv + (-mean * inv if offset is None else offset - mean * inv)


def _scale_and_offset(
    layer: NormLayer, spread: list[int], r: Tensor | None, d: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Fold the corrections of batch renormalization into scale and offset: (x r + d) gamma + beta."""
    scale = ops.reshape(layer.gamma, spread) if layer.scale else None
    offset = ops.reshape(layer.beta, spread) if layer.center else None
    if r is None or d is None:
        return scale, offset
    shift = d if scale is None else d * scale
    return r if scale is None else r * scale, shift if offset is None else shift + offset
