"""locate finds the published files where people keep them, and says in one line what is wrong with them."""

import dataclasses
import logging
from pathlib import Path

import pytest

from bnlab.data import DataError, Source, locate
from bnlab.data import sources as sources_module


@pytest.fixture
def no_download(monkeypatch):
    """The internet is out of reach, and says so at once."""

    def fetch(name, folder, timeout):
        raise DataError("MNIST could not be downloaded from host: no sign of life for 5 seconds")

    monkeypatch.setattr(sources_module, "fetch", fetch)


@pytest.mark.parametrize("below", ["", "mnist"])
def test_idx_files_are_found_in_the_root_and_below(small_mnist, below):
    root = small_mnist if below == "" else small_mnist.parent
    assert locate("mnist", root) == Source(
        name="mnist",
        kind="idx",
        path=root / below,
        fingerprint="mnist-06b0d1f124c4e5fa",
        description="MNIST, 3 + 2 images, IDX files",
        stand_in=False,
        train=3,
        test=2,
    )


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_batches_are_found_in_the_root_and_below(small_cifar, below):
    root = small_cifar if below == "" else small_cifar.parent
    source = locate("cifar", root, source="real", verify=True)
    assert (source.kind, source.path) == ("batches", root / below)
    assert source.fingerprint == "cifar-80387ddb9a0edf3f"
    assert source.description == "CIFAR-10, 10 + 2 images, batch files"


@pytest.mark.parametrize(
    ("name", "below", "file", "kind"),
    [
        ("mnist", ".", "mnist.npz", "npz"),
        ("mnist", "mnist", "mnist.npz", "npz"),
        ("cifar", ".", "cifar-10-python.tar.gz", "tar"),
        ("cifar", "cifar-10-batches-py", "cifar-10-python.tar.gz", "tar"),
    ],
)
def test_single_files_are_found(tmp_path, publish, name, below, file, kind):
    publish(tmp_path / below / file, b"content")
    source = locate(name, tmp_path, verify=True)
    assert (source.kind, source.path, source.stand_in) == (kind, tmp_path / below / file, False)
    assert source.description.endswith(f"images, {file}")


def test_the_users_cache_is_searched_after_the_root(cache, tmp_path, publish):
    publish(cache / "mnist.npz", b"content")
    assert locate("mnist", None).path == cache / "mnist.npz"
    assert locate("mnist", tmp_path).path == cache / "mnist.npz"
    publish(tmp_path / "mnist.npz", b"content")
    assert locate("mnist", tmp_path).path == tmp_path / "mnist.npz"


