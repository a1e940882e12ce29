"""Sequences of digits, made from a data set of single ones by a fixed seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnlab.data.datasets import Images, Source

_SEED = 20_203
# The largest label; targets are scaled to [0, 1] by it.
_LARGEST = 9


def in_sequences(source: Source, frames: int | None) -> Source:
    """Say that a source's images are to come in sequences of so many; None leaves them single."""
    if frames is None:
        return source
    return replace(source, frames=frames, train=source.train // frames, test=source.test // frames)


def sequences(images: Images, frames: int) -> Images:
    """Cut each split, in a random order, into sequences; every image is in at most one.

    The target of a frame is the mean of the labels up to it, over the largest label:
    y_t = sum_(s <= t) label_s / (9 t), in [0, 1].

    Returns:
        Pixels (sequences, frames, height, width, channels) and float32 targets (sequences, frames).

    >>> pixels, labels = np.zeros((4, 1, 1, 1), np.uint8), np.array([9, 9, 9, 9])
    >>> sequences(Images(pixels, labels, pixels, labels), frames=2).train_y.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    return Images(*_cut(images.train_x, images.train_y, frames), *_cut(images.test_x, images.test_y, frames))


def _cut(x: np.ndarray, y: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(x) // frames
    order = np.random.default_rng(_SEED).permutation(len(x))[: count * frames].reshape(count, frames)
    means = np.cumsum(y[order], axis=1) / np.arange(1, frames + 1)
    return x[order], (means / _LARGEST).astype(np.float32)
