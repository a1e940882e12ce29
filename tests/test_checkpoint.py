"""A checkpoint holds everything, and what does not fit is an error with a name."""

import errno
import io
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from bnlab import checkpoint, models
from bnlab.checkpoint import CheckpointError, load, losses, moving_statistics, restore, save
from bnlab.files import FileError, seal
from bnlab.records import Trial
from bnlab.science.tape import Column, Tape
from bnlab.store import Folder

TRIAL = Trial(
    task="mnist",
    data="mnist",
    fingerprint="noise",
    model="convnet",
    widths=(4, 8),
    norm="batch",
    options=(("center", True), ("epsilon", 1e-3), ("scale", True)),
    batch_size=8,
    seed=0,
    steps=6,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    schedule="cosine",
    device="cpu",
    threads=1,
    xla=False,
)
TAPE = Tape((Column("norm", 0, 3),), np.array([[1, 2, 3, 4, 5, 6], [7, 8, 9, 1, 2, 3]], np.float32))
LOSSES = np.array([2.5, 2.25], np.float32)
X = np.random.default_rng(0).normal(3, 2, (8, 4)).astype(np.float32)


@pytest.fixture
def keras():
    import keras

    return keras


@dataclass
class Learner:
    """A model with its optimizer; `step` trains both once, dropout included."""

    model: object
    descent: object

    def step(self):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.model(X, training=True) ** 2)
        variables = self.model.trainable_variables
        self.descent.apply(tape.gradient(loss, variables), variables)
        return np.array(loss)

    def values(self):
        return {v.path: np.array(v) for v in [*self.model.variables, *self.descent.variables]}


@pytest.fixture
def learner(keras):
    """Build one in a session of Keras's own, as a job does."""

    def built(units=3, name="dense", seed=0, optimizer="Adam", dropout=0.5):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        x = keras.Input((4,))
        y = layers.BatchNormalization(name="norm")(layers.Dense(units, name=name)(x))
        model = keras.Model(x, layers.Dense(1, name="out")(layers.Dropout(dropout)(y)))
        descent = getattr(keras.optimizers, optimizer)(0.1)
        descent.build(model.trainable_variables)
        return Learner(model, descent)

    return built


@pytest.fixture
def saved(learner, tmp_path):
    """A learner after two steps, and its checkpoint."""
    one = learner()
    one.step(), one.step()
    save(tmp_path / "one.npz", one.model, one.descent, TAPE, LOSSES)
    return one, load(tmp_path / "one.npz")


def scrambled(learner):
    rng = np.random.default_rng(7)
    for variable in [*learner.model.variables, *learner.descent.variables]:
        variable.assign(rng.integers(1, 9, variable.shape).astype(variable.dtype))
    return learner


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_another_object_gets_every_value_and_every_output(saved, learner):
    one, stored = saved
    other = scrambled(learner(seed=1))
    restore(stored, other.model, other.descent)
    assert same(one.values(), other.values())
    assert np.array_equal(one.model(X, training=False), other.model(X, training=False))


def test_training_goes_on_with_the_same_step_dropout_included(saved, learner):
    one, stored = saved
    other = scrambled(learner(seed=1))
    restore(stored, other.model, other.descent)
    for _ in range(2):
        assert np.array_equal(one.step(), other.step())
    assert same(one.values(), other.values())


def test_a_model_is_restored_without_its_optimizer(saved, learner):
    one, stored = saved
    other = scrambled(learner(seed=1))
    before = [np.array(variable) for variable in other.descent.variables]
    restore(stored, other.model)
    assert np.array_equal(one.model(X), other.model(X))
    assert all(map(np.array_equal, before, map(np.array, other.descent.variables)))


def test_tape_and_losses_come_back(saved):
    _, stored = saved
    assert stored.tape.columns == TAPE.columns
    assert np.array_equal(stored.tape.moments, TAPE.moments)
    assert stored.losses.tolist() == [2.5, 2.25]


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from bnlab import machine
machine.configure("cpu", threads=1)
from bnlab import models
from bnlab.checkpoint import load, restore
from bnlab.store import Folder
folder = Folder(Path(sys.argv[1]))
model = models.build(folder.trial())
for variable in model.variables:
    variable.assign(variable + 1)
