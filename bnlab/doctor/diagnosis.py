"""The diagnosis: what an examination found, as plain values, and as the JSON that machines read.

The form of the JSON is `SCHEMA`; a field may be added to it, none is renamed or removed without another
number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA = "bnlab.doctor/1"
Verdict = Literal["healthy", "sick", "unclear", "nothing to examine"]
STATUS: Mapping[str, int] = {"healthy": 0, "nothing to examine": 0, "sick": 1, "unclear": 2}
"""Exit status of each verdict."""


@dataclass(frozen=True)
class Gap:
    """A metric with moving and with batch statistics, on the same samples.

    Attributes:
        split: `train` or `test`.
        metric: `rmse`, `accuracy` or `loss`; without labels `rmse` and `agreement`, taken against the
            outputs under population statistics.
        moving, batch: the metric in each phase.
        gap: moving - batch.
        standard_error: of the gap, paired over batches.
        samples: how many.
    """

    split: str
    metric: str
    moving: float
    batch: float
    gap: float
    standard_error: float
    samples: int


@dataclass(frozen=True)
class Part:
    """What one link of the chain from moving to batch statistics takes off the RMSE, on one split.

    Attributes:
        split: `train` or `test`.
        cause: a word of `bnlab.doctor.parts.LINKS`.
        value, standard_error: of the RMSE gap.
    """

    split: str
    cause: str
    value: float
    standard_error: float


@dataclass(frozen=True)
class Layer:
    """One normalization layer, in the model's order.

    Attributes:
        name: unique in the model; a nested layer bears its parents' names where its own is taken.
        channels, momentum, epsilon: of the layer.
        frozen: it never uses batch statistics.
        calls: how often one pass calls it.
        mean_shift, log_variance, kl: how far its moving statistics lie from the training data's population,
            as of `bnlab.science.moments.Distance`; None where they are not finite, or the layer is frozen.
        output: root mean square difference of its outputs between the phases, in their standard deviations.
        part, standard_error: its part of the RMSE gap on the training data.
    """

    name: str
    channels: int
    momentum: float
    epsilon: float
    frozen: bool
    calls: int = 1
    mean_shift: float | None = None
    log_variance: float | None = None
    kl: float | None = None
    output: float | None = None
    part: float | None = None
    standard_error: float | None = None


@dataclass(frozen=True)
class Cause:
    """A cause from the catalogue that the evidence speaks for.

    Attributes:
        name: a key of `bnlab.doctor.catalogue.CATALOGUE`, such as `not_arrived`.
        title: the same in a few words.
        confidence: in (0, 1]; those of all causes, and of none of them, add up to 1.
        evidence: sentences with numbers.
        confirm: what would confirm it.
        cure: what mends it.
        mendable: other statistics for the same weights can close what it opens.
    """

    name: str
    title: str
    confidence: float
    evidence: tuple[str, ...]
    confirm: str
    cure: str
    mendable: bool


@dataclass(frozen=True)
class Remedy:
    """What a remedy leaves, measured on samples that it was not estimated from.

    Attributes:
        name: `population`, `zero_debias`, ...: a key of `bnlab.doctor.mending.MENDINGS`.
        split: `train` or `test`.
        metrics: metric -> value under the remedy.
        gap: what is left of the RMSE gap.
        closed: share of the RMSE gap that it closes; None where phase false is not worse beyond two
            standard errors.
        writable: it can be written into a model file, which holds fixed statistics only.
        seconds: that it took to estimate.
    """

    name: str
    split: str
    metrics: Mapping[str, float]
    gap: float
    closed: float | None
    writable: bool
    seconds: float


@dataclass(frozen=True)
class Mended:
    """What was written with `--mend`: the same table before and after, measured on the file that was written.

    Attributes:
        path: of the file.
        remedy: whose statistics it holds.
        before, after: by split and metric, in the same order.
    """

    path: str
    remedy: str
    before: tuple[Gap, ...]
    after: tuple[Gap, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What an examination found.

    Attributes:
        verdict: one of `STATUS`.
        summary: sentences for a person, the answer first.
        model, data: what was examined: words and numbers by name.
        gaps: by split and metric.
        disagreement: split -> share of samples whose predicted class differs between the phases, or, of
            regressors, the root mean square difference of outputs over that of the outputs.
        layers: all normalization layers.
        parts: of the RMSE gap.
        causes: the likeliest first.
        unexplained: the confidence that it is none of the catalogue's.
        remedies: the best first.
        advice: what to do now, one sentence.
        command: what writes the best remedy into a copy of the model; empty where none can be written.
        evidence: the numbers that causes were judged by.
        notes: what could not be examined, and why.
        mended: what was written.
        seconds: that the examination took.
        versions: package -> version that it ran on.
    """

    verdict: Verdict
    summary: tuple[str, ...]
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    disagreement: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    parts: tuple[Part, ...] = ()
    causes: tuple[Cause, ...] = ()
    unexplained: float = 0.0
    remedies: tuple[Remedy, ...] = ()
    advice: str = ""
    command: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mended: Mended | None = None
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Exit status: 0 healthy or nothing to examine, 1 sick, 2 could not tell."""
        return STATUS[self.verdict]

    def as_dict(self) -> dict[str, Any]:
        """Give plain dicts, lists, numbers and text for JSON: in it NaN is None, and infinity is text."""
        return {"schema": SCHEMA, "status": self.status, **_plain(asdict(self))}


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, str | bool | int) else float(value)
