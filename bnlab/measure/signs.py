"""What the statistics of a model show: the signature by which a cause is told from another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnlab.checkpoint import skipped_steps
from bnlab.data.order import shuffled
from bnlab.measure.deployments import Deployment
from bnlab.measure.patient import Patient
from bnlab.measure.splits import Split
from bnlab.measure.trained import Layers, Trained
from bnlab.records import Clue
from bnlab.science.moments import Distance, Moments, distance
from bnlab.science.probe import normalization_layers
from bnlab.science.replicas import spread
from bnlab.science.synchronized import cancelled
from bnlab.science.tape import START_MEAN, START_VARIANCE

_SEED = 20_203


def distances(patient: Patient, split: Split) -> Iterator[Clue]:
    """Measure how far each layer's moving statistics lie from the population's of the training data."""
    for decay, deployment in patient.deployments.items():
        for layer, own in apart(patient, deployment.moving, patient.populations.training).items():
            for metric, value in own._asdict().items():
                yield patient.clue(split, decay, "distance", layer, metric, value)


def signs(patient: Patient, split: Split) -> Iterator[Clue]:
    """Gather the signs of a model at every decay.

    at_start          share of channels whose statistics are mean 0 and variance 1, exactly
    not_finite        share of channels with a NaN or infinite mean or variance
    start_share       share of the start in the statistics, the rest being the population's: least squares
    mean_shift, log_variance, kl  as of `Distance`, from the training data's population, means over layers
    spread_of_means   variance of batch means in the order of training, over that of shuffled batches
    updates_per_step  of the first layer, over the whole run
    batch_dependence  root mean square of what outputs change when half of the images come, in another order;
                      NaN for a sampled latent, whose noise belongs to a place in the order
    replicas_apart    mean squared distance of the replicas' statistics from their merge; of several only
    cancelled         share of variance + epsilon that Keras's own synchronized layers might be off by, in the
                      worst channel of the populations; of several replicas only
    skipped_steps     of a trial in float16 only, whose gradients overflowed there
    test_shift        kl of the evaluated images' population from the training data's, mean over layers
    """
    common = _of_the_data(patient, split)
    for decay, deployment in patient.deployments.items():
        own = {**_of_statistics(patient, deployment.moving), **common, **_of_replicas(patient, decay)}
        own["batch_dependence"] = _batch_dependence(patient, split, deployment)
        for name, value in own.items():
            yield patient.clue(split, decay, "sign", name, "", value)


def apart(patient: Patient, statistics: Layers, reference: Layers) -> dict[str, Distance]:
    """Measure how far statistics lie from a reference, layer by layer."""
    epsilons = {layer.name: layer.epsilon for layer in normalization_layers(patient.trained.model)}
    return {layer: distance(statistics[layer], reference[layer], epsilons[layer]) for layer in patient.layers}


def _of_statistics(patient: Patient, moving: Layers) -> dict[str, float]:
    mean, variance = _joined(moving)
    held = _joined(patient.populations.training)
    start = (mean.astype(np.float32) == START_MEAN) & (variance.astype(np.float32) == START_VARIANCE)
    layers = apart(patient, moving, patient.populations.training).values()
    return {
        "at_start": float(start.mean()),
        "not_finite": float((~np.isfinite(mean) | ~np.isfinite(variance)).mean()),
        "start_share": start_share_of(Moments(mean, variance), held),
        **{name: float(np.mean([getattr(own, name) for own in layers])) for name in _DISTANCES},
    }


_DISTANCES = ("mean_shift", "log_variance", "kl")


def start_share_of(statistics: Moments, population: Moments) -> float:
    """Fit the share of the start in statistics: s = (1 - a) population + a start, by least squares.

    Means count in population deviations, variances in population variances. NaN where statistics are not
    finite, and where start and population are one.

    >>> half = Moments(np.array([2.0]), np.array([5.0]))
    >>> start_share_of(half, Moments(np.array([4.0]), np.array([9.0])))
    0.5
    """
    variance = np.maximum(population.variance, np.finfo(np.float32).tiny)
    root = np.sqrt(variance)
    seen = np.concatenate(
        [(statistics.mean - population.mean) / root, (statistics.variance - population.variance) / variance]
    )
    whole = np.concatenate(
        [(START_MEAN - population.mean) / root, (START_VARIANCE - population.variance) / variance]
    )
    # A channel that is always zero has no scale to measure by.
    known = np.tile(population.variance > 1e-12, 2)
    with np.errstate(invalid="ignore"):
        return float((seen[known] @ whole[known]) / (whole[known] @ whole[known]))


def _of_replicas(patient: Patient, decay: float) -> dict[str, float]:
    averages = patient.trained.averages
    if averages.replicas == 1:
        return {}
    epsilons = {layer.name: layer.epsilon for layer in normalization_layers(patient.trained.model)}
    held = patient.populations.training
    return {
        "replicas_apart": spread(averages.each(decay), epsilons),
        "cancelled": float(max(cancelled(held[key], epsilons[key]).max() for key in held)),
    }


def _of_the_data(patient: Patient, split: Split) -> dict[str, float]:
    populations, trained = patient.populations, patient.trained
    other = apart(patient, populations.training, patient.population_of(split)).values()
    updates = list(trained.averages.updates.values())
    return {
        "spread_of_means": _spread_of_means(patient),
        "updates_per_step": updates[0] / trained.step,
        "test_shift": float(np.mean([own.kl for own in other])),
        **_of_float16(trained),
    }


def _of_float16(trained: Trained) -> dict[str, float]:
    trial = trained.trial
    half = trial.precision == "mixed_float16"
    return {"skipped_steps": skipped_steps(trained.folder, trial.optimizer)} if half else {}


def _spread_of_means(patient: Patient) -> float:
    """Compare the variance of batch means with that of the same images in a random order, by channel."""
    populations, size = patient.populations, patient.trained.batch_size
    order = np.random.default_rng(_SEED).permutation(len(populations.fed))
    mixed = populations.moments_of(populations.fed[order], size)
    ratios = [
        populations.batches[layer].mean.var(axis=0) / np.maximum(mixed[layer].mean.var(axis=0), 1e-20)
        for layer in patient.layers
    ]
    return float(np.median(np.concatenate(ratios)))


def _batch_dependence(patient: Patient, split: Split, deployment: Deployment) -> float:
    if isinstance(patient.trained.model.input, list):
        return float("nan")
    some = patient.pixels(split)[: 4 * patient.size]
    given = deployment.outputs or (
        lambda pixels: next(deployment.evaluator.with_fixed(pixels, [deployment.moving]))
    )
    # Neither the opposite order, which leaves whole batches together, nor all images, which may be one batch.
    other = shuffled(np.arange(len(some)))[: max(1, len(some) // 2)]
    return float(np.sqrt(np.mean((given(some)[other] - given(some[other])) ** 2)))


def _joined(layers: Layers) -> Moments:
    means, variances = zip(*layers.values(), strict=True)
    return Moments(np.concatenate(means), np.concatenate(variances))
