"""The accepted files of every data set, with their published checksums and the identity of their content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bnlab.data.datasets import DataError


@dataclass(frozen=True)
class Form:
    """One way in which a data set is published.

    Attributes:
        kind: short name; `Source.kind` repeats it.
        words: how a report calls it.
        files: the file names, all of them needed.

    """

    kind: str
    words: str
    files: tuple[str, ...]

    def missing(self, folder: Path) -> tuple[str, ...]:
        """The files of this form that a folder lacks."""
        return tuple(name for name in self.files if not (folder / name).is_file())


IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
BATCH_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
BATCH_FOLDER = "cifar-10-batches-py"

FORMS: dict[str, tuple[Form, ...]] = {
    "mnist": (
        Form("idx", "IDX files", IDX_FILES),
        Form("npz", "mnist.npz", ("mnist.npz",)),
    ),
    "cifar": (
        Form("batches", "batch files", BATCH_FILES),
        Form("tar", "cifar-10-python.tar.gz", ("cifar-10-python.tar.gz",)),
    ),
}

# Where people keep the files below the folder that they name: in it, or in the folder that unpacking makes.
FOLDERS: dict[str, tuple[str, ...]] = {"mnist": (".", "mnist"), "cifar": (".", BATCH_FOLDER)}

CHECKSUMS: dict[str, str] = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    "mnist.npz": "sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
    "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
    "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "md5:40351d587109b95175f43aff81a1287e",
    "cifar-10-python.tar.gz": "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}

# `datasets.fingerprint` of the decoded images. Constants, because the checksums above already fix the
# content: a run learns its identity without reading 180 MB.
FINGERPRINTS: dict[str, str] = {"mnist": "mnist-06b0d1f124c4e5fa", "cifar": "cifar-80387ddb9a0edf3f"}


def read(path: Path) -> bytes:
    """The bytes of a published file, checked.

    Args:
        path: a file whose name is in `CHECKSUMS`.

    Raises:
        DataError: the file cannot be read, or its content is not the published one.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it a readable file") from error
    algorithm, expected = CHECKSUMS[path.name].split(":")
    actual = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
    if actual != expected:
        raise DataError(
            f"{path}: wrong {algorithm} checksum, expected {expected} as published, got {actual}; "
            "replace the file by a fresh copy"
        )
    return data
