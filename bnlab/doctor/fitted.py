"""Suspects by fit: hypotheses of what moving statistics are, compared with what they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnlab.doctor.chart import Chart
from bnlab.doctor.drift import drift
from bnlab.doctor.findings import Findings, distance_of
from bnlab.doctor.groups import homogeneous
from bnlab.doctor.harm import harm, has_learned, is_better_in_all
from bnlab.doctor.inputs import changed, dummies, in_turn, other_sources, restored
from bnlab.doctor.mending import with_epsilon
from bnlab.doctor.parts import as_held, explains, held, start
from bnlab.doctor.suspect import FACT, MOST, NEARER, PLAIN, Suspect
from bnlab.science.mixtures import fit, mixed

EPSILONS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# A smaller share of something else does not open a gap that matters.
_LEAST = 0.005
# Weights that are about equal are at most as many times their mean.
_EVEN = 1.3
# A distance below so many times that of sampling is none.
_SAMPLED = 2.0
# Shares are fitted in steps of this size.
_GRID = 0.02
# An average that keeps no more than this is one of a few batches.
_FORGETFUL = 0.5


def not_arrived(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Statistics on the way from 0 and 1 to the population's, the same share of it in all layers."""
    if len(found.at_start) == len(chart.subject.layers):
        return
    share, explained = fit(chart.moving, chart.fed, start(chart), chart.subject.epsilons)
    said = [f"{share:.2g} of the start, in all layers, explains {explained:.0%} of the distance"]
    strength = found.odds(explained) * (share > _LEAST)
    if (left := held(chart)) is not None:
        # A file that was trained in several runs counts the steps of the last.
        told, most = explains(chart, as_held(chart, left)), max(left.values())
        slowest = max(layer.momentum for layer in chart.subject.named.values())
        steps = f"{slowest:g}^{chart.facts['iterations']}"
        said.append(f"{steps} = {most:.2g} of it must be left, which explains {told:.0%}")
        # More of it than that can only be left where steps did not update.
        fitted = strength * (0.1 if share > 2 * most else 0.5)
        sure = 4 if told > 1 - NEARER / 2 else 1
        strength = max(fitted, sure * found.odds(told) * (most > _LEAST))
    yield Suspect("not_arrived", strength, tuple(said))