def test_a_home_folder_is_understood(tmp_path, publish, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    publish(tmp_path / "sets" / "mnist.npz", b"content")
    assert locate("mnist", Path("~/sets")).path == tmp_path / "sets" / "mnist.npz"


def test_nothing_anywhere_means_the_stand_in(tmp_path):
    source = locate("mnist", tmp_path)
    assert source == locate("mnist", None)
    assert (source.kind, source.path, source.stand_in, source.train, source.test) == (
        "stand-in",
        None,
        True,
        1437,
        360,
    )
    assert source.description.startswith("STAND-IN for MNIST: ")


def test_real_data_that_is_nowhere_is_an_error_that_names_files_and_places(tmp_path, cache):
    with pytest.raises(DataError) as caught:
        locate("mnist", tmp_path, source="real")
    assert str(caught.value) == (
        "MNIST was not found; put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
        "t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz or mnist.npz "
        f"into {tmp_path} or {cache}, or allow the download"
    )


def test_a_part_of_a_set_is_an_error_that_names_the_rest(small_mnist, small_cifar):
    (small_mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"all 4 IDX files are needed: add t10k-labels-idx1-ubyte\.gz$"):
        locate("mnist", small_mnist.parent)
    (small_cifar / "data_batch_3").unlink()
    (small_cifar / "test_batch").unlink()
    with pytest.raises(DataError, match=r"all 6 batch files are needed: add data_batch_3, test_batch$"):
        locate("cifar", small_cifar)


def test_a_part_of_one_form_does_not_hide_another_that_is_whole(small_mnist, publish):
    (small_mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    publish(small_mnist.parent / "mnist.npz", b"content")
    assert locate("mnist", small_mnist.parent).kind == "npz"


def test_a_part_in_the_cache_is_nobodys_request(cache, publish):
    publish(cache / "test_batch", b"content")
    assert locate("cifar", None).stand_in


def test_a_root_must_be_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"data root .*absent does not exist"):
        locate("mnist", tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data root .*file is not a folder"):
        locate("mnist", tmp_path / "file")
    with pytest.raises(DataError, match=r"x: cannot be searched for MNIST \(File name too long\)$"):
        locate("mnist", tmp_path / ("x" * 300))
    with pytest.raises(DataError, match=r"data root ~no-such-user: .*; write the folder's full path$"):
        locate("mnist", Path("~no-such-user"))


def test_a_relative_root_becomes_absolute(small_mnist, monkeypatch):
    monkeypatch.chdir(small_mnist.parent.parent)
    assert locate("mnist", Path("files")).path == small_mnist


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "svhn"}, "unknown data set 'svhn': must be one of mnist, cifar"),
        ({"source": "fake"}, "unknown data source 'fake': must be auto or real"),
        ({"timeout": 0.0}, r"timeout must be finite and more than 0 seconds, got 0\.0"),
        ({"timeout": float("nan")}, "must be finite and more than 0 seconds, got nan"),
        ({"timeout": float("inf")}, "must be finite and more than 0 seconds, got inf"),
    ],
)
def test_a_wrong_request_is_named(arguments, words):
    with pytest.raises(DataError, match=words):
        locate(**({"name": "mnist", "root": None} | arguments))


def test_verify_names_the_file_and_both_checksums(small_mnist):
    file = small_mnist / "train-labels-idx1-ubyte.gz"
    file.write_bytes(b"other")
    assert locate("mnist", small_mnist).kind == "idx"
    with pytest.raises(DataError) as caught:
        locate("mnist", small_mnist, verify=True)
    message = str(caught.value)
    assert message.startswith(f"{file}: wrong md5 checksum, expected ")
    assert "got 795f3202b17cb6bc3d4b771d8c6c9eaf" in message  # md5 of b"other"
    assert "\n" not in message


def test_a_failed_download_falls_back_with_one_warning(no_download, caplog):
    source = locate("mnist", None, download=True)
    assert source.stand_in
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "MNIST could not be downloaded from host: no sign of life for 5 seconds; the stand-in is used",
        )
    ]


def test_a_failed_download_is_an_error_where_real_data_are_demanded(no_download):
    with pytest.raises(DataError, match="could not be downloaded"):
        locate("mnist", None, source="real", download=True)


def test_what_is_on_disk_is_not_downloaded(no_download, small_mnist, cache, publish):
    assert locate("mnist", small_mnist, source="real", download=True).kind == "idx"
    publish(cache / "cifar-10-python.tar.gz", b"content")
    assert locate("cifar", None, source="real", download=True).kind == "tar"


def test_a_source_is_a_frozen_value(small_mnist):
    source = locate("mnist", small_mnist)
    assert hash(source) == hash(locate("mnist", small_mnist))
    with pytest.raises(dataclasses.FrozenInstanceError):
        source.kind = "npz"


def test_a_failed_download_of_real_data_says_what_to_put_where(monkeypatch, tmp_path):
    def unreachable(name, folder, timeout):
        raise DataError("MNIST could not be downloaded")

    monkeypatch.setattr("bnlab.data.sources.fetch", unreachable)
    with pytest.raises(DataError, match=r"could not be downloaded; put train-images.* or mnist\.npz into "):
        locate("mnist", tmp_path, "real", download=True)
