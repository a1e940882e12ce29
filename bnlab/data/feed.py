"""What training is fed, step by step: the plain order of the data, or one that goes wrong on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnlab.data.datasets import Images
from bnlab.data.order import batches

# Steps whose images are sorted by class together: few enough that every run sees all classes many times.
WINDOW = 10


def fed(
    seed: int, images: Images, batch_size: int, first: int, last: int, by_class: bool = False
) -> np.ndarray:
    """List the images of steps `first` .. `last` - 1, as `bnlab.data.order.batches` does.

    Args:
        seed, batch_size, first, last: as there.
        images: the data set.
        by_class: sort the images of every ten steps by class, so that a batch holds one or two classes.

    Returns:
        (last - first, batch_size) int32, image numbers of the training file.
    """
    count = len(images.train_x)
    if not by_class:
        return batches(seed, count, batch_size, first, last)
    start, stop = first // WINDOW * WINDOW, -(-last // WINDOW) * WINDOW
    windows = batches(seed, count, batch_size, start, stop).reshape(-1, WINDOW * batch_size)
    order = np.argsort(images.train_y[windows], axis=1, kind="stable")
    steps = np.take_along_axis(windows, order, axis=1).reshape(-1, batch_size)
    return steps[first - start : last - start]


def sources(pixels: Any, highest: float, two: bool) -> list[Any]:  # noqa: ANN401
    """List what a step sees of its images: them alone, or them and then their negatives.

    Args:
        pixels: an array or tensor in [0, highest].
        highest: 1, or 255 for bytes.
        two: whether the layers are shared with a second data distribution.
    """
    return [pixels, highest - pixels] if two else [pixels]


def fresh(seed: int, images: Images, batch_size: int, step: int, samples: int, by_class: bool) -> np.ndarray:
    """List the images of the steps that would follow a step, `samples` of them or a few more.

    At least four batches, and whole windows where they are sorted by class.

    Returns:
        (steps, batch_size) as `fed`.
    """
    steps = max(4, -(-samples // batch_size))
    if by_class:
        step, steps = -(-step // WINDOW) * WINDOW, -(-steps // WINDOW) * WINDOW
    return fed(seed, images, batch_size, step, step + steps, by_class)
