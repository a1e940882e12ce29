"""Which images a step sees: a function of (seed, step), so that any step can be made again.

The training file is cut once, by a fixed seed, into a pool to train on and images held out from every
trial. Each epoch is a permutation of the pool drawn from (seed, epoch); batches follow one another
through the epochs without a gap, so a batch may span two of them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Fixed seeds: the same images are held out, and the same ones probed, in every trial of a data set.
_HELD_OUT_SEED = 20_201
_PROBE_SEED = 20_202
HELD_OUT = 5000


def held_out_count(images: int) -> int:
    """Count the training images that no trial sees: 5,000, or a tenth of a small set.

    >>> held_out_count(60_000), held_out_count(1437)
    (5000, 143)
    """
    return min(HELD_OUT, images // 10)


@lru_cache(maxsize=4)
def split(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a training file into (pool, held out), two sorted arrays of image numbers."""
    shuffled = np.random.default_rng(_HELD_OUT_SEED).permutation(images)
    kept = images - held_out_count(images)
    return np.sort(shuffled[:kept]), np.sort(shuffled[kept:])


@lru_cache(maxsize=2)
def epoch(seed: int, number: int, images: int) -> np.ndarray:
    """Order the pool for one epoch: image numbers of the training file."""
    pool, _ = split(images)
    return np.random.default_rng([seed, number]).permutation(pool)


def batches(seed: int, images: int, batch_size: int, first: int, last: int) -> np.ndarray:
    """List the images of steps `first` .. `last` - 1.

    Args:
        seed: the trial's.
        images: size of the training file.
        batch_size: images per step.
        first, last: steps, counted from 0.

    Returns:
        (last - first, batch_size) int32, image numbers of the training file.
    """
    size = len(split(images)[0])
    start, stop = first * batch_size, last * batch_size
    epochs = range(start // size, -(-stop // size))
    stream = np.concatenate([epoch(seed, number, images) for number in epochs])
    offset = epochs.start * size
    return stream[start - offset : stop - offset].reshape(-1, batch_size).astype(np.int32)


def probe(candidates: np.ndarray, wanted: int) -> np.ndarray:
    """Draw a fixed probe of at most a quarter of the candidates, in a fixed random order.

    Random, because the test files are ordered: MNIST's first thousand images are harder than its last.
    """
    return shuffled(candidates)[: probe_size(len(candidates), wanted)]


def shuffled(candidates: np.ndarray) -> np.ndarray:
    """Put image numbers into a fixed random order."""
    return np.random.default_rng(_PROBE_SEED).permutation(candidates)


def probe_size(candidates: int, wanted: int) -> int:
    """Bound a probe to a quarter of the images that it is drawn from."""
    return max(1, min(wanted, candidates // 4))


def trained_on(seed: int, images: int, samples: int) -> np.ndarray:
    """List the distinct images that a trial of so many samples is trained on, sorted."""
    pool, _ = split(images)
    return pool if samples >= len(pool) else np.sort(epoch(seed, 0, images)[:samples])
