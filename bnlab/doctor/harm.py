"""What a difference between two ways of normalizing does to a model, and whether it matters.

A difference matters if it is real and would be noticed:

    real       beyond three paired standard errors (the normal tail beyond is .0013 on one side)
    noticed    beyond twice the standard error with which the metric itself is known on these samples: a model
               that is worse by less cannot be told from the same model on other samples of as many

Without labels: if it moves predictions further than two batches of training's own size are from each other,
for the weights were trained to bear that much, and by more than the standard error of any share of so many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnlab.doctor.chart import Chart, Split
from bnlab.doctor.scoring import Outputs
from bnlab.doctor.subject import Layers
from bnlab.science.gap import contrast, paired_standard_error
from bnlab.science.scores import Scores

REAL, NOTICED = 3.0, 2.0


@dataclass(frozen=True)
class Harm:
    """How much worse one way is than another, on the same samples.

    Attributes:
        metric: the one that shows it most, in its own units of being noticed.
        value, standard_error: of the difference; positive is worse.
        noticed: difference / (twice the metric's own standard error).
        real: difference / (three paired standard errors).
    """

    metric: str
    value: float
    standard_error: float
    noticed: float
    real: float

    @property
    def matters(self) -> bool:
        """Whether it is real and would be noticed."""
        return self.noticed > 1 and self.real > 1

    @property
    def inverse(self) -> bool:
        """Whether the other way round is real and would be noticed."""
        return self.noticed < -1 and self.real < -1


def harm(one: Scores, other: Scores, batch_size: int = 1) -> Harm:
    """Say how much worse `one` is than `other`, by RMSE or accuracy, whichever shows more."""
    given = _by_metric(one, other, batch_size).values()
    return max(given, key=lambda own: abs(own.noticed) if np.isfinite(own.noticed) else np.inf)


def is_better_in_all(one: Scores, other: Scores) -> bool:
    """Say whether no metric of `one` is worse than that of `other` by more than its standard error.

    An RMSE alone may gain by outputs that are less sure of the same mistakes.
    """
    return all(own.value <= own.standard_error for own in _by_metric(one, other).values())


def is_worse_on_others(one: Scores, other: Scores) -> bool:
    """Say whether `one` is really worse than `other` in some metric, on samples that are not the same."""
    pairs = [("rmse", one.rmse - other.rmse), ("accuracy", other.accuracy - one.accuracy)]
    return any(lost > REAL * np.hypot(_error(one, name), _error(other, name)) for name, lost in pairs)


def _by_metric(one: Scores, other: Scores, batch_size: int = 1) -> dict[str, Harm]:
    found = contrast(((1.0, one), (-1.0, other)), batch_size)
    if not np.isfinite(found["rmse"][0]):
        return {"rmse": _spoilt(one, other)}
    given = {"rmse": _harm("rmse", found["rmse"], _own_error(other, one, "rmse"))}
    if np.isfinite(one.correct).all() and np.isfinite(other.correct).all():
        value, error = found["accuracy"]
        given["accuracy"] = _harm("accuracy", (-value, error), _own_error(other, one, "accuracy"))
    return given


def better(chart: Chart, split: Split, one: Layers, other: Layers) -> Harm:
    """Say how much worse fixed statistics are than others on a split, with labels or without."""
    scorer = chart.scorer(split)
    if scorer.labelled:
        return harm(chart.under(split, one), chart.under(split, other))
    moved = scorer.disagreement(chart.outputs(split, one), chart.outputs(split, other))
    # Of few samples, several batches, though they be smaller than training's.
    size = min(chart.size, max(1, len(split) // 4))
    by_batch = scorer.disagreement(chart.in_batches(split, size), chart.outputs(split, chart.population))
    # The standard error of a share of n samples is at most 1 / (2 root n).
    noticed = moved * np.sqrt(len(split)) / (NOTICED / 2)
    # As far as two batches are from each other.
    real = moved / max(np.sqrt(2) * by_batch, 1e-9)
    return Harm("disagreement", moved, float("nan"), float(noticed), float(real))


def has_learned(chart: Chart, *others: Layers) -> bool:
    """Say whether labels tell anything: in some way, outputs fit their own samples better than others.

    The ways are both phases, the population's statistics, and `others`.
    """
    train = chart.train
    if not chart.scorer(train).labelled:
        return False
    fixed = (chart.outputs(train, own) for own in (chart.moving, chart.population, *others))
    return any(_fits_its_own(chart, train, outputs) for outputs in (*fixed, chart.in_batches(train)))


def _fits_its_own(chart: Chart, split: Split, outputs: Outputs) -> bool:
    scorer, others = chart.scorer(split), np.roll(np.arange(len(split)), len(split) // 2)
    return harm(scorer.scores([own[others] for own in outputs]), scorer.scores(outputs)).matters


def _spoilt(one: Scores, other: Scores) -> Harm:
    """Outputs that are no numbers are as bad as can be, but no worse than others that are none."""
    bad = [not np.isfinite(own.rmse) for own in (one, other)]
    size = 0.0 if all(bad) else float("inf" if bad[0] else "-inf")
    return Harm("rmse", float("nan"), float("nan"), size, size)


def _harm(metric: str, difference: tuple[float, float], own: float) -> Harm:
    value, error = map(float, difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        noticed, real = np.divide(value, NOTICED * own), np.divide(value, REAL * error)
    return Harm(metric, value, error, float(np.nan_to_num(noticed)), float(np.nan_to_num(real)))


def _own_error(one: Scores, other: Scores, metric: str) -> float:
    """Take the larger standard error of a metric of the two ways: being sure of a wrong answer is none."""
    return max(_error(scores, metric) for scores in (one, other))


def _error(scores: Scores, metric: str) -> float:
    if metric == "accuracy":
        # A model without a mistake in n may have one: the rule of succession keeps its error above zero.
        n, right = len(scores.correct), float(scores.correct.sum())
        share = (right + 1) / (n + 2)
        return float(np.sqrt(share * (1 - share) / n))
    return paired_standard_error(scores.squared) / max(2 * scores.rmse, 1e-12)
