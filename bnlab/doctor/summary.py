"""What an examination found, in a few sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnlab.doctor.chart import Chart
from bnlab.doctor.diagnosis import Cause, Remedy
from bnlab.doctor.findings import Findings, bare_leaks
from bnlab.doctor.harm import harm, has_learned
from bnlab.science.synchronized import cancelled

# A variance that is off by more is told of.
_CANCELLED = 0.01


def summarized(chart: Chart, causes: Sequence[Cause]) -> Iterator[str]:
    """Say what was found, the answer first."""
    if causes and causes[0].name == "weights_not_finite":
        yield f"{causes[0].evidence[0]}."
        return
    split = chart.splits[-1]
    moving, batch = chart.under(split, chart.moving), chart.with_batch(split)
    labelled = chart.scorer(split).labelled
    metric = "accuracy" if labelled and moving.accuracy == moving.accuracy else "rmse"
    name = {"accuracy": "accuracy", "rmse": "RMSE"}[metric]
    said = (
        f"{split.name} {name} is {getattr(moving, metric):.3g} with moving statistics and "
        f"{getattr(batch, metric):.3g} with batch statistics"
    )
    if not labelled:
        off = chart.scorer(split).disagreement(chart.outputs(split, chart.moving), chart.in_batches(split))
        said = f"{off:.1%} of the {split.name} predictions differ between moving and batch statistics"
    yield f"{said[0].upper()}{said[1:]}."
    if causes:
        yield f"The likeliest cause: {causes[0].title} ({causes[0].confidence:.0%})."


def too_few(chart: Chart) -> Iterator[str]:
    """Say that samples are too few to call a model healthy."""
    yield f"Nothing wrong was seen, but {len(chart.train)} samples to score on are too few to tell."


def remarks(chart: Chart, found: Findings) -> Iterator[str]:
    """Say what a user should know though it makes no model sick."""
    if found.broken:  # what follows compares outputs
        return
    if not found.leaks and bare_leaks(chart):
        yield (
            "model(x) without training=False acts as in training, and may change moving statistics: Keras "
            "3.12 to 3.15 takes it so behind Resizing, CenterCrop and Random layers; predict() is sound"
        )
    if chart.scorer(chart.train).labelled and not has_learned(chart):
        yield (
            "in no phase does the model answer its own samples better than others: it has not learned these "
            "data, or the labels are all one, or not in the order of the inputs"
        )
    yield from _cancelling(chart)
    if chart.scorer(chart.train).labelled and found.distance > 2 * found.one_batch and not found.at_start:
        gain = harm(chart.under(chart.train, chart.population), chart.under(chart.train, chart.moving))
        if gain.matters:
            yield (
                f"{gain.metric} is better by {gain.value:.3g} with moving statistics than with the data's: "
                "weights that were trained with moving statistics, or on other data, expect them"
            )


def untouched(chart: Chart, found: Findings) -> Iterator[str]:
    """Statistics of before the first step may be near enough to the data's to do no harm."""
    steps = chart.facts.get("iterations")
    if found.at_start and steps:
        yield (
            f"{len(found.at_start)} of {len(chart.subject.layers)} layers hold mean 0 and variance 1, "
            f"exactly, after {steps:,} steps: their statistics were never updated, or were lost"
        )


def _cancelling(chart: Chart) -> Iterator[str]:
    """Say where variances of several devices may be rounding: synchronized layers subtract two squares."""
    for key, layer in chart.subject.named.items():
        off = cancelled(chart.fed[key], layer.epsilon).max() if getattr(layer, "synchronized", False) else 0.0
        if off > _CANCELLED:
            yield (
                f"{key} is synchronized: on several devices Keras takes E[x^2] - E[x]^2 in float32, and on "
                f"these samples a channel's variance may be off by {off:.0%} of it; bring what the layer "
                "sees nearer to 0, or set synchronized=False"
            )


def advised(causes: Sequence[Cause], remedies: Sequence[Remedy], best: str | None) -> str:
    """Say what to do now."""
    if not causes:
        return "None of the known causes fits: compare training and inference step by step."
    said = f"{causes[0].cure[0].upper()}{causes[0].cure[1:]}."
    if best is None:
        return f"{said} No statistics of the training data mend these weights."
    closed = next(own.closed for own in remedies if own.name == best)
    share = "" if closed is None else f" closes {min(max(closed, 0), 1):.0%} of the gap, and"
    return f"{said} The remedy {best}{share} can be written into a copy of the model."
