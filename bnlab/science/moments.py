"""Moments of many batches: merged into those of all their samples, or averaged as a moving average does.

Batches have a mean and a variance each. The variance of all samples is the mean of the variances *plus* the
variance of the means; an average of batch variances alone falls short of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Mean and variance (divisor N) of each channel: (channels,), or one row per batch."""

    mean: np.ndarray
    variance: np.ndarray


def merged(batches: Moments, counts: Sequence[int] | None = None) -> Moments:
    """Merge moments of batches into those of all samples: var = E[var_B] + Var[mean_B].

    In this order nothing cancels (Chan, Golub & LeVeque, The American Statistician 1983), as it does in
    E[mean_B^2 + var_B] - E[mean_B]^2 of Wu & Johnson, arXiv 2105.07576, algorithm 1.

    Args:
        batches: (batches, channels) each.
        counts: (batches,) how large each is; without them all are equal.

    Returns:
        float64 of shape (channels,).

    >>> one = merged(Moments(np.array([[0.0], [4.0]]), np.array([[1.0], [1.0]])))
    >>> float(one.mean[0]), float(one.variance[0])
    (2.0, 5.0)
    """
    mean, variance = (np.asarray(part, np.float64) for part in batches)
    center = np.average(mean, axis=0, weights=counts)
    return Moments(center, np.average(variance + (mean - center) ** 2, axis=0, weights=counts))


def averaged(batches: Moments, epsilon: float | None = None) -> Moments:
    """Average the moments of batches: what a moving average comes to when the weights rest.

    Args:
        batches: (batches, channels) each.
        epsilon: of batch renormalization, which averages sqrt(variance + epsilon) (Ioffe, arXiv 1702.03275,
            algorithm 1); None averages the variance.

    Returns:
        float64 of shape (channels,). The variance lies below that of `merged` by the variance of the means.

    >>> one = averaged(Moments(np.array([[0.0], [4.0]]), np.array([[1.0], [1.0]])))
    >>> float(one.mean[0]), float(one.variance[0])
    (2.0, 1.0)
    """
    mean, variance = (np.asarray(part, np.float64) for part in batches)
    if epsilon is None:
        return Moments(mean.mean(axis=0), variance.mean(axis=0))
    deviation = np.sqrt(variance + epsilon).mean(axis=0)
    return Moments(mean.mean(axis=0), np.maximum(deviation**2 - epsilon, 0.0))


class Distance(NamedTuple):
    """How far one layer's statistics lie from a reference, over its channels.

    Attributes:
        mean_shift: root mean square of (mean - reference mean), in reference standard deviations.
        log_variance: mean of log(variance / reference variance): below 0 where variances are too small.
        kl: mean over channels of the divergence between the two Gaussians, KL(reference || statistics), in
            nats: 0 where they agree.
        worst_kl, worst_channel: of the channel that is worst off, and which that is (from 0).
    """

    mean_shift: float
    log_variance: float
    kl: float
    worst_kl: float
    worst_channel: int


def distance(statistics: Moments, reference: Moments, epsilon: float) -> Distance:
    """Measure how far statistics lie from a reference: KL = (log(v/r) + (r + (m - m_r)^2)/v - 1) / 2.

    Args:
        statistics: (channels,) each, such as moving ones.
        reference: (channels,) each, such as the population's.
        epsilon: the layer's, added to both variances: differences below it do not show in outputs either.

    >>> same = Moments(np.zeros(2), np.ones(2))
    >>> distance(Moments(np.array([0.0, 1.0]), np.ones(2)), same, 0.0)
    Distance(mean_shift=0.7071067811865476, log_variance=0.0, kl=0.25, worst_kl=0.5, worst_channel=1)
    """
    variance = np.asarray(statistics.variance, np.float64) + epsilon
    true = np.asarray(reference.variance, np.float64) + epsilon
    with np.errstate(invalid="ignore", over="ignore"):  # statistics may be infinite: then the distance is
        shift = np.asarray(statistics.mean, np.float64) - reference.mean
        logs = np.log(variance / true)
        kl = (logs + (true + shift**2) / variance - 1) / 2
        root = float(np.sqrt(np.mean(shift**2 / true)))
    worst = int(np.argmax(np.where(np.isnan(kl), np.inf, kl)))
    return Distance(root, float(logs.mean()), float(kl.mean()), float(kl[worst]), worst)
