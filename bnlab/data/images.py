"""load: a source becomes arrays; the very bytes that are decoded are checked first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from bnlab.data.datasets import DATASETS, DataError, Images, Source
from bnlab.data.decode import Shape, decode_batch, decode_idx, decode_npz, read_members
from bnlab.data.forms import BATCH_FILES, BATCH_FOLDER, IDX_FILES, read
from bnlab.data.sequences import sequences
from bnlab.data.standins import stand_in


@lru_cache(maxsize=2)  # a worker's trials may alternate between two data sets
def load(source: Source) -> Images:
    """All images of a source, read once per process; the arrays are read-only.

    Args:
        source: what `locate` returned.

    Returns:
        Pixels uint8 0..255 of shape (images, height, width, channels) and int64 labels; sequences of them
        where the source says so.

    Raises:
        DataError: a file that is gone, differs from the published one, or cannot be decoded.

    >>> from bnlab.data.sources import stand_in_source
    >>> images = load(stand_in_source("mnist"))
    >>> images.train_x.shape, images.train_x.dtype, images.test_y[:5]
    ((1437, 28, 28, 1), dtype('uint8'), array([7, 3, 9, 3, 1]))

    """
    images = _images(source)
    return sequences(images, source.frames) if source.frames else images


def _images(source: Source) -> Images:
    if source.path is None:
        return stand_in(source.name)
    images = READERS[source.kind](source.path)
    _check_labels(source, images)
    return images


def _check_labels(source: Source, images: Images) -> None:
    highest = max(int(images.train_y.max()), int(images.test_y.max()))
    classes = DATASETS[source.name].classes
    if highest >= classes:
        raise DataError(f"{source.path}: labels must lie in 0..{classes - 1}, got {highest}")


def _mnist_shapes() -> tuple[Shape, Shape, Shape, Shape]:
    mnist = DATASETS["mnist"]
    side = mnist.shape[:2]
    return (mnist.train, *side), (mnist.train,), (mnist.test, *side), (mnist.test,)


def _mnist(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> Images:
    return Images(train_x[..., None], train_y.astype(np.int64), test_x[..., None], test_y.astype(np.int64))


def _read_idx(folder: Path) -> Images:
    files = zip(IDX_FILES, _mnist_shapes(), strict=True)
    return _mnist(*(decode_idx(read(folder / file), shape, str(folder / file)) for file, shape in files))


def _read_npz(path: Path) -> Images:
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = decode_npz(read(path), dict(zip(names, _mnist_shapes(), strict=True)), str(path))
    return _mnist(*(arrays[name] for name in names))


def _read_batches(folder: Path) -> Images:
    return _cifar(lambda file: read(folder / file), folder)


def _read_tar(path: Path) -> Images:
    names = [f"{BATCH_FOLDER}/{file}" for file in BATCH_FILES]
    members: Mapping[str, bytes] = read_members(read(path), names, str(path))
    return _cifar(lambda file: members[f"{BATCH_FOLDER}/{file}"], path)


def _cifar(content: Callable[[str], bytes], place: Path) -> Images:
    cifar = DATASETS["cifar"]
    *train_files, test_file = BATCH_FILES
    each = cifar.train // len(train_files)
    batches = [decode_batch(content(file), each, str(place / file)) for file in train_files]
    train_x, train_y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Images(train_x, train_y, *decode_batch(content(test_file), cifar.test, str(place / test_file)))


READERS: dict[str, Callable[[Path], Images]] = {
    "idx": _read_idx,
    "npz": _read_npz,
    "batches": _read_batches,
    "tar": _read_tar,
}
