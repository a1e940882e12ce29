"""What a network is to do: its inputs, its targets, the loss that it is trained by, how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from bnlab.data import DATASETS
from bnlab.models.sequence import LATENT
from bnlab.records import Trial
from bnlab.science.scores import Scores, classifier_scores, constant_rmse, regressor_scores

Tensor: TypeAlias = Any


@dataclass(frozen=True)
class Goal:
    """What a network's outputs are compared with, and how.

    Attributes:
        loss: (outputs, pixels in [0, 1], labels) -> scalar, of one batch.
        scores: (outputs, images as uint8, labels) -> one number per image and metric.
        constant: (trial, images as uint8, labels) -> RMSE of the constant that fits them best: what knowing
            nothing of an image gets.
    """

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    scores: Callable[[np.ndarray, np.ndarray, np.ndarray], Scores]
    constant: Callable[[Trial, np.ndarray, np.ndarray], float]


def _cross_entropy(logits: Tensor, _: Tensor, labels: Tensor) -> Tensor:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def _rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(outputs - targets)))


_CLASSES = Goal(
    loss=_cross_entropy,
    scores=lambda logits, _, labels: classifier_scores(logits, labels),
    constant=lambda trial, _, labels: constant_rmse(np.eye(DATASETS[trial.data].classes)[labels]),
)
_PIXELS = Goal(
    loss=lambda outputs, pixels, _: _rmse(outputs, pixels),
    scores=lambda outputs, images, _: regressor_scores(outputs, images, unit=255),
    constant=lambda trial, images, _: constant_rmse(images, unit=255),
)
_VALUES = Goal(
    loss=lambda outputs, _, values: _rmse(outputs, values),
    scores=lambda outputs, _, values: regressor_scores(outputs, values),
    constant=lambda trial, _, values: constant_rmse(values),
)
# The model that a trial names decides.
GOALS: Mapping[str, Goal] = {
    "convnet": _CLASSES,
    "convnet_5x5": _CLASSES,
    "resnet20": _CLASSES,
    "autoencoder": _PIXELS,
    "sequence": _VALUES,
}


def network_inputs(trial: Trial, pixels: Tensor, draw: Tensor) -> Any:  # noqa: ANN401
    """Make what a network takes: pixels, and for a sampled latent standard normal noise.

    Args:
        trial: names the network.
        pixels: in [0, 1].
        draw: a number; equal draws give equal noise, so that both phases can have the same.
    """
    if trial.model != "sequence":
        return pixels
    shape = (*pixels.shape[:2], LATENT)
    return [pixels, tf.random.stateless_normal(shape, seed=tf.stack([trial.seed, tf.cast(draw, tf.int32)]))]