def dummy_pass(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A forward pass with phase true on something that is no data."""
    for name, other in dummies(chart).items():
        share, explained = fit(chart.moving, chart.fed, other, chart.subject.epsilons)
        said = f"{share:.2g} of what a batch of {name} gives explains {explained:.0%} of the distance"
        half = _is_half(chart, share)
        yield Suspect("dummy_pass", found.odds(explained) * (share > _LEAST) * (0.3 if half else 1), (said,))


def two_sources(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Batches of two kinds in turn: an average has half of each."""
    for name, other in other_sources(chart).items():
        share, explained = fit(chart.moving, chart.fed, other, chart.subject.epsilons)
        if _is_half(chart, share):
            said = f"{share:.2g} of what a batch of {name} gives explains {explained:.0%} of the distance"
            yield Suspect(
                "two_sources",
                found.odds(explained),
                (said, "an average over two kinds in turn has half of each"),
            )


def _is_half(chart: Chart, share: float) -> bool:
    """Say whether a share is that of every other batch, decay / (1 + decay) to 1 / (1 + decay)."""
    decay = min(layer.momentum for layer in chart.subject.named.values())
    return decay / (1 + decay) - _GRID <= share <= 1 / (1 + decay) + _GRID


def grouped(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Batches of one kind each: their average lacks the variance between kinds, and leans to the last."""
    for group in homogeneous(chart):
        said = (
            f"an average over batches of one {group.by} each explains {group.explained:.0%} of the distance"
        )
        most = int(group.weights.argmax())
        last = f"the largest weight, {group.weights[most]:.2g}, has {group.by} {group.names[most]}"
        # Of a sorted file an average remembers the end; of two sources in turn, both.
        in_turn = group.weights[most] < _EVEN / len(group.weights)
        name = "two_sources" if group.by == "kind" or in_turn else "unshuffled"
        yield Suspect(name, found.odds(group.explained), (said, last))


def rescaled_inputs(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A file whose inputs are not as they were in training: changed back, they fit the statistics."""
    if (
        found.distance <= found.one_batch
        or (best := restored(chart, chart.x, chart.fed, chart.moving)) is None
    ):
        return
    said = [f"with {best.name}, training samples fit: {best.explained:.0%} of the distance goes"]
    strength, harms = found.odds(best.explained) * (best.explained > 1 - NEARER / 2), False
    if chart.scorer(chart.train).labelled and best.explained > 0.5:
        gain = changed(chart, chart.train, best, chart.moving)
        if gain.matters:
            said.append(f"{gain.metric} is better by {gain.value:.3g} with them")
            strength, harms = 2 * strength, best.explained > 1 - NEARER
    yield Suspect("preprocessing", strength, tuple(said), harms)
    yield from _changed_in_turn(chart, found, 1 - best.explained)


def _changed_in_turn(chart: Chart, found: Findings, left: float) -> Iterator[Suspect]:
    """Every other batch of inputs that are changed, where that leaves less than half of a change of all."""
    if (other := in_turn(chart)) is not None:
        name, seen = other
        explained = explains(chart, mixed(chart.fed, seen, 0.5))
        if 1 - explained < left / 2:
            said = f"half of what {name} give explains {explained:.0%} of the distance"
            yield Suspect("two_sources", found.odds(explained), (said,))


def small_batches(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Weights that expect the statistics of very few samples do badly with any others."""
    if not has_learned(chart):
        return
    fixed = [chart.under(chart.train, own) for own in (chart.population, chart.moving)]
    for size in (1, 2):
        few = chart.with_batch(chart.train, size)
        lost, also = (harm(own, few, size) for own in fixed)
        if lost.matters and also.matters:
            seen = chart.subject.moments(chart.x, size, stochastic=True)
            nearer = distance_of(chart, chart.average(seen))
            said = (
                f"{lost.metric} is better by {lost.value:.3g} with statistics of {size} samples at a time",
                f"moving statistics lie {nearer:.2g} from those, {found.distance:.2g} from the population",
            )
            fits = nearer < 0.8 * found.distance
            yield Suspect("tiny_batch", min(MOST, 8 * lost.noticed) * (1 if fits else 0.05), said, fits)


def forgetful(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """An average that forgets at once is one batch's statistics."""
    low = [layer.momentum for layer in chart.subject.named.values() if layer.momentum <= _FORGETFUL]
    if low:
        decay = min(low)
        said = (
            f"momentum is {decay:g} in {len(low)} of {len(chart.subject.layers)} layers: an average of "
            f"{(1 + decay) / (1 - decay):.2g} batches",
            f"such an average lies {found.noise:.2g} from the population, this one {found.distance:.2g}",
        )
        fits = found.distance < 4 * found.noise
        yield Suspect("momentum_reversed", FACT * (1 if fits else 0.1), said)


def stochastic(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Dropout before a normalization: variances of training are not those of inference."""
    if chart.is_stochastic and (off := distance_of(chart, chart.population)) > 0:
        said = (
            f"with dropout and augmentation layers on, moving statistics lie {found.distance:.2g} from the "
            f"population; with them off, {off:.2g}"
        )
        yield Suspect("dropout_shift", found.odds(1 - found.distance / off), (said,))


def other_epsilon(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """As good a metric as any under another epsilon alone, and statistics that were made with it."""
    if not chart.scorer(chart.train).labelled:
        return
    now, right = (chart.under(chart.train, own) for own in (chart.moving, chart.population))
    tried = {}
    for epsilon in EPSILONS:
        if not all(np.isclose(own, epsilon) for own in chart.subject.epsilons.values()):
            other = with_epsilon(chart, chart.moving, epsilon)
            moved = chart.under(chart.train, other)
            tried[epsilon] = other, harm(now, moved), harm(moved, right), is_better_in_all(moved, now)
    epsilon, (other, gain, left, agreed) = max(tried.items(), key=lambda own: own[1][1].noticed)
    # Of labels that tell nothing, whatever makes outputs smaller is "better".
    if gain.matters and has_learned(chart, other):
        said = f"{gain.metric} is better by {gain.value:.3g} with epsilon {epsilon:g} and the same statistics"
        explained = _made_with(chart, found, epsilon)
        than = f"layers that add it see what explains {explained:.0%} of the distance"
        near = explained > 1 - NEARER if found.distance > found.one_batch else not left.matters
        fits = agreed and near
        strength = 2 * min(MOST, 8 * gain.noticed) * (1 if fits else 0.002)
        yield Suspect("epsilon", strength, (said, than), fits, epsilon)


def _made_with(chart: Chart, found: Findings, epsilon: float) -> float:
    """Say how much nearer moving statistics are to the mean moments of batches under another epsilon."""
    with chart.subject.of_epsilon(epsilon):
        seen = chart.subject.moments(chart.x, chart.size, stochastic=True)
    return 1 - distance_of(chart, chart.average(seen)) / max(found.distance, 1e-12)


def stale(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Statistics of other weights than these: nothing else explains them.

    Weights that still moved when training ended have been near these for as long as the average remembers;
    weights that were averaged or changed since may be anywhere.
    """
    times = found.distance / max(found.noise, 1e-12)
    if times < _SAMPLED:
        return
    moved = drift(chart)
    far = found.distance / max(moved.distance, 1e-12)
    said = (
        f"moving statistics lie {found.distance:.2g} from the population, {times:.3g} times what sampling "
        "explains"
    )
    than = f"that is {far:.2g} times what weights make that move by {moved.by}"
    yield Suspect("hot", PLAIN / (1 + far), (said, than))
    yield Suspect("weights_changed", PLAIN * far / (1 + far), (said, than))


FITS = (
    not_arrived,
    dummy_pass,
    two_sources,
    grouped,
    rescaled_inputs,
    small_batches,
    forgetful,
    stochastic,
    other_epsilon,
    stale,
)
"""All looks that compare finite moving statistics with others."""
