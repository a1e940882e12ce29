"""What one look at both phases comes to: metrics with batch and with moving statistics, and their gap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from bnlab.doctor.gauge import Phases
from bnlab.doctor.harm import harm
from bnlab.doctor.sample import Sample
from bnlab.doctor.scoring import Scorer
from bnlab.doctor.subject import Structure
from bnlab.science.scores import Scores

_CLASSES = {"classes", "yes or no"}


class Measurement(NamedTuple):
    """What was measured after a step.

    Attributes:
        step: of this training, counted from 1.
        values: name in the logs -> value.
        matters: whether the gap is real and would be noticed.
    """

    step: int
    values: dict[str, float]
    matters: bool


def unmeasured(shapes: Sequence[tuple[int, ...]], labels: Structure | None) -> dict[str, float]:
    """Name what will be measured, before it is: NaN each.

    Args:
        shapes: of the model's outputs.
        labels: of the sample, or None.

    Raises:
        ScoringError: labels do not fit the outputs.
    """
    if labels is None:
        return dict.fromkeys(("bn_gap", "bn_disagreement"), math.nan)
    kinds = Scorer([np.zeros(shape, np.float32) for shape in shapes], labels).kinds
    none = np.full(1, math.nan)
    blank = Scores(none, np.ones(1) if set(kinds) <= _CLASSES else none, none)
    return dict.fromkeys(_labelled(blank, blank), math.nan)


def measurement(step: int, phases: Phases, sample: Sample) -> Measurement:
    """Score both phases of a sample."""
    scorer = Scorer(phases.true, sample.y)
    true, false = scorer.scores(phases.true), scorer.scores(phases.false)
    if scorer.labelled:
        return Measurement(step, _labelled(true, false), harm(false, true, sample.size).matters)
    moved = scorer.disagreement(phases.false, phases.true)
    values = {"bn_gap": false.rmse, "bn_disagreement": moved}
    return Measurement(step, values, _is_moved(moved, scorer, phases, sample))


def _labelled(true: Scores, false: Scores) -> dict[str, float]:
    values = {"bn_rmse_true": true.rmse, "bn_rmse_false": false.rmse, "bn_gap": false.rmse - true.rmse}
    if not math.isnan(true.accuracy):
        values |= {"bn_accuracy_true": true.accuracy, "bn_accuracy_false": false.accuracy}
    return values


def _is_moved(moved: float, scorer: Scorer, phases: Phases, sample: Sample) -> bool:
    """Without labels: moving statistics move outputs more than other batch mates do, and noticeably."""
    if sample.groups == 1:
        return False  # one batch has no neighbours to change
    if not all(np.isfinite(part).all() for part in phases.false):
        return True
    # The standard error of a share is at most 1 / (2 root n): twice that is noticed.
    excess = moved - scorer.disagreement(phases.other, phases.true)
    return bool(excess * math.sqrt(sample.groups * sample.size) > 1)


def ordered(labels: Structure | None, model: keras.Model) -> Structure | None:
    """Put labels that are named after outputs into the outputs' order."""
    listed: Any = getattr(model, "_outputs_struct", None)
    names = getattr(model, "output_names", None) or []
    if isinstance(labels, Mapping) and isinstance(listed, list | tuple) and set(labels) == set(names):
        return [labels[name] for name in names]
    return labels
