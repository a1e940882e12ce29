"""Restore drills: the known ways in which a restore loses the moving statistics, each really done.

Every drill writes an intact model to a file of its own and restores it into a new model by Keras's own
means; what is measured afterwards is that new model, with the statistics that it then holds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from bnlab import models
from bnlab.records import Trial
from bnlab.science.probe import normalization_layers, put_statistics
from bnlab.science.sources import Fixed
from bnlab.text import export_statistics, import_statistics

# Another framework's epsilon: PyTorch's and Flax's, where Keras has 1e-3.
OTHER_EPSILON = 1e-5
_Build: TypeAlias = Callable[..., keras.Model]


def restored(drill: str, trial: Trial, model: keras.Model, statistics: Fixed) -> keras.Model:
    """Save a model with its moving statistics, and restore it in the way of a drill.

    Args:
        drill: a key of `DRILLS`.
        trial: what the model was built for.
        model: with the weights of a checkpoint; it is left as it is.
        statistics: its moving ones.
    """
    weights = [np.array(variable) for variable in model.variables]

    def build(**options: float) -> keras.Model:
        return models.build(replace(trial, seed=trial.seed + 1), **options)

    whole = build()
    for variable, value in zip(whole.variables, weights, strict=True):
        variable.assign(value)
    put_statistics(whole, statistics)
    with tempfile.TemporaryDirectory() as folder:
        return DRILLS[drill](whole, build, Path(folder))


def intact(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Restore everything: the control."""
    model.save_weights(folder / "all.weights.h5")
    other = build()
    other.load_weights(folder / "all.weights.h5")
    return other


def not_saved(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Save trainable variables alone, as a saver that was given `trainable_variables` does."""
    trainable = {v.path: np.array(v) for v in model.trainable_variables}
    np.savez(folder / "trainable.npz", allow_pickle=False, **trainable)
    other = build()
    with np.load(folder / "trainable.npz") as stored:
        for variable in other.trainable_variables:
            variable.assign(stored[variable.path])
    return other


def overwritten(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Restore everything, then initialize the statistics once more."""
    other = intact(model, build, folder)
    for layer in normalization_layers(other):
        layer.moving_mean.assign(layer.moving_mean_initializer(layer.moving_mean.shape))
        layer.moving_variance.assign(layer.moving_variance_initializer(layer.moving_variance.shape))
    return other


def renamed(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Restore by name, skipping what has no match, where normalization layers have other names."""
    np.savez(folder / "all.npz", allow_pickle=False, **{v.path: np.array(v) for v in model.variables})
    other = keras.models.clone_model(build(), clone_function=_renamed)
    with np.load(folder / "all.npz") as stored:
        for variable in other.variables:
            if variable.path in stored:
                variable.assign(stored[variable.path])
    return other


def _renamed(layer: keras.layers.Layer) -> keras.layers.Layer:
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        config["name"] += "_renamed"
    return layer.__class__.from_config(config)


def other_epsilon(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Restore everything into a model with another epsilon."""
    model.save_weights(folder / "all.weights.h5")
    other = build(epsilon=OTHER_EPSILON)
    other.load_weights(folder / "all.weights.h5")
    return other


def not_run(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Build the assignment of the statistics into a graph, and never run it."""
    other = not_saved(model, build, folder)

    @tf.function
    def assign() -> None:
        for source, target in zip(normalization_layers(model), normalization_layers(other), strict=True):
            target.moving_mean.assign(source.moving_mean)
            target.moving_variance.assign(source.moving_variance)

    assign.get_concrete_function()
    return other


def text(model: keras.Model, build: _Build, folder: Path) -> keras.Model:
    """Lose the statistics, then bring them back from one text file per variable."""
    export_statistics(model, folder / "statistics")
    other = not_saved(model, build, folder)
    import_statistics(other, folder / "statistics")
    return other


DRILLS: Mapping[str, Callable[[keras.Model, _Build, Path], keras.Model]] = {
    "intact": intact,
    "not_saved": not_saved,
    "overwritten": overwritten,
    "renamed": renamed,
    "other_epsilon": other_epsilon,
    "not_run": not_run,
    "text": text,
}
