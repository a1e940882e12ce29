"""Which values a normalization averages together: the one thing in which its kinds differ.

    batch       N, H, W     one channel in all images
    layer       C, H, W     all channels of one image
    instance    H, W        one channel of one image
    group       C/G, H, W   C/G neighbouring channels of one image

Ioffe & Szegedy, arXiv 1502.03167, section 3.2 (batch); Wu & He, arXiv 1803.08494, section 3.1 (the others).
Layer normalization is that paper's, one set per image; Keras's `LayerNormalization` with its default axis
averages over the channels of each position by itself, which is another thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

Kind: TypeAlias = Literal["batch", "layer", "instance", "group"]


class Moments(NamedTuple):
    """Mean and biased variance (divided by the count, not by one less)."""

    mean: np.ndarray
    variance: np.ndarray


def average(x: np.ndarray, kind: Kind, groups: int = 32, axis: int = -1) -> np.ndarray:
    """Replace every value by the mean of the values that are averaged together with it.

    Args:
        x: (images, ..., channels), or with the channels at `axis`; any number of positions between.
        kind: which values are averaged together.
        groups: how many groups of channels, in [1, channels]; only kind "group" reads it.
        axis: where the channels are, never 0.

    Returns:
        float64 of x's shape.

    Raises:
        ValueError: an unknown kind; more groups than channels; channels that are no multiple of groups.

    >>> average(np.array([[1.0, 3.0, 10.0, 30.0]]), "group", groups=2)
    array([[ 2.,  2., 20., 20.]])
    """
    last = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    images, channels = last.shape[0], last.shape[-1]
    parts = _parts(kind, channels, groups)
    sets = last.reshape(images, -1, parts, channels // parts)
    over = (0, 1, 3) if kind == "batch" else (1, 3)
    mean = np.broadcast_to(sets.mean(over, keepdims=True), sets.shape)
    return np.moveaxis(mean.reshape(last.shape), -1, axis)


def _parts(kind: Kind, channels: int, groups: int) -> int:
    """How many parts the channels fall into."""
    parts = {"batch": channels, "instance": channels, "layer": 1, "group": groups}
    if kind not in parts:
        raise ValueError(f"kind must be one of {', '.join(parts)}, got {kind!r}")
    if parts[kind] < 1:
        raise ValueError(f"there must be at least 1 group, got {groups}")
    if parts[kind] > channels:
        raise ValueError(f"groups larger than channels: {groups} groups, {channels} channels")
    if channels % parts[kind]:
        raise ValueError(f"channels not a multiple of groups: {channels} channels, {groups} groups")
    return parts[kind]


def moments(x: np.ndarray, kind: Kind, groups: int = 32, axis: int = -1) -> Moments:
    """Give every value the mean and variance of its own set: both of x's shape.

    >>> moments(np.array([[1.0], [3.0]]), "batch").variance.tolist()
    [[1.0], [1.0]]
    """
    mean = average(x, kind, groups, axis)
    return Moments(mean, average((x - mean) ** 2, kind, groups, axis))


def shared(
    kind: Kind, shape: Sequence[int], groups: int = 32, axis: int = -1, cell: Sequence[int] | None = None
) -> np.ndarray:
    """Measure which inputs share their statistics with one cell.

    Each input in turn is raised from 0 to 1; it shares the cell's statistics if the mean that normalizes the
    cell moves (then by 1 over the number of values in the set).

    Args:
        shape: of the input, a few hundred values at most: one forward pass for each.
        kind, groups, axis: as for `average`.
        cell: index of the cell; None takes the first.

    Returns:
        bool of the given shape.

    >>> shared("instance", (2, 3, 2))[0].tolist()  # 2 images, 3 positions, 2 channels
    [[True, False], [True, False], [True, False]]
    """
    mask = np.zeros(tuple(shape), bool)
    at = (0,) * mask.ndim if cell is None else tuple(cell)
    for index in np.ndindex(mask.shape):
        impulse = np.zeros(mask.shape)
        impulse[index] = 1.0
        mask[index] = average(impulse, kind, groups, axis)[at] != 0
    return mask
