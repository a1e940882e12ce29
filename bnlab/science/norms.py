"""The normalization layers, by name: one table, Keras's own layers, options passed by name.

A saved model opens without this package. What a normalizer does to a batch only while it trains - ghost
batches, the ramp of batch renormalization - is not in the layer: `in_training` says it, the probe does it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
from keras import ops

from bnlab.science.sources import Batch

Layer: TypeAlias = Any  # a Keras layer; Keras has no types
Tensor: TypeAlias = Any


def batch(name: str, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize each channel by its mean and variance over the batch and all positions (N, H, W).

    Ioffe & Szegedy, arXiv 1502.03167, section 3.2: 32 filters have 32 scales and 32 shifts. The layer's
    momentum is Keras's default: no moving average is taken in training here, the tape replays them all.
    """
    return keras.layers.BatchNormalization(name=name, **options)


def ghost(name: str, virtual_batch_size: int, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize parts of `virtual_batch_size` images by themselves while training.

    Hoffer et al., arXiv 1705.08741, algorithm 1. Each part updates the moving average, in order. At
    inference it is batch normalization, so the layer is that.
    """
    return batch(name, **options)


def batch_renorm(
    name: str,
    r_max: float,
    d_max: float,
    momentum: float,
    warm_up: float,
    r_ramp: float,
    d_ramp: float,
    **options: Any,  # noqa: ANN401
) -> Layer:
    """Normalize by the batch, then correct towards averages of it: x_hat * r + d.

    Ioffe, arXiv 1702.03275, algorithm 1: r = clip(s_B / s, 1/r_max, r_max), d = clip((m_B - m) / s, -d_max,
    d_max), both without gradient. The averages m and s (of the deviation) are part of training.
    """
    clipping = {"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max}
    return keras.layers.BatchNormalization(
        name=name, renorm=True, renorm_momentum=momentum, renorm_clipping=clipping, **options
    )


def group(name: str, groups: int, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize each image by mean and variance over positions and a group of channels (C/G, H, W).

    Wu & He, arXiv 1803.08494, section 3. Nothing depends on the batch, so both phases are one function.
    """
    return keras.layers.GroupNormalization(groups, name=name, **options)


def layer(name: str, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize each image by mean and variance over positions and all channels (C, H, W): one group.

    As Wu & He compare it; `keras.layers.LayerNormalization` on images is another thing, per position.
    """
    return group(name, 1, **options)


def instance(name: str, **options: Any) -> Layer:  # noqa: ANN401
    """Normalize each channel of each image by its mean and variance over positions (H, W)."""
    return group(name, -1, **options)


def none(name: str) -> Layer:
    """Normalize nothing."""
    return keras.layers.Identity(name=name)


NORMS: Mapping[str, Callable[..., Layer]] = {
    "batch": batch,
    "ghost": ghost,
    "batch_renorm": batch_renorm,
    "group": group,
    "layer": layer,
    "instance": instance,
    "none": none,
}


def in_training(norm: str, options: Mapping[str, Any], batch_size: int, share: Tensor) -> Batch:
    """Say how a normalizer treats a batch in training.

    Args:
        norm, options: a key of `NORMS`, and its options.
        batch_size: images in the batch.
        share: of the run that is over, in [0, 1]; a number or a scalar tensor.

    >>> in_training("ghost", {"virtual_batch_size": 16}, batch_size=64, share=0.0).groups
    4
    """
    if norm == "ghost":
        return Batch(-(-batch_size // options["virtual_batch_size"]))
    if norm == "batch_renorm":
        return Batch(clip=ramp(share, **options), update=True)
    return Batch()


def ramp(
    share: Tensor,
    r_max: float,
    d_max: float,
    warm_up: float,
    r_ramp: float,
    d_ramp: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Let batch renormalization's clipping grow: (r_max, d_max) at a share of the run.

    Until `warm_up` it is (1, 0), which is batch normalization; then both grow linearly, r's bound until
    `r_ramp` and d's until `d_ramp` (Ioffe, section 3: steps 5k, 40k and 25k; here shares of the run).

    >>> [float(bound) for bound in ramp(0.1, r_max=3, d_max=5, warm_up=0.1, r_ramp=0.3, d_ramp=0.2)]
    [1.0, 0.0]
    >>> [round(float(bound), 5) for bound in ramp(0.2, r_max=3, d_max=5, warm_up=0.1, r_ramp=0.3, d_ramp=0.2)]
    [2.0, 5.0]
    """
    grown = [_grown(share, warm_up, end) for end in (r_ramp, d_ramp)]
    return 1 + (r_max - 1) * grown[0], d_max * grown[1]


def _grown(share: Tensor, start: float, end: float) -> Tensor:
    return ops.clip((ops.convert_to_tensor(share, "float32") - start) / (end - start), 0.0, 1.0)
