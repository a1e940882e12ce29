"""The folding command: what it writes, what it says, what it refuses."""

import re
import zipfile

import keras
import numpy as np
import pytest
from keras import Input, Model, Sequential, layers

from bnlab import fold
from bnlab.fold import main, race, random_inputs
from bnlab.science.folding import deviation


def saved(path, *stack):
    """Save a stack of layers for 6x6 images of 3 channels, with values that training could have left."""
    model = Sequential([Input((6, 6, 3), name="image"), *stack])
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    model.save(path)
    return model


@pytest.fixture
def small(tmp_path):
    """A saved model with one normalization to fold and one to leave."""
    conv, norm = layers.Conv2D(4, 3, use_bias=False, name="conv"), layers.BatchNormalization(name="norm")
    rest = layers.ReLU(name="relu"), layers.BatchNormalization(name="late"), layers.Flatten()
    return saved(tmp_path / "model.keras", conv, norm, *rest)


def test_the_written_model_gives_the_same_outputs(small, tmp_path, capsys):
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "out.keras")]) == 0
    new = keras.saving.load_model(tmp_path / "out.keras", compile=False)
    assert [type(layer).__name__ for layer in new.layers] == [
        "Conv2D",
        "ReLU",
        "BatchNormalization",
        "Flatten",
    ]
    # 27 products per output, in two models, rounded by half a step each.
    assert deviation(small, new, random_inputs(small, 8, seed=3)) <= 2 * 2 * 32 * 2**-24
    left, folded, share, sizes = capsys.readouterr().out.splitlines()
    assert left == "left late: it follows relu (ReLU), no convolution or dense layer"
    assert folded == "folded 1 of 2 normalizations"
    assert re.fullmatch(r"outputs differ by \d\.\de-0[789] of the largest, on 32 random inputs", share)
    lost = "without optimizer and loss"
    assert re.fullmatch(rf".*model\.keras: \d+ KiB -> .*out\.keras: \d+ KiB, {lost}", sizes)


def test_it_times_both_on_request(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fold, "ROUNDS", 2)
    assert main([str(tmp_path / "model.keras"), str(tmp_path / "out.keras"), "--time"]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    times = r"[\d.]+ ms -> [\d.]+ ms, [\d.]+ times as fast \(quartiles [\d.]+ to [\d.]+\)"
    assert all(re.fullmatch(rf"batch (1|128), (tf.function|XLA): {times}", line) for line in lines), lines


def refusal(capsys, *arguments):
    """Run; return the one line of the error."""
    assert main([str(each) for each in arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_a_model_with_nothing_to_fold_is_refused(tmp_path, capsys):
    path, out = tmp_path / "model.keras", tmp_path / "out.keras"
    saved(path, layers.Conv2D(2, 3))
    assert refusal(capsys, path, out) == f"bnlab: nothing to fold: {path} has no batch normalization"
    saved(path, layers.BatchNormalization())
    wanted = f"bnlab: nothing to fold: every normalization of {path} has to stay"
    assert refusal(capsys, path, out) == wanted
    assert not out.exists()


def test_a_file_that_is_no_model_is_refused(tmp_path, capsys):
    path, out = tmp_path / "model.keras", tmp_path / "out.keras"
    assert (
        refusal(capsys, path, out) == f"bnlab: {path} must be a saved Keras model, and there is no such file"
    )
    path.write_text("text")
    assert (
        refusal(capsys, path, out) == f"bnlab: {path} must be a saved Keras model, and it is no .keras file"
    )
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme", "no model")
    assert refusal(capsys, path, out).startswith(f"bnlab: {path} cannot be opened as a Keras model: ")
    assert refusal(capsys, path, "out.h5") == "bnlab: the file to write must end in .keras, got out.h5"
    assert not out.exists()


def test_code_in_a_model_file_is_not_run(tmp_path, capsys):
    Sequential([Input((2,)), layers.Lambda(lambda x: x + 1)]).save(tmp_path / "model.keras")
    error = refusal(capsys, tmp_path / "model.keras", tmp_path / "out.keras")
    assert "cannot be opened as a Keras model" in error
    assert "Lambda" in error


def test_a_difference_beyond_the_tolerance_is_not_written(small, tmp_path, capsys):
    out = tmp_path / "out.keras"
    error = refusal(capsys, tmp_path / "model.keras", out, "--tolerance", "0")
    wanted = r"outputs may differ by 0.0e\+00 of the largest, they differ by \S+; nothing is written"
    assert re.match(f"bnlab: {wanted}", error)
    assert not out.exists()


def test_a_model_that_random_inputs_break_is_refused(tmp_path, capsys):
    x = Input((None, 3), name="rows")
    y = layers.BatchNormalization()(layers.Dense(3)(x))
    Model(x, layers.Reshape((7,))(y[:, :, 0])).save(tmp_path / "model.keras")
    error = refusal(capsys, tmp_path / "model.keras", tmp_path / "out.keras")
    assert error.startswith("bnlab: the model cannot be checked on random inputs: ")


def test_random_inputs_have_the_shapes_and_types_of_the_model():
    image, words = Input((None, 5, 3), name="image"), Input((7,), dtype="int32", name="words")
    drawn = random_inputs(Model({"image": image, "words": words}, [image, words]), 4)
    assert {name: (x.shape, str(x.dtype)) for name, x in drawn.items()} == {
        "image": ((4, 32, 5, 3), "float32"),
        "words": ((4, 7), "int32"),
    }
    assert set(np.unique(drawn["words"])) == {0, 1}


def test_a_race_goes_turn_by_turn(monkeypatch):
    clock, calls = [0.0], []

    def work(name, seconds):
        def run():
            calls.append(name)
            clock[0] += seconds

        return run

    monkeypatch.setattr(fold.time, "perf_counter", lambda: clock[0])
    times = race(work("a", 3.0), work("b", 2.0), rounds=3)
    assert "".join(calls) == "ab" + "ba" + "ab" + "ba"
    assert times == (3.0, 2.0, 1.5, 1.5, 1.5)
