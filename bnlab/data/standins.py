"""The embedded sets: small, honest about what they are, and the same pixels on every machine.

Both are made with integers only, from the raw output of a fixed generator: numpy promises that this output
never changes, which it does not promise for the distributions built on it.

`mnist` takes the real handwritten digits that come with scikit-learn (8x8 pixels, 17 grey levels), enlarged
to 20x20 in the middle of 28x28, as MNIST's own digits are.

`cifar` draws one of ten figures, of random size, place and colour, on a ground of random colour, under noise.
The labels 0 to 9 are disc, ring, square, frame, diamond, plus, cross, horizontal bars, vertical bars and
checkerboard, the order of `FIGURES`. Colour says nothing about the class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import distribution

import numpy as np

from bnlab.data.datasets import Images

STORIES = {
    "mnist": "scikit-learn's 8x8 handwritten digits scaled to 28x28",
    "cifar": "ten procedural figures and textures in random colours, 32x32x3",
}

DIGITS_TRAIN = 1437
SHAPES_TRAIN, SHAPES_TEST = 12_000, 2_000
SPLIT_SEED, TRAIN_SEED, TEST_SEED = 8, 32, 33

Figure = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# (columns right of the centre, rows below it, radius), all in pixels -> whether the figure covers the pixel.
FIGURES: dict[str, Figure] = {
    "disc": lambda x, y, r: x * x + y * y <= r * r,
    "ring": lambda x, y, r: (x * x + y * y <= r * r) & (4 * (x * x + y * y) > r * r),
    "square": lambda x, y, r: _box(x, y, r),
    "frame": lambda x, y, r: _box(x, y, r) & ~_box(2 * x, 2 * y, r),
    "diamond": lambda x, y, r: abs(x) + abs(y) <= r,
    "plus": lambda x, y, r: _box(x, y, r) & (3 * np.minimum(abs(x), abs(y)) <= r),
    "cross": lambda x, y, r: _box(x, y, r) & (3 * abs(abs(x) - abs(y)) <= r),
    "horizontal bars": lambda x, y, r: _box(x, y, r) & (y // 2 % 2 == 0),
    "vertical bars": lambda x, y, r: _box(x, y, r) & (x // 2 % 2 == 0),
    "checkerboard": lambda x, y, r: _box(x, y, r) & ((x // 3 + y // 3) % 2 == 0),
}


def _box(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) <= r


@lru_cache(maxsize=1)
def stand_in(name: str) -> Images:
    """The embedded images of a data set, made once per process.

    Args:
        name: `mnist` or `cifar`.

    >>> stand_in("cifar").test_x.shape
    (2000, 32, 32, 3)

    """
    return {"mnist": _digits, "cifar": _figures}[name]()


def _digits() -> Images:
    images, labels = scanned()
    order = _shuffled(np.random.PCG64(SPLIT_SEED), len(labels))
    pixels = enlarge(images, 20, 16)[order]
    x = np.pad(pixels, ((0, 0), (4, 4), (4, 4)))[..., None]
    y = labels[order]
    return Images(x[:DIGITS_TRAIN], y[:DIGITS_TRAIN], x[DIGITS_TRAIN:], y[DIGITS_TRAIN:])


def scanned() -> tuple[np.ndarray, np.ndarray]:
    """Read scikit-learn's digits from its own file: its import would take a second of every process.

    Returns:
        int64 images of shape (1797, 8, 8), grey levels 0..16, and labels.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), np.int64, delimiter=",")
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]


def enlarge(images: np.ndarray, side: int, white: int) -> np.ndarray:
    """Bilinear enlargement in integers, pixel centres at half-integers, grey levels brought to 0..255.

    Args:
        images: int64 of shape (images, n, n), grey levels 0..white.
        side: pixels of one side of the result, at least n.
        white: the highest grey level of `images`.

    >>> enlarge(np.array([[[0, 16], [0, 16]]]), 4, 16)[0, 0]
    array([  0,  64, 191, 255], dtype=uint8)

    """
    shares = _shares(images.shape[1], side)
    total = 4 * side**2 * white
    blended = shares @ images @ shares.T
    return ((255 * blended + total // 2) // total).astype(np.uint8)


def _shares(old: int, new: int) -> np.ndarray:
    """Row i: what each of `old` pixels gives to pixel i of `new`, in units of 1 / (2 new)."""
    unit = 2 * new
    centre = np.clip((2 * np.arange(new) + 1) * old - new, 0, unit * (old - 1))
    return np.maximum(0, unit - abs(centre[:, None] - unit * np.arange(old)))


def _figures() -> Images:
    return Images(*_draw(TRAIN_SEED, SHAPES_TRAIN), *_draw(TEST_SEED, SHAPES_TEST))


def _draw(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    bits = np.random.PCG64(seed)
    labels = _shuffled(bits, count) % len(FIGURES)
    covered = _cover(bits, labels)[..., None]
    ground = _integers(bits, (count, 1, 1, 3), 80, 176)
    ink = ground + _integers(bits, (count, 1, 1, 3), 8, 48) * (
        2 * _integers(bits, (count, 1, 1, 3), 0, 2) - 1
    )
    # Ground and ink stay at least 32 away from black and white, so the noise needs no clipping.
    shades = np.where(covered, ink.astype(np.uint8), ground.astype(np.uint8))
    return shades + _noise(bits, shades.shape) - np.uint8(31), labels


def _cover(bits: np.random.PCG64, labels: np.ndarray) -> np.ndarray:
    radius = _integers(bits, (len(labels), 1, 1), 6, 12)
    x = np.arange(32, dtype=np.int16)[None, None, :] - _integers(bits, (len(labels), 1, 1), 10, 22)
    y = np.arange(32, dtype=np.int16)[None, :, None] - _integers(bits, (len(labels), 1, 1), 10, 22)
    covered = np.empty((len(labels), 32, 32), bool)
    for label, figure in enumerate(FIGURES.values()):
        chosen = labels == label
        covered[chosen] = figure(x[chosen], y[chosen], radius[chosen])
    return covered


def _shuffled(bits: np.random.PCG64, count: int) -> np.ndarray:
    return np.argsort(bits.random_raw(count), kind="stable")


def _integers(bits: np.random.PCG64, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    raw = bits.random_raw(int(np.prod(shape))).reshape(shape) >> np.uint64(32)
    return (low + (raw * np.uint64(high - low) >> np.uint64(32)).astype(np.int64)).astype(np.int16)


def _noise(bits: np.random.PCG64, shape: tuple[int, ...]) -> np.ndarray:
    """Triangular noise from 0 to 62, uint8."""
    count = int(np.prod(shape))
    raw = bits.random_raw(count // 4).astype("<u8").view(np.uint8) >> 3
    return (raw[:count] + raw[count:]).reshape(shape)
