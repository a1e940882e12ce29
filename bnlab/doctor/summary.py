"""What an examination found, in a few sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bnlab.doctor.chart import Chart
from bnlab.doctor.diagnosis import Cause, Remedy
from bnlab.doctor.verdict import Complaint


def summarized(chart: Chart, wrong: Sequence[Complaint], causes: Sequence[Cause]) -> Iterator[str]:
    """Say what was found, the answer first."""
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
    if wrong and causes:
        yield f"The likeliest cause: {causes[0].title} ({causes[0].confidence:.0%})."


def advised(causes: Sequence[Cause], remedies: Sequence[Remedy], best: str | None) -> str:
    """Say what to do now."""
    if not causes:
        return "None of the known causes fits: compare training and inference step by step."
    said = f"{causes[0].cure[0].upper()}{causes[0].cure[1:]}."
    if best is None:
        return f"{said} No other statistics mend these weights."
    closed = next(own.closed for own in remedies if own.name == best)
    share = "" if closed is None else f" closes {min(max(closed, 0), 1):.0%} of the gap, and"
    return f"{said} The remedy {best}{share} can be written into a copy of the model."
