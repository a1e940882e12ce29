"""The published files decode to known values, and to the committed fingerprints."""

import numpy as np

from bnlab.data import load, locate
from bnlab.data.datasets import fingerprint


def test_mnist(real_root):
    source = locate("mnist", real_root, source="real", verify=True)
    images = load(source)
    assert source.description == "MNIST, 60,000 + 10,000 images, IDX files"
    assert images.train_x.shape == (60_000, 28, 28, 1)
    assert images.test_x.shape == (10_000, 28, 28, 1)
    assert images.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert images.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    assert images.train_x.sum() == 1_567_298_545
    assert images.test_x.sum() == 264_923_200
    assert np.bincount(images.train_y).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert fingerprint("mnist", images) == source.fingerprint == "mnist-06b0d1f124c4e5fa"


def test_mnist_from_an_npz_is_the_same(real_root, tmp_path, publish, pack):
    images = load(locate("mnist", real_root))
    data = pack.npz(
        x_train=images.train_x[..., 0],
        y_train=images.train_y.astype(np.uint8),
        x_test=images.test_x[..., 0],
        y_test=images.test_y.astype(np.uint8),
    )
    publish(tmp_path / "mnist.npz", data)
    source = locate("mnist", tmp_path)
    again = load(source)
    assert source.kind == "npz"
    assert again is not images
    assert fingerprint("mnist", again) == source.fingerprint == "mnist-06b0d1f124c4e5fa"
    for name in ("train_x", "train_y", "test_x", "test_y"):
        np.testing.assert_array_equal(getattr(again, name), getattr(images, name))


def test_cifar(real_root):
    source = locate("cifar", real_root, source="real")
    images = load(source)
    assert source.description == "CIFAR-10, 50,000 + 10,000 images, batch files"
    assert images.train_x.shape == (50_000, 32, 32, 3)
    assert images.test_x.shape == (10_000, 32, 32, 3)
    assert images.train_y[:5].tolist() == [6, 9, 9, 4, 1]
    assert images.test_y[:4].tolist() == [3, 8, 8, 0]
    assert images.train_x[0, 0, 0].tolist() == [59, 62, 63]
    assert images.train_x.sum() == 18_540_682_003
    assert images.test_x.sum() == 3_733_375_634
    assert np.bincount(images.train_y).tolist() == [5000] * 10
    assert np.bincount(images.test_y).tolist() == [1000] * 10
    assert fingerprint("cifar", images) == source.fingerprint == "cifar-80387ddb9a0edf3f"
