"""A private cache for every test, the real data where there is some, and a small world of handmade files."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bnlab.data import DATASETS, Dataset, load
from bnlab.data.forms import BATCH_FILES, BATCH_FOLDER, CHECKSUMS, IDX_FILES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder as bnlab sees it: empty, and not the real one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load.cache_clear()
    yield tmp_path / "cache" / "bnlab"
    load.cache_clear()


@pytest.fixture(scope="session")
def real_root():
    folder = os.environ.get("BNLAB_DATA")
    if not folder:
        pytest.skip("BNLAB_DATA does not name a folder with the real data sets")
    return Path(folder)


def pack_idx(array):
    """The gzipped IDX file of a uint8 array."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=0)


def pack_npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def pack_tar(members):
    """A tar.gz file of (name -> bytes)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=0) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def pack_batch(planes, labels):
    return pickle.dumps({b"data": planes, b"labels": labels}, protocol=2)


@pytest.fixture
def pack():
    """Packers of handmade files; a fixture, because test modules here are in no package."""
    return SimpleNamespace(idx=pack_idx, npz=pack_npz, tar=pack_tar, batch=pack_batch)


@pytest.fixture
def publish(monkeypatch):
    """Write a file and make its content the published one."""

    def write(path, data):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        algorithm = CHECKSUMS[path.name].split(":")[0]
        monkeypatch.setitem(CHECKSUMS, path.name, f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    return write


@pytest.fixture
def small_sets(monkeypatch):
    """MNIST shrinks to 3 + 2 images and CIFAR-10 to 10 + 2, so that files can be made by hand."""
    monkeypatch.setitem(DATASETS, "mnist", Dataset("mnist", (28, 28, 1), 10, 3, 2))
    monkeypatch.setitem(DATASETS, "cifar", Dataset("cifar", (32, 32, 3), 10, 10, 2))


@pytest.fixture
def small_mnist(small_sets, tmp_path, publish):
    """A folder with four IDX files; image i is filled with the value i."""
    folder = tmp_path / "files" / "mnist"
    pixels = np.repeat(np.arange(5, dtype=np.uint8), 784).reshape(5, 28, 28)
    labels = np.array([5, 0, 4, 7, 2], np.uint8)
    for file, array in zip(IDX_FILES, (pixels[:3], labels[:3], pixels[3:], labels[3:]), strict=True):
        publish(folder / file, pack_idx(array))
    return folder


@pytest.fixture
def small_cifar(small_sets, tmp_path, publish):
    """Six batches of two images; image i has red i, green 100 + i, blue 200 + i, label i % 10."""
    folder = tmp_path / "files" / BATCH_FOLDER
    for number, file in enumerate(BATCH_FILES):
        images = np.arange(2 * number, 2 * number + 2, dtype=np.uint8)
        planes = np.repeat(np.stack([images, images + 100, images + 200], 1), 1024, 1)
        publish(folder / file, pack_batch(planes, [int(image) % 10 for image in images]))
    return folder
