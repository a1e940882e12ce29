"""Moments of a batch that is spread over several devices.

Keras's own synchronized normalization takes E[x^2] - E[x]^2 in float32: a channel of unit variance at a mean
of 10,000 has variance 0 there (`_compute_moments_sync` in `keras/src/backend/tensorflow/nn.py`). Here the
devices' moments are merged, in which nothing cancels.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from bnlab.science.moments import Moments

Tensor: TypeAlias = Any

# Of float32: a rounding is off by no more of a number than this.
_UNIT = 2.0**-24
# Roundings of the two squares that are subtracted: of x^2 and its mean, of the mean, twice, and its square.
_ROUNDINGS = 5


def synchronized(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the moments of all replicas' equal parts: the mean first, then E[var_r + (mean_r - mean)^2].

    Chan, Golub & LeVeque, The American Statistician 1983. Gradients pass to every replica. Outside a
    distribution strategy there is one replica, and its moments are those of the batch.

    Args:
        mean, variance: of this replica's part, of any shape, called on every replica.

    Returns:
        The same of all parts, equal on every replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return mean, variance
    whole = context.all_reduce(tf.distribute.ReduceOp.MEAN, mean)
    own = variance + tf.square(mean - whole)
    return whole, context.all_reduce(tf.distribute.ReduceOp.MEAN, own)


def cancelled(statistics: Moments, epsilon: float) -> np.ndarray:
    """Say how wrong variances can be that Keras's synchronized layers take, as shares of variance + epsilon.

    E[x^2] and E[x]^2 are numbers of the size of mean^2 + variance, and each of their roundings stays in the
    difference: at most 5 of 2^-24 (mean^2 + variance), the sum over the batch aside.

    Args:
        statistics: of what a layer sees, (channels,).
        epsilon: the layer's.

    >>> cancelled(Moments(np.array([0.0, 10_000.0]), np.ones(2)), 0.0).round(6).tolist()
    [0.0, 29.802323]
    """
    mean, variance = (np.asarray(part, np.float64) for part in statistics)
    return _ROUNDINGS * _UNIT * (mean**2 + variance) / (variance + epsilon)
