"""A trained model's normalization layers from outside: their statistics, and a score in each phase.

Written without bnlab's own probe, so that the corpus can find it wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from experiments.doctor.images import classes_of


class Scores(NamedTuple):
    """One model on the test samples of its file; accuracy for classifiers, RMSE for regressors."""

    true: float
    false: float
    regression: bool

    @property
    def gap(self) -> float:
        """How much worse phase false is: accuracy lost, or relative growth of the RMSE."""
        return worse(self.true, self.false, self.regression)


def worse(before: float, after: float, regression: bool) -> float:
    """Give accuracy lost, or the relative growth of an RMSE; what is not finite is as bad as can be."""
    if not regression:
        return before - after
    return after / before - 1 if np.isfinite(after) else 10.0


def norms(model: keras.Model) -> list[Any]:
    """List the batch normalization layers in the model's order, nested ones included."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]


def reset(layer: Any) -> None:  # noqa: ANN401
    """Put moving statistics back to their start: mean 0, variance 1."""
    layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
    put_variance(layer, np.ones(layer.moving_variance.shape))


def put_variance(layer: Any, variance: np.ndarray) -> None:  # noqa: ANN401
    """Set the moving variance, and the moving deviation that renormalization keeps beside it."""
    layer.moving_variance.assign(variance)
    if layer.renorm:
        layer.moving_stddev.assign(np.sqrt(variance))


@contextmanager
def batch_statistics(model: keras.Model) -> Iterator[None]:
    """Run normalization layers, and no others, as in training; leave their statistics as they were."""
    kept = [(variable, np.array(variable)) for layer in norms(model) for variable in layer.variables]
    for layer in norms(model):
        layer.call = _as_in_training(layer.call)
    try:
        yield
    finally:
        for layer in norms(model):
            del layer.call
        for variable, value in kept:
            variable.assign(value)


def _as_in_training(call: Any) -> Any:  # noqa: ANN401
    def in_training(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ANN401
        return call(inputs, training=True, mask=mask)

    return in_training


def outputs(model: keras.Model, x: np.ndarray, batch_size: int, training: bool | None = False) -> np.ndarray:
    """Give outputs in inference, in whole batches; the samples of a last part of a batch are left out.

    Args:
        model: any built one.
        x: inputs.
        batch_size: of each call.
        training: as the call is told; None says nothing.
    """
    count = len(x) // batch_size

    def call(part: Any) -> Any:  # noqa: ANN401
        return model(part, training=training)

    run = tf.function(call) if count > 40 else call
    parts = x[: count * batch_size].reshape(count, batch_size, *x.shape[1:])
    return np.concatenate([np.asarray(run(tf.constant(part)), np.float32) for part in parts])


def score(values: np.ndarray, y: np.ndarray, regression: bool) -> float:
    """Accuracy of class scores, or RMSE of numbers."""
    y = y[: len(values)]
    if regression:
        return float(np.sqrt(np.mean((values.astype(np.float64) - y) ** 2)))
    return float(np.mean(values.argmax(1) == classes_of(y)))


def scores(model: keras.Model, x: np.ndarray, y: np.ndarray, batch_size: int, regression: bool) -> Scores:
    """Score a model in both phases, phase true in batches of the size that it was trained with."""
    false = score(outputs(model, x, min(250, len(x))), y, regression)
    with batch_statistics(model):
        true = score(outputs(model, x, batch_size), y, regression)
    return Scores(true, false, regression)


def put_population(model: keras.Model, x: np.ndarray) -> None:
    """Set moving statistics to means over ten batches: variance within batches plus that of their means."""
    found, seen = norms(model), []
    momenta = [layer.momentum for layer in found]
    for layer in found:
        layer.momentum = 0.0
    with batch_statistics(model):
        for part in np.split(x, 10):
            model(part, training=False)
            seen.append([(np.array(n.moving_mean), np.array(n.moving_variance)) for n in found])
    for number, (layer, momentum) in enumerate(zip(found, momenta, strict=True)):
        means, variances = (np.array([batch[number][k] for batch in seen]) for k in (0, 1))
        layer.momentum = momentum
        layer.moving_mean.assign(means.mean(0))
        put_variance(layer, variances.mean(0) + means.var(0))
