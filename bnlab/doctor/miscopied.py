"""Statistics that were copied as something else: right numbers in the wrong form or in the wrong layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from bnlab.doctor.chart import Chart
from bnlab.doctor.findings import Findings
from bnlab.doctor.parts import explains
from bnlab.doctor.subject import Layers
from bnlab.doctor.suspect import Suspect, some
from bnlab.science.mixtures import apart, squares
from bnlab.science.moments import Moments

FORMS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "standard deviations": lambda mean, kept: kept**2,
    "reciprocals of variances": lambda mean, kept: 1 / kept,
    "reciprocals of standard deviations": lambda mean, kept: 1 / kept**2,
    "mean squares, the mean not taken off,": lambda mean, kept: np.maximum(kept - mean**2, 0.0),
}
"""What other programs keep, or give, in the place of the variance; and the variance, from mean and that."""
# One of so many ways to copy wrongly: together they are as likely beforehand as any other cause.
_WAYS = len(FORMS) + 1


def other_form(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Standard deviations or the like kept as variances: taken for what they are, they fit the population."""
    for name, variance in FORMS.items():
        with np.errstate(all="ignore"):  # statistics may be anything
            read = {key: Moments(own.mean, variance(*own)) for key, own in chart.moving.items()}
        explained = 1 - apart(read, chart.fed, chart.subject.epsilons) / max(found.distance, 1e-12)
        said = f"{name} in the place of variances explain {explained:.0%} of the distance"
        yield Suspect("miscopied", found.odds(explained) / _WAYS, (said,))


def other_layer(chart: Chart, found: Findings) -> Iterator[Suspect]:
    """Layers of one width that have one another's statistics, as where they were matched by their order."""
    source = {key: other for same in _of_one_width(chart.fed) for key, other in _matched(chart, same).items()}
    moved = [key for key, other in source.items() if key != other]
    if moved:
        explained = explains(chart, {key: chart.fed[other] for key, other in source.items()})
        said = (
            f"with the statistics of other layers of their width in {some(moved)}, {explained:.0%} of the "
            "distance goes"
        )
        yield Suspect("miscopied", found.odds(explained) / _WAYS, (said,))


def _of_one_width(layers: Layers) -> Iterator[list[str]]:
    for width in {len(own.mean) for own in layers.values()}:
        yield [key for key, own in layers.items() if len(own.mean) == width]


def _matched(chart: Chart, keys: list[str]) -> dict[str, str]:
    """Find which layer's population each of some layers holds, each population once."""
    from scipy.optimize import linear_sum_assignment

    epsilons = chart.subject.epsilons
    far = [[squares(chart.moving[a], chart.fed[b], epsilons[a]).mean() for b in keys] for a in keys]
    _, columns = linear_sum_assignment(np.array(far))
    return {key: keys[column] for key, column in zip(keys, columns, strict=True)}


COPIES = (other_form, other_layer)
"""Looks that compare with what copying makes."""
