"""How good outputs are: RMSE, accuracy, loss - kept per image, so that phases can be paired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BLOCK = 1024


@dataclass(frozen=True)
class Scores:
    """One number per image and metric; their means (and one root) are the metrics.

    Attributes:
        squared: (images,) mean over outputs of the squared error.
        correct: (images,) 1.0 where the largest output is the label, else 0.0; NaN for regressors.
        losses: (images,) the cross-entropy of each image; of regressors, its mean squared error.
    """

    squared: np.ndarray
    correct: np.ndarray
    losses: np.ndarray

    @property
    def rmse(self) -> float:
        """Root of the mean squared error over all images and outputs: sqrt(mean_i mean_k (p_ik - t_ik)^2).

        One root over everything. The mean of per-batch RMSEs is another, smaller number: roots are
        concave (Jensen), and at batch 2 it is about half.
        """
        return float(np.sqrt(self.squared.mean()))

    @property
    def accuracy(self) -> float:
        """Share of images whose largest output is their label, in [0, 1]; NaN for regressors."""
        return float(self.correct.mean())

    @property
    def loss(self) -> float:
        """Mean of the losses."""
        return float(self.losses.mean())


def classifier_scores(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Score a classifier: predicted probabilities against one-hot targets, cross-entropy as loss.

    Args:
        logits: (images, classes), before the softmax.
        labels: (images,) integers in [0, classes).

    >>> sure = classifier_scores(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
    >>> sure.rmse, round(sure.loss, 4)
    (0.5, 0.6931)
    """
    logits = np.asarray(logits, np.float64)
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    targets = np.eye(logits.shape[1])[labels]
    squared = ((np.exp(log_p) - targets) ** 2).mean(axis=1)
    correct = (logits.argmax(axis=1) == labels).astype(np.float64)
    return Scores(squared, correct, -log_p[np.arange(len(labels)), labels])


def regressor_scores(outputs: np.ndarray, targets: np.ndarray, unit: float = 1.0) -> Scores:
    """Score a regressor: mean squared error per image, which stands for the loss too.

    Args:
        outputs: (images, ...).
        targets: of the same shape, in units of 1 / `unit`: 255 for pixels as bytes.

    >>> regressor_scores(np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]])).rmse
    1.4142135623730951
    """
    parts = [_squared(outputs[part], targets[part], unit) for part in _blocks(len(outputs))]
    squared = np.concatenate(parts)
    return Scores(squared, np.full(len(squared), np.nan), squared)


def constant_rmse(targets: np.ndarray, unit: float = 1.0) -> float:
    """Compute the RMSE of the constant that fits targets best, their mean: sqrt(mean_k var_i(t_ik)).

    A model that does no better knows nothing of its images.

    Args:
        targets: (images, ...), in units of 1 / `unit`.

    >>> constant_rmse(np.array([[1.0, 5.0], [3.0, 5.0]]))
    0.7071067811865476
    """
    mean = targets.mean(axis=0, dtype=np.float64) / unit
    squared = [_squared(mean[None], targets[part], unit) for part in _blocks(len(targets))]
    return float(np.sqrt(np.concatenate(squared).mean()))


def _blocks(count: int) -> list[slice]:
    """Cut images into blocks, so that float64 copies of pixels stay small."""
    return [slice(first, first + _BLOCK) for first in range(0, count, _BLOCK)]


def _squared(outputs: np.ndarray, targets: np.ndarray, unit: float) -> np.ndarray:
    error = np.asarray(outputs, np.float64) - np.asarray(targets, np.float64) / unit
    return (error**2).reshape(len(error), -1).mean(axis=1)