restore(load(folder.checkpoint(6)), model)
x = np.load(folder.path / "x.npy")
np.save(folder.path / "y.npy", np.stack([model(x, training=phase) for phase in (False, True)]))
"""


def test_a_new_process_gives_the_same_outputs_bit_for_bit(keras, tmp_path):
    folder, model = Folder(tmp_path), models.build(TRIAL)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(0.1, 1, variable.shape))
    x = rng.random((8, 28, 28, 1), np.float32)
    np.save(tmp_path / "x.npy", x)
    folder.write_trial(TRIAL, {})
    save(folder.checkpoint(6), model, keras.optimizers.SGD(), TAPE, LOSSES)
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, capture_output=True)
    expected = np.stack([model(x, training=phase) for phase in (False, True)])
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        ({"name": "renamed"}, ["model/dense/kernel", "model/renamed/kernel", "model/renamed/bias"]),
        ({"dropout": 0.0}, ["seed_generator"]),
    ],
)
def test_variables_of_one_side_only_are_named(saved, learner, build, names):
    _, stored = saved
    with pytest.raises(
        CheckpointError, match=r"one\.npz and the model do not hold the same variables"
    ) as error:
        restore(stored, learner(**build).model)
    assert all(name in str(error.value) for name in names)


def test_a_variable_of_another_shape_is_named_with_both_shapes(saved, learner):
    _, stored = saved
    message = r"one\.npz: model/dense/kernel has shape \(4, 3\), the model wants \(4, 5\)$"
    with pytest.raises(CheckpointError, match=message):
        restore(stored, learner(units=5).model)


def test_another_optimizer_is_refused(saved, learner):
    _, stored = saved
    other = learner(optimizer="SGD")
    with pytest.raises(CheckpointError, match=r"the optimizer do not hold the same variables.*adam.*sgd"):
        restore(stored, other.model, other.descent)


def test_a_variable_that_is_missing_in_the_file_is_named(saved, learner):
    _, stored = saved
    less = {name: array for name, array in stored.arrays.items() if name != "model/norm/moving_mean"}
    with pytest.raises(CheckpointError, match=r"\['model/norm/moving_mean'\]$"):
        restore(checkpoint.Checkpoint(stored.path, less), learner().model)


def packed(**arrays):
    """A sealed archive of arrays."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    seal(stream)
    return stream.getvalue()


def single():
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    return stream.getvalue()


WHOLE = packed(a=np.arange(100.0), b=np.arange(100.0))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param(b"", id="empty"),
        pytest.param(b"no checkpoint", id="text"),
        pytest.param(WHOLE[: len(WHOLE) // 2], id="first half"),
        pytest.param(WHOLE[:-1], id="one byte short"),
        pytest.param(WHOLE[:200] + b"\xff" + WHOLE[201:], id="one byte wrong"),
        pytest.param(packed(a=np.array([print], object)), id="pickled objects"),
        pytest.param(single(), id="one array"),
        pytest.param(WHOLE, id="other arrays"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_an_error_with_its_name(tmp_path, content):
    path = tmp_path / "00000006.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"00000006\.npz cannot be read as a checkpoint: "):
        load(path)


def test_a_write_that_fails_midway_leaves_the_old_checkpoint(saved, tmp_path, monkeypatch):
    one, stored = saved

    def broken(file, **arrays):
        file.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", broken)
    message = (
        r"one\.npz cannot be written: No space left on device \([\d.]+ MiB left\); free some space, then "
    )
    with pytest.raises(FileError, match=message):
        save(stored.path, one.model, one.descent, TAPE, LOSSES)
    assert same(load(stored.path).arrays, stored.arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]


@pytest.fixture
def stretches(saved, tmp_path):
    """A folder with checkpoints at steps 2 and 4, of the same two steps each."""
    one, _ = saved
    folder = Folder(tmp_path / "trial")
    for step in (2, 4):
        save(folder.checkpoint(step), one.model, one.descent, TAPE, LOSSES)
    return folder


@pytest.mark.parametrize(
    ("step", "mean"), [(2, [3.75, 4.5, 5.25]), (3, [3.75, 4.5, 5.25]), (9, [4.6875, 5.625, 6.5625])]
)
def test_moving_statistics_are_a_replay_up_to_a_step(stretches, step, mean):
    # First channel at 0.5: 0 -> .5 -> 3.75 -> 2.375 -> 4.6875.
    assert moving_statistics(stretches, step, [0.5]).at(0.5)["norm"][0].tolist() == mean


def test_moving_statistics_before_the_first_checkpoint_are_an_error(stretches):
    with pytest.raises(CheckpointError, match="trial has no checkpoint up to step 1"):
        moving_statistics(stretches, 1, [0.5])


def test_losses_of_all_steps_are_those_of_all_checkpoints(stretches, tmp_path):
    assert losses(stretches).tolist() == [2.5, 2.25, 2.5, 2.25]
    assert losses(Folder(tmp_path / "nothing")).tolist() == []
