"""Which causes the evidence speaks for: each suspect with its strength and its evidence in numbers.

A strength is a ratio of odds against the plain assumption that weights have moved away from their
statistics: what a hypothesis leaves of the distance between moving and population statistics, against what
it takes away. Facts that only one cause can make are certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from bnlab.doctor.chart import Chart
from bnlab.doctor.findings import Findings, distance_of
from bnlab.doctor.groups import homogeneous
from bnlab.doctor.harm import apart_of, better, harm
from bnlab.doctor.inputs import dummies, restored, shifted
from bnlab.doctor.mending import with_epsilon
from bnlab.doctor.parts import start
from bnlab.science.mixtures import fit

CERTAIN, MOST = 100.0, 30.0
EPSILONS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


class Suspect(NamedTuple):
    """A cause with what speaks for it, whether it alone makes a model sick, and the epsilon that training had."""

    name: str
    strength: float
    evidence: tuple[str, ...]
    harms: bool = False
    epsilon: float | None = None


def suspects(chart: Chart, found: Findings) -> list[Suspect]:
    """List all suspects, the strongest first."""
    looks = FACTS if found.not_finite else (*FACTS, *FITS)
    named = [own for look in looks for own in look(chart, found)]
    best: dict[str, Suspect] = {}
    for own in named:
        if own.name not in best or own.strength > best[own.name].strength:
            best[own.name] = own
    return sorted(best.values(), key=lambda own: -own.strength)


def epsilon_of(named: Sequence[Suspect]) -> float | None:
    """The epsilon that the evidence speaks for, if it does."""
    return next((own.epsilon for own in named if own.epsilon is not None and own.harms), None)


def _odds(explained: float) -> float:
    """Turn a share of squared distance that is explained into odds."""
    return float(np.clip(explained / max(1 - explained, 1 / MOST), 0, MOST))


def not_finite(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A NaN or infinity stays in an average for good."""
    if found.not_finite:
        yield Suspect(
            "not_finite",
            10 * CERTAIN,
            (f"moving statistics of {_some(found.not_finite)} are NaN or infinite",),
        )


