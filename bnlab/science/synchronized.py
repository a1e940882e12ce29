"""Moments of a batch that is spread over several devices.

Keras's own synchronized normalization takes E[x^2] - E[x]^2 in float32: a channel of unit variance at a mean
of 10,000 has variance 0 there (`_compute_moments_sync` in `keras/src/backend/tensorflow/nn.py`). Here the
devices' moments are merged, in which nothing cancels.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import tensorflow as tf

Tensor: TypeAlias = Any


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
