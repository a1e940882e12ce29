"""load gives the same arrays for every form of a set, checks what it decodes, and reads it once."""

import gzip

import numpy as np
import pytest

from bnlab.data import DataError, load, locate
from bnlab.data.forms import BATCH_FILES, BATCH_FOLDER

PIXELS = np.repeat(np.arange(5, dtype=np.uint8), 784).reshape(5, 28, 28)


def arrays(images):
    return images.train_x, images.train_y, images.test_x, images.test_y


def check_mnist(images):
    assert [array.shape for array in arrays(images)] == [(3, 28, 28, 1), (3,), (2, 28, 28, 1), (2,)]
    assert [array.dtype.name for array in arrays(images)] == ["uint8", "int64", "uint8", "int64"]
    np.testing.assert_array_equal(images.train_x[..., 0], PIXELS[:3])
    np.testing.assert_array_equal(images.train_y, [5, 0, 4])
    np.testing.assert_array_equal(images.test_x[..., 0], PIXELS[3:])
    np.testing.assert_array_equal(images.test_y, [7, 2])


def check_cifar(images):
    assert [array.shape for array in arrays(images)] == [(10, 32, 32, 3), (10,), (2, 32, 32, 3), (2,)]
    assert [array.dtype.name for array in arrays(images)] == ["uint8", "int64", "uint8", "int64"]
    np.testing.assert_array_equal(images.train_x[7, 20, 30], [7, 107, 207])
    np.testing.assert_array_equal(images.train_x[:, 0, 0, 0], np.arange(10))
    np.testing.assert_array_equal(images.train_y, np.arange(10))
    np.testing.assert_array_equal(images.test_x[:, 31, 0], [[10, 110, 210], [11, 111, 211]])
    np.testing.assert_array_equal(images.test_y, [0, 1])


def npz_arrays():
    labels = np.array([5, 0, 4, 7, 2], np.uint8)
    return {"x_train": PIXELS[:3], "y_train": labels[:3], "x_test": PIXELS[3:], "y_test": labels[3:]}


def test_idx_files(small_mnist):
    check_mnist(load(locate("mnist", small_mnist)))


def test_npz_file(small_sets, tmp_path, publish, pack):
    publish(tmp_path / "mnist.npz", pack.npz(**npz_arrays()))
    check_mnist(load(locate("mnist", tmp_path)))


def test_batch_files(small_cifar):
    check_cifar(load(locate("cifar", small_cifar)))


def test_tar_file(small_cifar, tmp_path, publish, pack):
    members = {f"{BATCH_FOLDER}/{file}": (small_cifar / file).read_bytes() for file in BATCH_FILES}
    publish(tmp_path / "tar" / "cifar-10-python.tar.gz", pack.tar(members))
    source = locate("cifar", tmp_path / "tar")
    assert source.kind == "tar"
    check_cifar(load(source))
    assert [path.name for path in (tmp_path / "tar").iterdir()] == ["cifar-10-python.tar.gz"]


def test_a_second_trial_reads_nothing(small_mnist):
    source = locate("mnist", small_mnist)
    first = load(source)
    for file in small_mnist.iterdir():
        file.unlink()
    assert load(source) is first


@pytest.mark.parametrize("name", ["mnist", "cifar"])
def test_arrays_are_read_only(name, small_mnist, small_cifar):
    sources = [locate(name, small_mnist.parent), locate(name, None)]
    assert [source.stand_in for source in sources] == [False, True]
    for array in (array for source in sources for array in arrays(load(source))):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_bytes_are_checked_at_load_though_locate_did_not(small_mnist, small_cifar):
    (small_mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(b"other")
    with pytest.raises(
        DataError, match=r"t10k-labels-idx1-ubyte\.gz: wrong md5 checksum, expected \w+ as pub"
    ):
        load(locate("mnist", small_mnist))
    (small_cifar / "data_batch_2").write_bytes(b"other")
    with pytest.raises(DataError, match="data_batch_2: wrong md5 checksum"):
        load(locate("cifar", small_cifar))


def test_a_file_that_went_away_is_named(small_mnist):
    source = locate("mnist", small_mnist)
    (small_mnist / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: cannot be read \(No such file"):
        load(source)


def test_a_checked_file_of_the_wrong_content_is_named(small_mnist, publish):
    publish(small_mnist / "train-labels-idx1-ubyte.gz", gzip.compress(b"letters"))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: not an IDX file"):
        load(locate("mnist", small_mnist))


def test_labels_beyond_the_classes_are_refused(small_mnist, publish, pack):
    publish(small_mnist / "t10k-labels-idx1-ubyte.gz", pack.idx(np.array([9, 10], np.uint8)))
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.9, got 10$"):
        load(locate("mnist", small_mnist))
