"""Somebody's data in all its forms: what is read, and what is refused in which words."""

import keras
import numpy as np
import pytest
from keras import Input, Model, Sequential, layers

from bnlab.data import DataError, Images
from bnlab.data.sources import stand_in_source
from bnlab.doctor import data as room
from bnlab.doctor.data import Data, read
from bnlab.doctor.fitting import fits

X = np.arange(10 * 4, dtype=np.float32).reshape(10, 4)
Y = np.arange(10)

CODE = """
import itertools
import keras
import numpy as np
import tensorflow as tf

X = np.arange(10 * 4, dtype=np.float32).reshape(10, 4)
Y = np.arange(10)
both = lambda: (X, Y)
one = lambda: X
single = lambda: (X,)
splits = lambda: ((X, Y), (X[:8] + 1, Y[:8] + 1))
keyed = lambda: {"x": X, "y": Y, "x_test": X[:9]}
several = lambda: {"x_train": {"a": X, "b": 2 * X}, "y_train": (Y, Y)}
numbered = lambda: {"x.1": 2 * X, "x.0": X}
lists = lambda: (X.tolist(), Y.tolist())
slices = lambda: tf.data.Dataset.from_tensor_slices((X, Y))
inputs = lambda: tf.data.Dataset.from_tensor_slices(X)
batches = lambda: slices().batch(4).prefetch(1)
even = lambda: inputs().batch(5, drop_remainder=True).map(lambda x: x)
apart = lambda: slices().batch(4).unbatch()
named = lambda: tf.data.Dataset.from_tensor_slices(({"a": X, "b": 2 * X}, Y)).batch(3)
weighted = lambda: tf.data.Dataset.from_tensor_slices((X, Y, Y)).batch(3)
endless = lambda: slices().batch(4).repeat()
pair = lambda: (batches(), slices())
generator = lambda: ((X[at : at + 2], Y[at : at + 2]) for at in range(0, 10, 2))
without_end = lambda: ((X[:5], Y[:5]) for _ in itertools.count())
nothing = lambda: iter(())
three = lambda: (X, Y, Y)
words = lambda: np.array(["a"] * 10)
objects = lambda: np.array([None] * 10)
ragged = lambda: [[1.0], [1.0, 2.0]] * 5
unknown = lambda: {"inputs": X}
nobody = lambda: None
imaginary = lambda: X * 1j

def failing():
    raise RuntimeError("no such luck")

class Mine(keras.utils.PyDataset):
    def __len__(self):
        return 5
    def __getitem__(self, at):
        return X[2 * at : 2 * at + 2], Y[2 * at : 2 * at + 2]

mine = lambda: Mine()
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "doctored_data.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield lambda name: read(f"doctored_data:{name}")


@pytest.mark.parametrize(
    "name",
    ["both", "lists", "slices", "batches", "apart", "weighted", "generator", "mine"],
)
def test_a_function_may_give_inputs_and_labels_in_any_form(given, name):
    data = given(name)
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.y_train, Y)
    assert (data.x_test, data.y_test, data.name) == (None, None, f"doctored_data:{name}")
    single = ("train: the dataset was taken to give single samples",)
    assert data.notes == (single if name in ("slices", "apart") else ())


@pytest.mark.parametrize("name", ["one", "single", "inputs", "even"])
def test_labels_may_lack(given, name):
    np.testing.assert_array_equal(given(name).x_train, X)
    assert given(name).y_train is None


def test_two_splits(given):
    data = given("splits")
    np.testing.assert_array_equal(data.x_test, X[:8] + 1)
    np.testing.assert_array_equal(data.y_test, Y[:8] + 1)
    data = given("pair")
    np.testing.assert_array_equal(data.x_test, X)
    assert data.notes == ("test: the dataset was taken to give single samples",)
    data = given("keyed")
    np.testing.assert_array_equal(data.x_test, X[:9])
    assert data.y_test is None


def test_several_inputs(given):
    data = given("several")
    assert list(data.x_train) == ["a", "b"]
    np.testing.assert_array_equal(data.x_train["b"], 2 * X)
    assert len(data.y_train) == 2
    np.testing.assert_array_equal(given("named").x_train["b"], 2 * X)
    np.testing.assert_array_equal(given("numbered").x_train[1], 2 * X)


@pytest.mark.parametrize("name", ["endless", "without_end"])
def test_a_stream_without_end_is_cut(given, name):
    data = given(name)
    assert data.x_train.shape == (4096, 4)
    np.testing.assert_array_equal(data.y_train[:5], Y[:5])
    assert data.notes == ("train: the first 4,096 samples were taken",)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("failing", "--data {}:failing fails: RuntimeError: no such luck"),
        ("missing", "--data {}:missing: module {} has no missing; check the name"),
        ("X", "--data {}:X must be a function, got a ndarray"),
        ("nothing", "{}:nothing cannot be read as data: it gives no samples"),
        ("three", "{}:three: the function must return x, (x, y) or ((x, y), (x, y)), got 3 things"),
        ("words", "{}:words: x_train must be numbers, got <U1 of ndarray; encode it first"),
        ("objects", "{}:objects: x_train must be numbers, got object of ndarray; encode it first"),
        ("imaginary", "{}:imaginary: x_train must be numbers, got complex64 of ndarray; encode it first"),
        ("unknown", "{}:unknown: it must have x_train, and may have y_train, x_test, y_test; got ['inputs']"),
        ("nobody", "{}:nobody: x_train must be there"),
    ],
)
def test_what_a_function_gives_is_checked(given, name, wanted):
    with pytest.raises(DataError) as caught:
        given(name)
    assert str(caught.value) == wanted.replace("{}", "doctored_data")


def test_ragged_lists_are_refused(given):
    with pytest.raises(DataError, match="x_train must be an array of numbers, got list: "):
        given("ragged")


def test_an_npz_has_its_parts_by_name(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:8], y_test=Y[:8], more=Y)
    data = read(str(path))
    np.testing.assert_array_equal(data.x_train, X)
    np.testing.assert_array_equal(data.y_test, Y[:8])
    np.savez(path, **{"x_train.a": X, "x_train.b": 2 * X, "y": Y})
    data = read(str(path))
    np.testing.assert_array_equal(data.x_train["b"], 2 * X)
    np.testing.assert_array_equal(data.y_train, Y)
    np.savez(path, **{f"x_train.{number}": number * X for number in range(11)})
    np.testing.assert_array_equal(read(str(path)).x_train[10], 10 * X)


def test_an_npy_has_inputs_only(tmp_path):
    np.save(tmp_path / "data.npy", X)
    data = read(str(tmp_path / "data.npy"))
    np.testing.assert_array_equal(data.x_train, X)
    assert data.y_train is None


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"inputs": X}, r"it must have x_train, and may have .*; got \['inputs'\]"),
        ({"x_train": X, "y_train": Y[:9]}, "y_train must have a label for each of 10 samples, got 9"),
        ({"x_train": X[:7]}, "x_train must have at least 8 samples, got 7"),
        ({"x_train": X[:0]}, r"x_train must have samples, got an array of shape \(0, 4\)"),
        ({"x_train": np.float32(3)}, r"x_train must have samples, got an array of shape \(\)"),
        ({"x_train": X, "y_test": Y}, "x_test must be there where y_test is"),
        ({"x_train": X, "x_test": X[:3]}, "x_test must have at least 8 samples, got 3"),
        ({"x_train.a": X, "x_train.b": X[:9]}, r"x_train must be arrays of one length, got \[9, 10\]"),
        ({"x_train": X, "x": X}, r"x_train must be there once, got \['x', 'x_train'\]"),
        ({"x_train": X, "x_train.a": X}, "x_train must be there once"),
        ({"x_train": np.array([None] * 9)}, "cannot be read as data: Object arrays cannot be loaded"),
    ],
)
def test_an_npz_is_checked(tmp_path, arrays, wanted):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=wanted) as caught:
        read(str(path))
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4", b"\x93NUMPY"])
@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_a_file_without_arrays_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"data.{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as data"):
        read(str(path))


def test_words_that_are_no_data(tmp_path):
    with pytest.raises(DataError, match="must be a file, and there is none; check the path"):
        read(str(tmp_path / "data.npz"))
    wanted = "--data must be a .npz or .npy file, mnist or cifar, or module:function, got digits"
    with pytest.raises(DataError, match=wanted):
        read("digits")


@pytest.mark.parametrize(("name", "shape"), [("mnist", (28, 28, 1)), ("cifar", (32, 32, 3))])
def test_the_sets_of_this_package(name, shape, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setenv("BNLAB_DATA", str(tmp_path))
    monkeypatch.setattr(room, "locate", lambda *of: asked.append(of) or stand_in_source("mnist"))
    pixels = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1) * 30 + np.zeros(shape, np.uint8)
    monkeypatch.setattr(room, "load", lambda source: Images(pixels, Y[:9], pixels[1:], Y[1:9]))
    data = read(name)
    assert data.x_train.shape[1:] == data.x_test.shape[1:] == shape
    np.testing.assert_array_equal(data.x_test[1], np.full(shape, np.float32(60) / np.float32(255)))
    np.testing.assert_array_equal(data.y_test, Y[1:9])
    assert asked == [(name, tmp_path)]
    assert data.notes[0].startswith("STAND-IN for ")
    assert data.notes[1] == "pixels are divided by 255, so they lie in [0, 1]"


def test_numbers_that_are_not_finite_are_a_finding():
    x = X.copy()
    x[0, 0], x[1, 1] = np.nan, np.inf
    data = Data(x)
    assert data.notes == ("2 of 40 numbers of x_train are not finite",)
    assert fits(data, Sequential([Input((4,)), layers.Dense(1)])).notes == data.notes


def test_data_that_fits_is_left_as_it_is():
    data = Data(X, Y, X)
    model = Sequential([Input((4,)), layers.Dense(1)])
    assert fits(data, model).x_train is data.x_train
    assert fits(data, keras.Sequential([layers.Dense(1)])) is data


def test_a_channel_axis_is_added_with_a_note():
    images = np.zeros((9, 6, 5), np.float32)
    model = Sequential([Input((None, 5, 1)), layers.Conv2D(1, 3)])
    data = fits(Data(images, None, images, notes=("mine",)), model)
    assert data.x_train.shape == data.x_test.shape == (9, 6, 5, 1)
    assert data.notes == (
        "mine",
        "x_train was given a last axis of one channel",
        "x_test was given a last axis of one channel",
    )
    with pytest.raises(DataError) as caught:
        fits(Data(images[:, :, :4]), model)
    assert str(caught.value) == "x_train must have shape (n, any, 5, 1) for this model, got (9, 6, 4)"


def two_inputs(form):
    a, b = Input((4,), name="a"), Input((2,), name="b")
    return Model(form(a, b), layers.Dense(1)(layers.Concatenate()([a, b])))


@pytest.mark.parametrize("form", [lambda a, b: [a, b], lambda a, b: {"a": a, "b": b}])
def test_several_inputs_come_as_the_model_takes_them(form):
    model = two_inputs(form)
    for given in ((X, X[:, :2]), {"b": X[:, :2], "a": X}):
        x = fits(Data(given), model).x_train
        assert isinstance(x, dict) == isinstance(model.input, dict)
        np.testing.assert_array_equal(x["a"] if isinstance(x, dict) else x[0], X)
        assert model(x).shape == (10, 1)


def test_several_inputs_are_checked():
    model = two_inputs(lambda a, b: [a, b])
    for given, wanted in (
        (X, r"x_train must have 2 inputs for this model, \['a', 'b'\], got 1"),
        ({"a": X, "c": X}, r"x_train must have the model's inputs \['a', 'b'\], got \['a', 'c'\]"),
        ((X, X), r"x_train\['b'\] must have shape \(n, 2\) for this model, got \(10, 4\)"),
    ):
        with pytest.raises(DataError, match=wanted):
            fits(Data(given), model)
