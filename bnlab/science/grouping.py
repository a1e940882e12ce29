"""What one call of a normalization layer sees: its inputs in groups, what a mask leaves of them, its moments.

A layer may have its channels on any axis. Groups are equal consecutive parts of the first axis, each with
moments of its own; a mask takes positions out of the moments, not out of what is normalized.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
from keras import ops

from bnlab.science.sources import NormLayer, Tensor


class Grouped(NamedTuple):
    """A layer's inputs, as its moments are taken of them.

    Attributes:
        x: (images, ...), or (groups, images, ...) if there are several groups; float32, or float64 if they
            were: half precision is too narrow for moments, and Keras widens it too.
        mask: like x, true at the positions that count; None counts all.
        axes: of x, that moments are taken over.
        channel: axis of the channels.
        channels: how many.
    """

    x: Tensor
    mask: Tensor | None
    axes: list[int]
    channel: int
    channels: int

    def spread(self, values: Any) -> Tensor:  # noqa: ANN401
        """Make one number per channel broadcastable against x, in its precision."""
        shape = [1] * self.x.ndim
        shape[self.channel] = self.channels
        return ops.reshape(ops.cast(values, self.x.dtype), shape)

    def flat(self, values: Tensor) -> Tensor:
        """Bring moments into the form of a note: (groups, channels)."""
        return ops.reshape(values, (-1, self.channels))


def in_groups(layer: NormLayer, inputs: Tensor, mask: Tensor | None, groups: int) -> Grouped:
    """Give groups of a call an axis of their own.

    Args:
        layer: whose axis says where the channels are.
        inputs: (images, ...) of any rank.
        mask: inputs' shape without the last axis, as Keras has it wherever the channels are, or None.
        groups: their number divides that of the images.

    Raises:
        ValueError: the mask has another rank.
    """
    x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
    mask = None if mask is None else _broadcast(mask, x)
    lead = int(groups > 1)
    if lead:
        x, mask = _split(x, groups), None if mask is None else _split(mask, groups)
    channel = layer.axis % inputs.ndim + lead
    axes = [axis for axis in range(lead, x.ndim) if axis != channel]
    return Grouped(x, mask, axes, channel, layer.moving_mean.shape[0])


def moments(seen: Grouped, parts: int = 1) -> tuple[Tensor, Tensor]:
    """Compute mean and variance, kept broadcastable; in parts, which are merged in float64.

    Parts of a masked call weigh as many positions as they have. Under a mask and in one part the arithmetic
    is Keras's own, which divides by the count plus 1e-7 (`keras.config.epsilon`); parts divide by the count.
    Where nothing is left both moments are 0.
    """
    if parts == 1:
        if seen.mask is None:
            return ops.moments(seen.x, seen.axes, keepdims=True)
        count = _count(seen.mask, seen.x, seen.axes)
        return _masked_moments(seen.x, seen.mask, seen.axes, count + keras.config.epsilon())
    means, variances, shares = _of_parts(seen, parts)
    mean = _averaged(means, shares)
    variance = _averaged(variances, shares) + _averaged(ops.square(means - mean), shares)
    return ops.cast(mean, seen.x.dtype), ops.cast(variance, seen.x.dtype)


def _of_parts(seen: Grouped, parts: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Compute moments of parts in float64, and the share that each has of the positions that count."""
    x, axes = _split(seen.x, parts), [axis + 1 for axis in seen.axes]
    if seen.mask is None:
        means, variances = (ops.cast(part, "float64") for part in ops.moments(x, axes, keepdims=True))
        return means, variances, None
    mask = _split(seen.mask, parts)
    count = _count(mask, x, axes)
    found = _masked_moments(x, mask, axes, ops.maximum(count, 1))
    means, variances, counts = (ops.cast(part, "float64") for part in (*found, count))
    return means, variances, counts / ops.maximum(ops.sum(counts, axis=0), 1)


def _averaged(values: Tensor, shares: Tensor | None) -> Tensor:
    return ops.mean(values, axis=0) if shares is None else ops.sum(shares * values, axis=0)


def _masked_moments(x: Tensor, mask: Tensor, axes: list[int], divisor: Tensor) -> tuple[Tensor, Tensor]:
    mean = ops.sum(ops.where(mask, x, 0), axes, keepdims=True) / divisor
    apart = ops.square(ops.where(mask, x - mean, 0))
    return mean, ops.sum(apart, axes, keepdims=True) / divisor


def _count(mask: Tensor, x: Tensor, axes: list[int]) -> Tensor:
    return ops.sum(ops.cast(mask, x.dtype), axes, keepdims=True)


def _broadcast(mask: Tensor, x: Tensor) -> Tensor:
    if len(mask.shape) != x.ndim - 1:
        raise ValueError(
            f"a mask must have one axis fewer than the inputs, got shapes {mask.shape} and {x.shape}: "
            "Keras refuses the call too"
        )
    return ops.cast(ops.broadcast_to(ops.expand_dims(mask, -1), ops.shape(x)), "bool")


def _split(x: Tensor, count: int) -> Tensor:
    """Cut the first axis into equal parts: (count, images / count, ...)."""
    known = None not in x.shape[1:]
    return ops.reshape(x, (count, -1, *(x.shape if known else ops.shape(x))[1:]))
