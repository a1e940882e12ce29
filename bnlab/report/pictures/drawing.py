"""What every picture shares: its style, its axes, and an SVG that comes out the same every time."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnlab.report.numbers.decays import places
from bnlab.report.numbers.tables import decay_name

WIDTH = 6.69
"""Inches between the page's margins; a figure with few panels is narrower, never stretched."""
_EVEN = 0.02
"""A stretched axis is about even up to this share of its span."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "axes.linewidth": 0.5,
    "axes.edgecolor": "#666666",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "legend.columnspacing": 1.3,
    "text.parse_math": False,  # a task may be called $x$
    "svg.fonttype": "path",
    "svg.hashsalt": "bnlab",
}


@dataclass(frozen=True)
class Picture:
    """A drawing with its caption and its alternative text."""

    svg: str
    caption: str
    alt: str


@contextmanager
def drawing(size: tuple[float, float]) -> Iterator[tuple[Figure, io.StringIO]]:
    """A figure in this report's style, whatever the user's own; leaving it writes the SVG."""
    svg = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=size, layout="constrained")
        yield figure, svg
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})


def short(name: str, most: int) -> str:
    """A name cut to a length that fits beside its panel.

    >>> short("mnist", 8), short("a very long name", 8)
    ('mnist', 'a very …')
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def wrapped(name: str, width: int, lines: int) -> str:
    """A name over a few lines, cut off where even these do not hold it.

    >>> wrapped("mnist, dropout 0.5, deviation 0.001", 20, 2).splitlines()
    ['mnist, dropout 0.5,', 'deviation 0.001']
    >>> wrapped("a name that takes far too many words", 8, 2).splitlines()
    ['a name', 'that ta…']
    """
    parts = textwrap.wrap(name, width, break_on_hyphens=False) or [""]
    return "\n".join([*parts[: lines - 1], short(" ".join(parts[lines - 1 :]), width)][: len(parts)])


def spread_note(table: pd.DataFrame) -> str:
    """How several seeds were drawn; nothing to say for one."""
    fewest, most = table["seeds"].min(), table["seeds"].max()
    if table.empty or most < 2:
        return ""
    count = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f" Means over n = {count} seeds; bars and bands: one standard deviation over the seeds."


def value_axis(axes: Axes, values: pd.Series) -> None:
    """Limits that the panels of a row share; values beyond a factor of 20 make the axis logarithmic."""
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    if low > 0 and high / low > 20:
        axes.set(yscale="log", ylim=(low / 1.2, high * 1.2))
        axes.yaxis.set_minor_formatter("")
    else:
        margin = 0.07 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def stretched_axis(axes: Axes, values: pd.Series, highest: bool = False) -> None:
    """A log scale of the distance to the lowest or highest value: flat valleys and high walls both show."""
    known = values[np.isfinite(values)].to_numpy()
    sign, span = -1 if highest else 1, np.ptp(known) or 1.0
    start = known.max() if highest else known.min()

    def place(value: np.ndarray) -> np.ndarray:
        return sign * np.log10(1 + np.maximum(sign * (value - start) / (_EVEN * span), -0.9))

    def value(place: np.ndarray) -> np.ndarray:
        return start + sign * _EVEN * span * (10 ** (sign * place) - 1)

    low, high = np.sort(place(start + sign * np.array([0.0, span])))
    margin = 0.05 * (high - low)
    axes.set_yscale("function", functions=(place, value))
    axes.set_ylim(*value(np.array([low - margin, high + margin])))
    ticks = np.unique(value(np.linspace(low, high, 6)).round(2 - math.floor(math.log10(span))))
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def step_axis(axes: Axes, last: int) -> None:
    """Optimizer steps on a log scale, labelled in full."""
    digits = len(str(last))
    powers = [10**power for power in range(0, digits, 1 if digits <= 4 else 2)]
    axes.set(xscale="log", xlim=(0.8, last * 1.3))
    axes.set_xticks(powers, [f"{power:,}" for power in powers])
    axes.set_xticks([], minor=True)


def decay_axis(axes: Axes, decays: np.ndarray, abreast: int = 4) -> None:
    """Decays spread by the length of their memory; the slowest and the fastest are labelled for certain.

    Args:
        axes: of a panel that stands beside others, so many `abreast`.
        decays: sorted.
        abreast: the fewer, the wider the panel, and the more labels have room.
    """
    where, names = places(decays), [decay_name(decay) for decay in decays]
    span = max(np.ptp(where), 0.3) if len(where) else 1.0
    ticks: list[int] = []
    for at in [len(names) - 1, *range(len(names) - 1)]:
        room = [
            abs(where[at] - where[tick]) / span - _needed(names[at] + names[tick]) * abreast / 4
            for tick in ticks
        ]
        if at >= 0 and min(room, default=0.0) >= 0:
            ticks.append(at)
    axes.set_xticks([where[at] for at in ticks], [names[at] for at in ticks])
    middle = (where.min() + where.max()) / 2 if len(where) else 0.0
    axes.set_xlim(middle - 0.58 * span, middle + 0.58 * span)


def _needed(both: str) -> float:
    """How far apart two tick labels stand clear, as a share of the span of one of four panels abreast."""
    return (0.05 + 0.0275 * len(both)) / 1.12
