"""What the doctor's files are tested with: one small model, trained for four steps, in all its forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

CODE = """
import keras
from keras import layers

def build():
    return keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="norm"), layers.Flatten(), layers.Dense(2)])

def build_other():
    return keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(3)])

def build_open():
    return keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"),
        layers.Flatten(), layers.Dense(2)])

def number():
    return 3

def failing():
    raise RuntimeError("no such luck\\nat all")

@keras.saving.register_keras_serializable("my_package")
class MyBlock(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.norm = layers.BatchNormalization()

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x, training=None):
        return self.norm(x, training=training)

def double(x):
    return 2 * x
"""


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    """A folder with somebody's own module, and its name, which no other has."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "doctored_models.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield "doctored_models"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def trained(folder):
    """A model after four steps of Adam at 0.01, saved in every form."""
    keras.utils.set_random_seed(3)
    stack = layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="norm"), layers.Flatten()
    model = keras.Sequential([keras.Input((6, 6, 3)), *stack, layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(32, 6, 6, 3)), rng.normal(size=(32, 2)), batch_size=8, verbose=0)
    for name in ("model.keras", "model.h5"):
        model.save(folder / name)
    model.save_weights(folder / "model.weights.h5")
    tf.train.Checkpoint(model=model).write(str(folder / "named"))
    tf.train.Checkpoint(model).write(str(folder / "root"))
    tf.train.Checkpoint(net=model, step=tf.Variable(1)).write(str(folder / "other"))
    model.export(folder / "exported", verbose=False)
    tf.saved_model.save(model, str(folder / "saved"))
    return model
