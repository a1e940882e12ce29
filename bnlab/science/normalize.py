"""Normalize as `keras.layers.BatchNormalization` does, operation by operation, by moments that are given.

In the same order and precision as Keras it gives the same bits.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from bnlab.science.grouping import Grouped
from bnlab.science.sources import Batch, NormLayer, Tensor


def normalize(
    layer: NormLayer,
    seen: Grouped,
    mean: Tensor,
    variance: Tensor,
    corrections: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Scale and shift in the closed form x * inv + (beta - mean * inv), in Keras's order of operations.

    Args:
        layer: whose gamma, beta and epsilon are used.
        seen: its inputs.
        mean, variance: broadcastable against them.
        corrections: r and d of batch renormalization.

    Returns:
        An array like the inputs in groups, in the precision that the layer hands on.
    """
    scale, offset = _scale_and_offset(layer, seen, corrections)
    inv = ops.rsqrt(variance + layer.epsilon)
    inv = inv if scale is None else inv * scale
    y = seen.x * inv + (-mean * inv if offset is None else offset - mean * inv)
    return ops.cast(y, layer.compute_dtype)


def corrections(
    layer: NormLayer, batch: Batch, seen: Grouped, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute r and d of batch renormalization (Ioffe, arXiv 1702.03275, algorithm 1), as constants."""
    (r_min, r_max), d_max = _bounds(layer, batch)
    deviation = ops.sqrt(variance + layer.epsilon)
    least = np.sqrt(np.asarray(layer.epsilon, keras.backend.standardize_dtype(mean.dtype)))
    kept = ops.maximum(seen.spread(layer.renorm_stddev), least)
    r = ops.clip(deviation / kept, r_min, r_max)
    d = ops.clip((mean - seen.spread(layer.renorm_mean)) / kept, -d_max, d_max)
    if batch.update:
        for average, new in ((layer.renorm_mean, mean), (layer.renorm_stddev, deviation)):
            share = layer.renorm_momentum
            average.assign(
                ops.cast(average, new.dtype) * share + ops.reshape(new, average.shape) * (1.0 - share)
            )
    return ops.stop_gradient(r), ops.stop_gradient(d)


def _bounds(layer: NormLayer, batch: Batch) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Find the bounds of r and of |d|; a layer may leave out each of its own, or set it to None."""
    if batch.clip:
        r_max, d_max = batch.clip
        return (1 / r_max, r_max), d_max
    own = {name: bound for name, bound in layer.renorm_clipping.items() if bound is not None}
    return (own.get("rmin", 0.0), own.get("rmax", np.inf)), own.get("dmax", np.inf)


def _scale_and_offset(
    layer: NormLayer, seen: Grouped, corrections: tuple[Tensor, Tensor] | None
) -> tuple[Tensor | None, Tensor | None]:
    """Fold the corrections of batch renormalization into scale and offset: (x r + d) gamma + beta."""
    scale = seen.spread(layer.gamma) if layer.scale else None
    offset = seen.spread(layer.beta) if layer.center else None
    if corrections is None:
        return scale, offset
    r, d = corrections
    shift = d if scale is None else d * scale
    return r if scale is None else r * scale, shift if offset is None else shift + offset
