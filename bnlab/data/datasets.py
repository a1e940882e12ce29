"""The nouns of the data room: what a data set is, where its images come from, and the images themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


class DataError(Exception):
    """Data that cannot be found, read or trusted; the message is one line, fit for a person."""


@dataclass(frozen=True)
class Dataset:
    """What a published data set looks like, whatever files it comes in.

    Attributes:
        name: key in `DATASETS`.
        shape: height, width and channels of one image.
        classes: number of labels; they run from 0 to classes - 1.
        train, test: number of images in either split.

    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: int
    test: int


DATASETS: dict[str, Dataset] = {
    "mnist": Dataset("mnist", (28, 28, 1), 10, 60_000, 10_000),
    "cifar": Dataset("cifar", (32, 32, 3), 10, 50_000, 10_000),
}

TITLES = {"mnist": "MNIST", "cifar": "CIFAR-10"}


@dataclass(frozen=True)
class Source:
    """Where the images of one run come from, and which images they are.

    Attributes:
        name: key in `DATASETS`.
        kind: `idx`, `npz`, `batches`, `tar` or `stand-in`.
        path: the file, or the folder of the files; None for a stand-in.
        fingerprint: identity of the pixels and labels: the same for every form of the same images.
        description: what a report says about the data.
        stand_in: whether these are not the images that the name promises.
        train, test: number of images in either split, or of sequences.
        frames: images in a sequence; None stands for single images.

    """

    name: str
    kind: str
    path: Path | None
    fingerprint: str
    description: str
    stand_in: bool
    train: int
    test: int
    frames: int | None = None


@dataclass(frozen=True, eq=False)
class Images:
    """A whole data set in memory; its arrays are read-only, because trials of one process share them.

    Attributes:
        train_x, test_x: pixels 0..255, uint8 of shape (images, height, width, channels); of sequences,
            (sequences, frames, height, width, channels).
        train_y, test_y: labels, int64 of shape (images,); of sequences, targets, float32 of shape
            (sequences, frames).

    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            array.setflags(write=False)


def fingerprint(prefix: str, images: Images) -> str:
    """Images with the same pixels and labels in the same order have the same fingerprint.

    It is the first 16 hex digits of the sha256 over train_x, train_y, test_x and test_y, each as uint8 bytes.

    Args:
        prefix: what the fingerprint starts with, so that a person recognizes it.
        images: a whole data set.

    >>> pixels, labels = np.zeros((1, 2, 2, 1), np.uint8), np.array([3])
    >>> fingerprint("blank", Images(pixels, labels, pixels, labels))
    'blank-7ecac5a53a436d5c'

    """
    digest = hashlib.sha256()
    for array in (images.train_x, images.train_y, images.test_x, images.test_y):
        digest.update(array.astype(np.uint8, copy=False).tobytes())
    return f"{prefix}-{digest.hexdigest()[:16]}"
