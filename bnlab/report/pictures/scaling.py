"""How the error grows as the batch shrinks: a panel for each task, a line for each normalizer."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bnlab.report.numbers.rows import CONTROLS, final_name
from bnlab.report.pictures.drawing import Picture, spread_note, value_axis, wrapped
from bnlab.report.pictures.figures import DASHES, MARKERS
from bnlab.report.pictures.panels import legend, tiles

COLUMNS, ROWS = 2, 3
_WARM, _COLD = "YlOrRd_r", "Blues_r"


def scaling(sizes: pd.DataFrame) -> list[Picture]:
    """Final error with phase false against batch size; nothing for a sweep of few sizes or one norm."""
    caption = (
        f"Error on {final_name(sizes)} after training, phase false, against the batch size of training. "
        "Norms with moving statistics: at each batch size the decay with the least error of those measured, "
        "chosen on these very images."
    )
    alt = "Small plots of final error against batch size, one for each task, a line for each normalization."
    looks = _looks(sorted(sizes["norm"].unique()))
    tasks = [own for _, own in sizes.groupby("task")]
    pages = [tasks[at : at + COLUMNS * ROWS] for at in range(0, len(tasks), COLUMNS * ROWS)]
    return [Picture(_page(page, looks), caption + spread_note(sizes), alt) for page in pages]


def _page(tasks: list[pd.DataFrame], looks: dict[str, dict[str, Any]]) -> str:
    with tiles(len(tasks), COLUMNS, tall=2.1) as (figure, places, svg):
        for axes, own in zip(places, tasks, strict=True):
            _draw(axes, own, looks)
        figure.supxlabel("batch size (log scale)", fontsize=7)
        legend(figure, places)
    return svg.getvalue()


def _draw(axes: Axes, rows: pd.DataFrame, looks: dict[str, dict[str, Any]]) -> None:
    for norm, own in rows.groupby("norm"):
        axes.errorbar(
            own["batch_size"], own["error"], yerr=own["sd"].fillna(0), label=str(norm), **looks[str(norm)]
        )
    value_axis(axes, pd.concat([rows["error"] - rows["sd"].fillna(0), rows["error"] + rows["sd"].fillna(0)]))
    ticks = np.sort(rows["batch_size"].unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(size) for size in ticks])
    axes.set_xticks([], minor=True)
    axes.set_title(wrapped(rows["task"].iloc[0], 50, 2))
    axes.set_ylabel("error in %" if rows["percent"].all() else "RMSE over outputs")


def _looks(norms: list[str]) -> dict[str, dict[str, Any]]:
    """Warm colours and full lines for norms with moving statistics, cold and broken ones for the others."""
    kinds = {_WARM: [n for n in norms if n not in CONTROLS], _COLD: [n for n in norms if n in CONTROLS]}
    looks = {}
    for colours, own in kinds.items():
        shades = matplotlib.colormaps[colours](np.linspace(0.15, 0.6, max(len(own), 1)))
        for at, (norm, shade) in enumerate(zip(own, shades, strict=False)):
            dash = "-" if colours == _WARM else DASHES[at % len(DASHES)]
            look = {"color": shade, "linestyle": dash, "marker": MARKERS[at % len(MARKERS)]}
            looks[norm] = look | {"linewidth": 1.0, "capsize": 1.5, "elinewidth": 0.6}
    return looks
