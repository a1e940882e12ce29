"""Batch, layer, instance and group normalization in float64 numpy: the oracle for every other form.

All four are one formula over different sets of values. Write A for the average over a value's own set,
put back at each of its places; A is linear, its own transpose, and A A = A. Then

    mean = A x        variance = A (x - mean)^2        normalized = (x - mean) / sqrt(variance + epsilon)
    y = gamma * normalized + beta, gamma and beta per channel

and the backward pass needs nothing but A either. The kinds differ in A alone (`sets`); inference is the case
of fixed statistics, where A is zero in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from bnlab.science.sets import Kind, Moments, average, moments


class Gradients(NamedTuple):
    """Gradients of a loss: by x, of x's shape; by gamma and beta, (channels,)."""

    x: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


@dataclass(frozen=True)
class Cache:
    """What the backward pass needs of the forward pass.

    Attributes:
        normalized: x's shape, (x - mean) / sqrt(variance + epsilon).
        inv: broadcasts against x, 1 / sqrt(variance + epsilon).
        gamma: (channels,).
        axis: where the channels are.
        average: A; zero where the statistics are fixed.
    """

    normalized: np.ndarray
    inv: np.ndarray
    gamma: np.ndarray
    axis: int
    average: Callable[[np.ndarray], np.ndarray]


def batch_moments(x: np.ndarray, axis: int = -1) -> Moments:
    """Take each channel's moments over the batch and all positions: (channels,), what a tape records."""
    flat = _by_channel(np.asarray(x, np.float64), axis)
    return Moments(flat.mean(0), flat.var(0))


def forward(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    kind: Kind,
    groups: int = 32,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> tuple[np.ndarray, Cache]:
    """Normalize as in training: every value by the moments of its own set, then scale and shift.

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    Args:
        x, kind, groups, axis: as for `average`.
        gamma, beta: (channels,); ones and zeros for a layer without scale and shift.
        epsilon: at least 0; above 0 where a set's values may all be equal.

    Returns:
        y, float64 of x's shape, and what `backward` needs.

    >>> y, _ = forward(np.array([[1.0], [3.0]]), np.array([2.0]), np.array([10.0]), "batch", epsilon=0.0)
    >>> y.tolist()
    [[8.0], [12.0]]
    """
    mean, variance = moments(x, kind, groups, axis)
    inv = 1 / np.sqrt(variance + epsilon)
    together = partial(average, kind=kind, groups=groups, axis=axis)
    cache = Cache((x - mean) * inv, inv, np.asarray(gamma, np.float64), axis, together)
    return _along(gamma, x, axis) * cache.normalized + _along(beta, x, axis), cache


def backward(dy: np.ndarray, cache: Cache) -> Gradients:
    """Carry a loss's gradient back through `forward` or `infer`.

    With n = normalized and g = gamma * dy, the gradient by n, the chain rule gives

        dx = inv * (g - A g - n * A (g * n))        dgamma = sum of dy * n        dbeta = sum of dy

    the sums over all but the channels. Over a set of m values, m A is the sum, which is the usual form
    inv / m * (m g - sum g - n * sum(g * n)): what is left of g without its part along 1 and along n. Fixed
    statistics do not answer to x, so A = 0 and dx = inv * g.

    Ioffe & Szegedy, arXiv 1502.03167, section 3.

    Args:
        dy: the loss's gradient by y, of x's shape.
        cache: from the forward pass.
    """
    n, axis = cache.normalized, cache.axis
    g = _along(cache.gamma, dy, axis) * dy
    dx = cache.inv * (g - cache.average(g) - n * cache.average(g * n))
    return Gradients(dx, _by_channel(dy * n, axis).sum(0), _by_channel(dy, axis).sum(0))


def update_moving(moving: Moments, batch: Moments, decay: float) -> Moments:
    """Take one batch into the moving statistics, as a new value: decay * moving + (1 - decay) * batch.

    Args:
        moving, batch: (channels,) each; the variance is the biased one, as in Keras 3.
        decay: share of the old value kept, in [0, 1].

    >>> update_moving(Moments(np.zeros(1), np.ones(1)), Moments(np.ones(1), np.full(1, 5.0)), 0.75)
    Moments(mean=array([0.25]), variance=array([2.]))
    """
    pairs = zip(moving, batch, strict=True)
    return Moments(*(decay * np.asarray(old) + (1 - decay) * np.asarray(new) for old, new in pairs))


def closed_form(
    x: np.ndarray, fixed: Moments, scale: np.ndarray, offset: np.ndarray, epsilon: float = 1e-3
) -> np.ndarray:
    """Normalize, scale and shift with one product and one sum per value, as Keras computes it.

        y = x * inv + (offset - mean * inv)        inv = scale / sqrt(variance + epsilon)

    With fixed statistics both brackets are constants, so a layer folds into the convolution before it. The
    price is cancellation: where |mean| is k standard deviations, y loses a factor k in accuracy.

    Args:
        x, fixed, scale, offset: anything that broadcasts together.

    >>> closed_form(np.array([5.0, 1.0]), Moments(np.array(3.0), np.array(3.0)), 2.0, 10.0, epsilon=1.0)
    array([12.,  8.])
    """
    inv = scale / np.sqrt(fixed.variance + epsilon)
    return x * inv + (offset - fixed.mean * inv)


def infer(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    moving: Moments,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> tuple[np.ndarray, Cache]:
    """Normalize as batch normalization at inference: by fixed statistics, each value by itself.

    Args:
        x, gamma, beta, axis, epsilon: as for `forward`.
        moving: (channels,) each, or any other fixed statistics.

    Returns:
        y, float64 of x's shape, and what `backward` needs.
    """
    fixed, scale = Moments(*(_along(value, x, axis) for value in moving)), np.asarray(gamma, np.float64)
    inv = 1 / np.sqrt(fixed.variance + epsilon)
    y = closed_form(x, fixed, _along(scale, x, axis), _along(beta, x, axis), epsilon)
    return y, Cache((x - fixed.mean) * inv, inv, scale, axis, average=np.zeros_like)


def _along(values: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    """Shape one value per channel so that it broadcasts against x."""
    shape = [1] * np.ndim(x)
    shape[axis] = np.shape(x)[axis]
    return np.asarray(values, np.float64).reshape(shape)


def _by_channel(x: np.ndarray, axis: int) -> np.ndarray:
    """(values of a channel, channels)."""
    last = np.moveaxis(x, axis, -1)
    return last.reshape(-1, last.shape[-1])
