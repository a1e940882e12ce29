"""An exported trial is a stock Keras model with the replayed statistics."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from bnlab.checkpoint import load, moving_statistics, restore
from bnlab.export import ExportError, exported, find, main
from bnlab.models import build
from bnlab.science.probe import outputs

OPEN = """
import sys, numpy as np, keras
model = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))
sys.exit("bnlab" in sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tiny_sweep):
    found = [find(tiny_sweep / "runs", path.name) for path in (tiny_sweep / "runs" / "trials").iterdir()]
    return next(folder for folder in found if folder.trial().norm == "batch")


def test_it_opens_without_bnlab_and_gives_the_phase_false_outputs(folder, tmp_path):
    x = np.random.default_rng(0).uniform(size=(8, 28, 28, 1)).astype("float32")
    model = build(folder.trial())
    last = folder.checkpoints()[-1]
    restore(load(folder.checkpoint(last)), model)
    wanted = outputs(model, x, _float32(moving_statistics(folder, last, [0.9]).at(0.9)))
    exported(folder, 0.9).save(tmp_path / "out.keras")
    np.save(tmp_path / "x.npy", x)
    arguments = [str(tmp_path / name) for name in ("out.keras", "x.npy", "y.npy")]
    subprocess.run([sys.executable, "-c", OPEN, *arguments], check=True, capture_output=True, cwd=tmp_path)
    # Another graph may order float32 sums otherwise: about 600 terms of order 1 each.
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=0, atol=600 * 2**-23)


def test_its_layers_carry_the_decay_as_momentum(folder):
    layers = [
        layer for layer in exported(folder, 0.7).layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert [layer.momentum for layer in layers] == [0.7] * 3


def test_an_earlier_checkpoint_has_the_statistics_of_its_step(folder):
    step = folder.checkpoints()[1]
    mean, variance = moving_statistics(folder, step, [0.5]).at(0.5)["block1_norm"]
    layer = exported(folder, 0.5, step).get_layer("block1_norm")
    np.testing.assert_array_equal(layer.moving_mean, mean.astype("float32"))
    np.testing.assert_array_equal(layer.moving_variance, variance.astype("float32"))


@pytest.mark.parametrize(
    ("decay", "step", "why"), [(1.0, None, "must lie in"), (0.9, 8, "no checkpoint at step 8")]
)
def test_what_cannot_be_exported_is_refused(folder, decay, step, why):
    with pytest.raises(ExportError, match=why):
        exported(folder, decay, step)


def test_the_command_line_names_what_is_wrong(tiny_sweep, capsys):
    store = ["--store", str(tiny_sweep / "runs")]
    assert main(["zzz", "out.keras", *store]) == 2
    assert main(["", "out.h5", *store]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"bnlab: 'zzz' must begin the identity of one trial in {tiny_sweep / 'runs'}; found: none",
        "bnlab: the file to write must end in .keras, got out.h5",
    ]


def _float32(statistics):
    return {name: tuple(part.astype("float32") for part in pair) for name, pair in statistics.items()}
