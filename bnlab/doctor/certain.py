"""Suspects by fact: what only one cause, or hardly any other, can make of a model."""

from __future__ import annotations

from collections.abc import Iterator

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.findings import Findings, distance_of
from bnlab.doctor.harm import better, harm, has_learned, is_worse_on_others
from bnlab.doctor.inputs import changed, restored, shifted
from bnlab.doctor.suspect import FACT, NEARER, Suspect, some


def weights_not_finite(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Training that diverged leaves nothing to examine: statistics go with the weights."""
    if found.broken:
        said = f"{len(found.broken)} of {len(chart.subject.model.weights)} weights are NaN or infinite: "
        yield Suspect("weights_not_finite", 100 * FACT, (said + some(found.broken),))


def not_finite(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A NaN or infinity stays in an average for good."""
    if found.not_finite:
        said = f"moving statistics of {some(found.not_finite)} are NaN or infinite"
        yield Suspect("not_finite", 10 * FACT, (said,))


def negative(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """No variance is below 0: what is kept there is something else, such as the mean."""
    if found.negative:
        said = f"moving variances of {some(found.negative)} are below 0"
        yield Suspect("miscopied", 5 * FACT, (said,))


def leaking(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Outputs that depend on the company of a sample come of batch statistics."""
    for leak in found.leaks:
        said = [f"outputs of {leak.how} change by {leak.differs:.2g} of their size in other company"]
        if leak.changed:
            said.append(f"{leak.how} changes {len(leak.changed)} variables, such as {leak.changed[0]}")
        yield Suspect("batch_statistics_at_inference", 5 * FACT, tuple(said))


def at_start(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Statistics of exactly 0 and 1 never saw a batch, or were lost, or were lived with in training."""
    if not found.at_start:
        return
    layers = chart.subject.layers
    said = f"{len(found.at_start)} of {len(layers)} layers hold mean 0 and variance 1, exactly"
    yield from _lived_with(chart, said)
    if len(found.at_start) < len(layers):
        yield Suspect("not_restored", 8 * FACT, (said, "the others hold statistics of data"))
        yield Suspect("never_updated", 2 * FACT, (said,))
        return
    steps = chart.facts.get("iterations") or 0
    note = (
        f"the optimizer has made {steps:,} steps" if steps else "no optimizer that has made a step is there"
    )
    yield Suspect("never_updated", FACT * (8 if steps else 4), (said, note))
    yield Suspect("not_restored", FACT * (4 if steps else 8), (said, note))


def _lived_with(chart: Chart, said: str) -> Iterator[Suspect]:
    """Weights that do better with the start than with their batches' statistics were trained with it."""
    if not has_learned(chart):
        return
    moving = chart.under(chart.train, chart.moving)
    others = {
        "batch": chart.with_batch(chart.train),
        "population": chart.under(chart.train, chart.population),
    }
    worse = [name for name, own in others.items() if harm(own, moving, chart.size).matters]
    if worse:
        other = f"{others[worse[0]].rmse:.3g} with {worse[0]} statistics"
        compared = f"RMSE is {moving.rmse:.3g} with moving statistics, {other}"
        yield Suspect("trained_with_phase_false", 40 * FACT, (said, compared))


def half_precision(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """An average in half precision stops short of its goal: steps below half a unit are lost."""
    if found.half:
        share = len(found.half) / len(chart.subject.layers)
        said = f"statistics of {some(found.half)} are numbers of half precision"
        yield Suspect("half_precision", 3 * FACT * share, (said,))


def vanished(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A batch of one has no variance where a sample has one value per channel."""
    if not found.vanished:
        return
    single = chart.average(chart.subject.moments(chart.x, 1, stochastic=True))
    nearer = distance_of(chart, single) / found.distance
    if nearer < NEARER:
        said = f"variances of {some(found.vanished)} have gone to 0, as with batches of one sample"
        than = f"statistics of single samples explain {1 - nearer:.0%} of the distance"
        yield Suspect("tiny_batch", FACT, (said, than))


def calls_apart(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """A shared layer keeps one average of several distributions."""
    if found.calls_apart > max(found.one_batch, 10 * found.noise):
        said = f"calls of a shared layer see populations {found.calls_apart:.2g} apart"
        than = f"a batch lies {found.one_batch:.2g} from its population"
        yield Suspect("two_sources", FACT / 2, (said, than))


def foreign_inputs(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Test inputs further off than two batches lie apart, that do better once that is taken away."""
    if chart.test is None or not found.test_distance > 2 * found.one_batch:
        return
    said = f"layers see test samples {found.test_distance:.2g} from training samples"
    than = f"two batches of training samples lie {2 * found.one_batch:.2g} apart"
    if _is_worse(chart, chart.test) and (gains := tuple(_better_inputs(chart, chart.test))):
        # What is wrong on training samples too is not the test inputs' doing.
        elsewhere = better(chart, chart.train, chart.moving, chart.population).matters
        strength = FACT / 10 if elsewhere else FACT
        yield Suspect("preprocessing", strength, (said, than, *shifted(chart), *gains), harms=True)


def _is_worse(chart: Chart, test: Split) -> bool:
    """Say whether test samples fare worse than the training data's; without labels nobody can tell."""
    if not chart.scorer(test).labelled:
        return True
    return is_worse_on_others(*(chart.under(split, chart.population) for split in (test, chart.train)))


def _better_inputs(chart: Chart, test: Split) -> Iterator[str]:
    """Say what takes a shift of test inputs away: their own statistics, or a change of them."""
    own = better(chart, test, chart.population, chart.of_test)
    if own.matters:
        yield f"{own.metric} is better by {own.value:.3g} with the test samples' own statistics"
    if (
        not chart.scorer(test).labelled
        or (change := restored(chart, test.x, chart.of_test, chart.population)) is None
    ):
        return
    gain = changed(chart, test, change, chart.population)
    if gain.matters:
        yield f"{gain.metric} is better by {gain.value:.3g} with {change.name}"


FACTS = (
    weights_not_finite,
    not_finite,
    negative,
    leaking,
    at_start,
    half_precision,
    vanished,
    calls_apart,
    foreign_inputs,
)
"""All looks for facts."""
