"""Which layers, drawn in the model's order: the shares of the gap above the distances of the statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bnlab.report.numbers.decays import thinned
from bnlab.report.numbers.layers import whole
from bnlab.report.numbers.tables import decay_name
from bnlab.report.pictures.drawing import WIDTH, Picture, drawing, wrapped
from bnlab.report.pictures.figures import SHADES
from bnlab.report.pictures.panels import legend

MOST, NARROW = 4, 7
"""As many trials are drawn; with at most so many layers two stand side by side."""
LINES = {
    "share": "share of\nthe whole",
    "mean_shift": "mean shift\n(std. dev.)",
    "log_variance": "log ratio of\nvariances",
    "kl": "KL per\nchannel",
}
TRIAL = ["task", "norm", "batch_size", "seed", "trial", "target"]
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++")


def layers(table: pd.DataFrame) -> list[Picture]:
    """The trials with the largest gaps: bars for each layer and decay.

    Args:
        table: as from `numbers.layers.layers`.
    """
    rows = thinned(table)
    drawn = rows[rows[list(LINES)].notna().any(axis=1)]
    trials = [own for _, own in drawn.groupby(TRIAL, sort=False)]
    trials.sort(key=lambda own: -np.nan_to_num(own["gap"].abs().max()))
    columns = 2 if trials and max(own["layer"].nunique() for own in trials) <= NARROW else 1
    some = f" Drawn: the {MOST} of {len(trials)} trials with the largest gaps." if len(trials) > MOST else ""
    caption = (
        f"Layers in the model's order. Share of the whole ({whole(rows['target'])}), with one standard "
        "error, which takes the whole as known; missing where the whole is within two standard errors of 0. "
        f"Below: how far the moving statistics lie from the population's.{some}"
    )
    alt = "Bars for each layer of a network: its share of the whole, and three distances of its statistics."
    shown = trials[:MOST]
    pages = [shown[at : at + columns] for at in range(0, len(shown), columns)]
    return [Picture(_page(page, columns), caption, alt) for page in pages]


def _page(trials: list[pd.DataFrame], columns: int) -> str:
    lines = [name for name in LINES if any(own[name].notna().any() for own in trials)]
    width = WIDTH if columns == 1 else max(4.0, WIDTH * len(trials) / columns)
    with drawing((width, 1.3 + 0.82 * len(lines))) as (figure, svg):
        places = figure.subplots(len(lines), len(trials), squeeze=False, sharex="col")
        for column, own in zip(places.T, trials, strict=True):
            for axes, name in zip(column, lines, strict=True):
                _draw(axes, own, name)
            _names(column[-1], own)
            column[0].set_title(wrapped(_title(own.iloc[0]), 44 if columns == 2 else 90, 2))
        for axes, name in zip(places[:, 0], lines, strict=True):
            axes.set_ylabel(LINES[name])
        legend(figure, places.flat)
    return svg.getvalue()


def _title(row: pd.Series) -> str:
    norm = "" if row["norm"] == "batch" else f", {row['norm']}"
    return f"{row['task']}{norm}, batch size {row['batch_size']}, seed {row['seed']}"


def _draw(axes: Axes, own: pd.DataFrame, name: str) -> None:
    """The bars of one quantity: a group for each layer, in it a bar for each decay."""
    order = {layer: at for at, layer in enumerate(own["layer"].unique())}
    decays = np.sort(own["decay"].unique())
    wide = 0.84 / len(decays)
    for at, decay in enumerate(decays):
        rows = own[own["decay"] == decay]
        x = rows["layer"].map(order).to_numpy() + wide * (at - (len(decays) - 1) / 2)
        look: dict[str, Any] = {"facecolor": SHADES[(len(SHADES) - len(decays) + at) % len(SHADES)]}
        look |= {"hatch": _HATCHES[at % len(_HATCHES)], "edgecolor": "#333333", "linewidth": 0.3}
        axes.bar(x, rows[name].to_numpy(), wide, label=f"decay {decay_name(decay)}", **look)
        if name == "share":
            axes.errorbar(
                x, rows[name], yerr=rows["share_se"], fmt="none", color="black", capsize=1.2, elinewidth=0.6
            )
    axes.axhline(0, color="#333333", linewidth=0.5)
    axes.grid(visible=False, axis="x")
    axes.locator_params(axis="y", nbins=4)


def _names(axes: Axes, own: pd.DataFrame) -> None:
    names = list(own["layer"].unique())
    size, turn = (6, 30) if len(names) <= NARROW else (5, 60)
    axes.set_xticks(range(len(names)), names, fontsize=size, rotation=turn)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