def leaking(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Outputs that depend on the company of a sample come of batch statistics."""
    for leak in found.leaks:
        seen = [
            f"outputs of {leak.how} differ by {leak.differs:.2g} of their size when samples come in other company"
        ]
        seen += (
            [f"{leak.how} changes {len(leak.changed)} variables, such as {leak.changed[0]}"]
            if leak.changed
            else []
        )
        yield Suspect("batch_statistics_at_inference", 5 * CERTAIN, tuple(seen))


def at_start(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Statistics of exactly 0 and 1 never saw a batch, or were lost; who was trained with them is good with them."""
    layers = chart.subject.layers
    if not found.at_start:
        return
    said = f"{len(found.at_start)} of {len(layers)} layers hold mean 0 and variance 1, exactly"
    batch, moving = chart.with_batch(chart.train), chart.under(chart.train, chart.moving)
    if chart.scorer(chart.train).labelled and harm(batch, moving, chart.size).matters:
        better = f"RMSE {moving.rmse:.3g} with moving statistics, {batch.rmse:.3g} with those of the batch"
        yield Suspect("trained_with_phase_false", 3 * CERTAIN, (said, better))
    iterations = chart.facts.get("iterations")
    if len(found.at_start) < len(layers):
        yield Suspect("not_restored", 2 * CERTAIN, (said, "the others hold statistics of data"))
        yield Suspect("never_updated", CERTAIN / 2, (said,))
        return
    stepped = iterations is not None and iterations > 0
    note = (
        f"the file's optimizer has made {iterations} steps"
        if stepped
        else "the file has no optimizer that has made a step"
    )
    yield Suspect("never_updated", CERTAIN * (2 if stepped else 1), (said, note))
    yield Suspect("not_restored", CERTAIN * (1 if stepped else 2), (said, note))


def half_precision(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """An average in half precision stops short of its goal: steps below half a unit are lost."""
    if found.half:
        share = len(found.half) / len(chart.subject.layers)
        yield Suspect(
            "half_precision",
            3 * CERTAIN * share,
            (f"statistics of {_some(found.half)} are numbers of half precision",),
        )


def vanished(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A batch of one has no variance where a sample has one value per channel."""
    if found.vanished and len(found.vanished) > len(found.at_start):
        yield Suspect(
            "tiny_batch",
            CERTAIN,
            (f"variances of {_some(found.vanished)} have gone to 0, as with batches of one sample",),
        )


def not_arrived(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Statistics on the way from 0 and 1 to the population's, the same share of it in all layers."""
    mixture = fit(chart.moving, chart.fed, start(chart), chart.subject.epsilons)
    if len(found.at_start) == len(chart.subject.layers):
        return
    seen = [
        f"{mixture.share:.2g} of the start fits best in all layers, and explains {mixture.explained:.0%} of the distance from the population"
    ]
    strength = _odds(mixture.explained) * (mixture.share > 0.005)
    if (steps := chart.facts.get("iterations")) is not None and steps > 0:
        decay = float(np.median([layer.momentum for layer in chart.subject.named.values()]))
        held = decay**steps
        seen.append(f"{decay:g}^{steps} = {held:.2g} of it must be left, by the file's {steps} steps")
        strength *= 3 if abs(np.log((mixture.share + 1e-3) / (held + 1e-3))) < 0.5 else 0.5
    yield Suspect("not_arrived", strength, tuple(seen))


def dummy_pass(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A forward pass with phase true on something that is no data."""
    for name, other in dummies(chart).items():
        mixture = fit(chart.moving, chart.fed, other, chart.subject.epsilons)
        said = f"{mixture.share:.2g} of what a batch of {name} gives explains {mixture.explained:.0%} of the distance from the population"
        yield Suspect("dummy_pass", _odds(mixture.explained) * (mixture.share > 0.005), (said,))


def grouped(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Batches of one class or kind: an average of them lacks the variance between kinds, and leans to the last."""
    for group in homogeneous(chart):
        name = "two_sources" if group.by == "kind" else "unshuffled"
        last = (
            f"; the largest weight, {group.weights.max():.2g}, has {group.names[int(group.weights.argmax())]}"
        )
        said = f"an average over batches of one {group.by} each explains {group.explained:.0%} of the distance from the population{last}"
        yield Suspect(name, _odds(group.explained), (said,))


def calls_apart(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A shared layer keeps one average of several distributions."""
    if found.calls_apart > max(found.one_batch, 10 * found.noise):
        yield Suspect(
            "two_sources",
            CERTAIN / 2,
            (
                f"calls of a shared layer see populations {found.calls_apart:.2g} apart (one batch lies {found.one_batch:.2g} from them)",
            ),
        )


def foreign_inputs(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Test inputs that are further from the training data than a batch of it, and do worse for it."""
    if chart.test is None or found.test_distance < found.one_batch:
        return
    said = [
        f"layers see test samples {found.test_distance:.2g} from training samples, where a batch of them "
        f"lies {found.one_batch:.2g} off"
    ]
    lost = [better(chart, chart.test, chart.population, chart.of_test)]
    if chart.scorer(chart.test).labelled:
        test, train = (chart.under(split, chart.population) for split in (chart.test, chart.train))
        lost.append(apart_of(test, train))
    if any(own.matters for own in lost):
        yield Suspect("preprocessing", CERTAIN, (*said, *shifted(chart)), True)


def rescaled_inputs(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A file whose training inputs are not as they were in training: changed back, they fit the statistics."""
    if found.distance > found.one_batch and (best := restored(chart)) is not None:
        said = f"with {best.name} the training samples fit the moving statistics: {best.explained:.0%} of the distance goes"
        yield Suspect("preprocessing", 2 * _odds(best.explained), (said,))


def small_batches(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Weights that expect the statistics of very few samples do badly with any others."""
    if not chart.scorer(chart.train).labelled:
        return
    best = chart.under(chart.train, chart.population)
    for size in (1, 2):
        small = chart.with_batch(chart.train, size)
        lost = harm(best, small, size)
        if lost.matters:
            nearer = distance_of(chart, chart.average(chart.subject.moments(chart.x, size, stochastic=True)))
            said = (
                f"{lost.metric} is better by {lost.value:.3g} when batches of {size} are normalized by themselves than with "
                "population statistics",
                f"moving statistics lie {nearer:.2g} from those of such batches, {found.distance:.2g} from the population",
            )
            fits = nearer < found.distance
            yield Suspect("tiny_batch", min(MOST, 4 * lost.noticed) * (1 if fits else 0.05), said, fits)


def momentum(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """An average that forgets at once is one batch's statistics."""
    low = {key: layer.momentum for key, layer in chart.subject.named.items() if layer.momentum <= 0.5}
    if low:
        decay = min(low.values())
        said = f"momentum is {decay:g} in {len(low)} of {len(chart.subject.layers)} layers: an average of {(1 + decay) / (1 - decay):.2g} batches"
        like = f"moving statistics lie {found.distance:.2g} from the population, and such an average {found.noise:.2g}"
        fits = found.distance < 4 * found.noise
        yield Suspect("momentum_reversed", CERTAIN * (1 if fits else 0.1), (said, like))


def stochastic(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Dropout before a normalization: variances of training are not those of inference."""
    if chart.is_stochastic:
        off = distance_of(chart, chart.population)
        said = f"moving statistics lie {found.distance:.2g} from the population with dropout and augmentation layers on, {off:.2g} with them off"
        yield Suspect("dropout_shift", _odds(1 - found.distance / off) if off > 0 else 0.0, (said,))


def other_epsilon(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """The statistics that the model has, and as good a metric as any under another epsilon alone."""
    if not chart.scorer(chart.train).labelled:
        return
    now, right = (chart.under(chart.train, own) for own in (chart.moving, chart.population))
    for epsilon in EPSILONS:
        if all(np.isclose(own, epsilon) for own in chart.subject.epsilons.values()):
            continue
        moved = chart.under(chart.train, with_epsilon(chart, chart.moving, epsilon))
        gain = harm(now, moved)
        if gain.matters:
            said = f"{gain.metric} is better by {gain.value:.3g} with epsilon {epsilon:g} and the same statistics"
            mends = not harm(moved, right).matters
            yield Suspect(
                "epsilon", min(MOST, 4 * gain.noticed) * (2 if mends else 0.05), (said,), mends, epsilon
            )


def stale(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Statistics of other weights than these: nothing else explains them, and those of these weights differ."""
    times = found.distance / max(found.noise, 1e-12)
    said = f"moving statistics lie {found.distance:.2g} from the population, {times:.3g} times what sampling explains, and no other cause explains it"
    rising = found.log_variance > 0
    yield Suspect(
        "hot", 1.0 if not rising else 0.7, (said, f"mean log ratio of variances {found.log_variance:+.2g}")
    )
    yield Suspect(
        "weights_changed",
        1.0 if rising else 0.7,
        (said, f"mean log ratio of variances {found.log_variance:+.2g}"),
    )


Look: TypeAlias = Callable[[Chart, Findings], Iterator[Suspect]]
FACTS: tuple[Look, ...] = (
    not_finite,
    leaking,
    at_start,
    half_precision,
    vanished,
    calls_apart,
    foreign_inputs,
)
FITS: tuple[Look, ...] = (
    not_arrived,
    dummy_pass,
    grouped,
    rescaled_inputs,
    small_batches,
    momentum,
    stochastic,
    other_epsilon,
    stale,
)
"""Looks that compare finite moving statistics with others."""


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more layers" if len(names) > 3 else "")
