"""Real images and their targets, scaled as a user would: MNIST as it is, CIFAR-10 at half its size."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bnlab.data.decode import decode_batch, decode_idx
from experiments.doctor.recipe import Recipe

Array = np.ndarray
IN_FILE = {"train": 2000, "test": 1000}
"""Samples of each split that go into a model's data file."""


@dataclass
class Samples:
    """Inputs as the model takes them, and targets as its loss takes them."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


@lru_cache(maxsize=2)
def _load(data: str) -> tuple[Array, Array, Array, Array]:
    folder = Path(os.environ.get("BNLAB_DATA", "data"))
    if data == "mnist":
        files = [folder / "mnist" / f"{n}-ubyte.gz" for n in ("train-images-idx3", "train-labels-idx1")]
        files += [folder / "mnist" / f"{n}-ubyte.gz" for n in ("t10k-images-idx3", "t10k-labels-idx1")]
        shapes = [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
        parts = [decode_idx(f.read_bytes(), s, f.name) for f, s in zip(files, shapes, strict=True)]
        return parts[0][..., None], parts[1].astype(int), parts[2][..., None], parts[3].astype(int)
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    found = [folder / "cifar-10-batches-py" / name for name in names]
    batches = [decode_batch(file.read_bytes(), 10000, file.name) for file in found]
    x, y = np.concatenate([_halved(b[0]) for b in batches]), np.concatenate([b[1] for b in batches])
    return x[:50000], y[:50000], x[50000:], y[50000:]


def _halved(pixels: Array) -> Array:
    return pixels.reshape(-1, 16, 2, 16, 2, 3).mean((2, 4)).round().astype(np.uint8)


def _standardized(x: Array, data: str) -> Array:
    mean, spread = (0.1307, 0.3081) if data == "mnist" else (0.473, 0.235)
    return (x / 255 - mean) / spread


SCALINGS: Mapping[str, Callable[[Array, str], Array]] = {
    "unit": lambda x, data: x / 255,
    "signed": lambda x, data: x / 127.5 - 1,
    "standardized": _standardized,
    "raw": lambda x, data: x,
}


def scaled(pixels: Array, recipe: Recipe) -> Array:
    """Pixels from 0 to 255 as float32 in the recipe's range."""
    return SCALINGS[recipe.scaling](pixels.astype(np.float32), recipe.data).astype(np.float32)


def targets(pixels: Array, labels: Array, recipe: Recipe) -> Array:
    """Labels as the recipe's loss takes them: (n,) whole numbers, (n, 10) one-hot or (n, 2) shapes."""
    if recipe.regression:
        return _shapes(pixels[..., 0])
    return (
        np.eye(10, dtype=np.float32)[labels] if recipe.task.endswith("one_hot") else labels.astype(np.int64)
    )


def _shapes(pixels: Array) -> Array:
    """Slant and size of a digit: second moments of its ink, brought to a spread of about one."""
    ink = pixels.astype(np.float32) / np.maximum(pixels.sum((1, 2), keepdims=True), 1)
    place = (np.arange(pixels.shape[1], dtype=np.float32) - (pixels.shape[1] - 1) / 2) / 4
    slant = (ink * place[:, None] * place[None, :]).sum((1, 2))
    size = (ink * (place[:, None] ** 2 + place[None, :] ** 2)).sum((1, 2))
    return np.stack([slant * 2, (size - 2) * 2], axis=1).astype(np.float32)


def samples(recipe: Recipe, classes: tuple[int, ...] | None = None) -> Samples:
    """The recipe's training slice and the data file's test images, of some classes or all.

    The 10,000 test images are halved between the sets.
    """
    x, y, x_test, y_test = _load(recipe.data)
    x, y = x[recipe.first :], y[recipe.first :]
    half = slice(0, 5000) if recipe.set == "tune" else slice(5000, None)
    x_test, y_test = x_test[half], y_test[half]
    if classes is not None:
        x, y = x[np.isin(y, classes)], y[np.isin(y, classes)]
        x_test, y_test = x_test[np.isin(y_test, classes)], y_test[np.isin(y_test, classes)]
    chosen = np.random.default_rng(recipe.seed % 2).permutation(len(x_test))[: IN_FILE["test"]]
    x, y, x_test, y_test = x[: recipe.samples], y[: recipe.samples], x_test[chosen], y_test[chosen]
    return Samples(
        scaled(x, recipe), targets(x, y, recipe), scaled(x_test, recipe), targets(x_test, y_test, recipe)
    )


def classes_of(labels: Array) -> Array:
    """Whole numbers of classes from labels of either kind."""
    return labels.argmax(1) if labels.ndim == 2 else labels
