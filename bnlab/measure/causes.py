"""A gap split into its causes, along the chain of statistics, with the error of each part."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnlab.data.order import shuffled
from bnlab.measure.patient import Patient
from bnlab.measure.splits import Split
from bnlab.records import Clue
from bnlab.science.decomposition import Parts, decompose
from bnlab.science.gap import METRICS
from bnlab.science.scores import Scores

# Images on which it is seen how much the estimated statistics' own noise moves a metric.
_IMAGES = 512


def causes(patient: Patient, split: Split) -> Iterator[Clue]:
    """Split the gap at every decay into its causes.

    A part's standard error joins that of the images (paired, as a gap's) with that of the statistics that
    were estimated from a sample: parts of it, four of them, are estimated each by itself.
    """
    estimated = _sampling_errors(patient, split)
    for decay, deployment in patient.deployments.items():
        # Without an average the lag reaches to the mean moments, which are estimated.
        lag = {"lag": estimated.get("noise", {}), "noise": {}} if deployment.debiased is None else {}
        noise = estimated | lag
        for cause, part in _parts(patient, split, decay).items():
            for metric, (value, error) in part.items():
                own = np.hypot(error, noise.get(cause, {}).get(metric, 0.0))
                yield patient.clue(split, decay, "cause", cause, metric, value, own)


def _parts(patient: Patient, split: Split, decay: float) -> Parts:
    deployment = patient.deployments[decay]
    populations = patient.populations
    # Statistics that never saw a batch have no average to speak of: all until the mean moments is lag.
    links = {
        "lag": deployment.moving,
        "noise": populations.means if deployment.debiased is None else deployment.debiased,
        "bias": populations.means,
        "shift": populations.training,
        "batch": patient.population_of(split),
    }
    chain = dict(zip(links, patient.under(split, list(links.values())), strict=True))
    if deployment.outputs is not None:
        chain = {"deployment": patient.deployed(split, deployment), **chain}
    return decompose(chain, patient.in_batches(split), patient.size)


def _sampling_errors(patient: Patient, split: Split) -> dict[str, dict[str, float]]:
    """Estimate how much each part owes to the sample that statistics were estimated from: cause -> metric.

    Of k disjoint parts of the sample each gives the metric once; the whole sample's error is their standard
    deviation over the root of k. Neighbouring links are estimated from the same images, so their errors
    are taken together.
    """
    some = _some(split)
    populations = patient.populations
    trained = patient.is_fed(split)
    sets = {"means": populations.means_of_parts, "training": populations.training_of_parts}
    if not trained:
        sets["split"] = populations.of_parts(split.name, patient.pixels(split))
    scored = {name: patient.under(some, own) for name, own in sets.items() if own}
    if not trained and "split" not in scored:
        return {}
    last = scored["training" if trained else "split"]
    pairs = {
        "noise": [scored["means"]],
        "bias": [scored["means"], scored["training"]],
        "shift": [scored["training"], last],
        "batch": [last],
    }
    return {cause: {metric: _error(metric, *own) for metric in METRICS} for cause, own in pairs.items()}


def _error(metric: str, one: list[Scores], other: list[Scores] | None = None) -> float:
    values = np.array([getattr(scores, metric) for scores in one])
    if other is not None:
        values = values - np.array([getattr(scores, metric) for scores in other])
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _some(split: Split) -> Split:
    chosen = shuffled(np.arange(len(split.x)))[:_IMAGES]
    return Split(f"{split.name} sample", split.x[chosen], split.y[chosen], split.constant_rmse)
