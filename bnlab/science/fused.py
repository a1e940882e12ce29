"""Batch normalization as one operation of TensorFlow's, forth and back, instead of Keras's ten.

On a CPU without XLA every operation of a step walks through memory by itself. This one computes moments,
outputs and gradients with a fraction of the walks; it differs from Keras's arithmetic by rounding.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import tensorflow as tf

Tensor: TypeAlias = Any


def normalized(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize by the batch's own moments (Ioffe & Szegedy, arXiv 1502.03167, algorithm 1), on a CPU.

    Args:
        x: (..., channels) float32; all axes but the last are the batch.
        scale, offset: (channels,); gradients reach them and x.
        epsilon: added to the variance.

    Returns:
        y like x; mean and variance, (channels,), the variance with divisor N.
    """
    result = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, (-1, 1, 1, x.shape[-1])),
        scale=scale,
        offset=offset,
        mean=[],
        variance=[],
        epsilon=epsilon,
    )
    # What it keeps for its gradient; its `batch_variance` has the divisor N - 1. A GPU keeps something else.
    return tf.reshape(result.y, tf.shape(x)), result.reserve_space_1, result.reserve_space_2
