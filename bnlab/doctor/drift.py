"""How far weights that are still trained take the statistics away from an average's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bnlab.doctor.chart import Chart

# Optimizers that divide by the size of gradients: every weight moves by about the rate in each step.
_ADAPTIVE = (
    "adam",
    "adamw",
    "nadam",
    "adamax",
    "rmsprop",
    "lamb",
    "lion",
    "adafactor",
    "loss_scale_optimizer",
)
# A step of more than a tenth of a weight's size is none that a network learns by.
_MOST = 0.1


class Drift(NamedTuple):
    """An estimate, to an order of magnitude.

    Attributes:
        by: what weights move by in a step.
        distance: between the population at the weights of the end, and an average over weights before.
    """

    by: str
    distance: float


def drift(chart: Chart) -> Drift:
    """Estimate the distance that moving weights make, by a random walk over the memory of the average.

        d^2 = T / 2 (step / size of the weights)^2,   T = 1 / (1 - decay) steps

    The mean square distance of a random walk's end from its exponential average is decay / (1 + decay) T
    steps squared; an output's mean and deviation change by as much, relatively, as the weights that make it.
    Steps of adaptive optimizers are of the learning rate (Kingma & Ba, arXiv 1412.6980, section 2.1). Where
    there is no rate, they are taken for a tenth of the weights, which is more than a network learns by.
    """
    decay = float(np.median([layer.momentum for layer in chart.subject.named.values()]))
    steps = 1 / max(1 - decay, 1e-6)
    rate = chart.facts.get("learning_rate")
    if rate is None or str(chart.facts.get("optimizer")).lower() not in _ADAPTIVE:
        return Drift("at most a tenth of their size in a step", steps / 2 * _MOST**2)
    shares = [rate / size for size in _sizes(chart)]
    return Drift(f"the learning rate, {rate:.2g}, in a step", steps / 2 * float(np.mean(np.square(shares))))


def _sizes(chart: Chart) -> list[float]:
    """Root mean square of each kernel."""
    kernels = [
        np.asarray(weight) for weight in chart.subject.model.trainable_weights if len(weight.shape) > 1
    ]
    return [max(float(np.sqrt(np.mean(np.square(kernel)))), 1e-6) for kernel in kernels] or [1.0]
