"""One curve or many: the ratio of both phases against the share of the start that the average still holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from bnlab.report.numbers.arrival import NOTHING
from bnlab.report.numbers.decays import spread_out
from bnlab.report.numbers.rows import base
from bnlab.report.numbers.tables import decay_name, power
from bnlab.report.pictures.drawing import Picture, value_axis, wrapped
from bnlab.report.pictures.figures import CURVES, MARKERS, SHADES
from bnlab.report.pictures.panels import legend, tiles

COLUMNS, ROWS = 3, 3
TICKS = (1.0, 0.5, 0.1, 0.01, 1e-4)
_COLOURS = LinearSegmentedColormap.from_list("decays", SHADES)


def collapse(ratios: pd.DataFrame) -> list[Picture]:
    """All steps, trials and decays in one panel for each task and norm; nothing without both phases."""
    split = "train_probe" if (ratios["split"] == "train_probe").any() else "test_probe"
    rows = ratios[(ratios["split"] == split) & np.isfinite(ratios["ratio"])]
    if rows.empty:
        return []
    images = {"train_probe": "training", "test_probe": "test"}[split]
    caption = (
        f"RMSE with phase false over RMSE with phase true, on a fixed probe of {images} images, against the "
        "share of its start that the average still holds, decay^(updates). Every step, trial and decay is a "
        "point; lines join the steps of one trial and decay. Where lag parts the phases the points come to 1 "
        "on the right; the nearer they lie to one curve, the less anything else matters. Hollow: phase true "
        "is no better than a constant."
    )
    alt = "Small plots of the ratio of both phases against the share of the start, a line for each trial."
    groups = [own for _, own in rows.groupby([rows["task"].map(base), "norm"])]
    most = COLUMNS * ROWS
    pages = [groups[at : at + most] for at in range(0, len(groups), most)]
    return [Picture(_page(page, _looks(rows)), caption, alt) for page in pages]


def _page(groups: list[pd.DataFrame], looks: Mapping[str, Mapping[float, Any]]) -> str:
    with tiles(len(groups), COLUMNS, tall=1.9) as (figure, places, svg):
        width = 100 // min(COLUMNS, len(groups))
        for axes, own in zip(places, groups, strict=True):
            _draw(axes, own, looks, width)
        figure.supxlabel("share of the start still in the average (log scale, stretched near 1)", fontsize=7)
        figure.supylabel("RMSE false / RMSE true", fontsize=7)
        _explain(places[0], looks)
        legend(figure, places)
    return svg.getvalue()


def _looks(rows: pd.DataFrame) -> dict[str, dict[float, Any]]:
    """A colour for each decay, the darkest for the slowest, and a marker for each batch size."""
    decays, sizes = np.sort(rows["decay"].unique()), np.sort(rows["batch_size"].unique())
    places = np.linspace(0, 1, max(len(decays), CURVES))[-len(decays) :]
    colours = {decay: _COLOURS(place) for decay, place in zip(decays, places, strict=True)}
    return {"decay": colours, "size": {size: MARKERS[at % len(MARKERS)] for at, size in enumerate(sizes)}}


def _draw(axes: Axes, rows: pd.DataFrame, looks: Mapping[str, Mapping[float, Any]], width: int) -> None:
    axes.axhline(1, color="#444444", linewidth=0.7)
    axes.axvline(_place(NOTHING) + 0.15, color="#bbbbbb", linewidth=0.5, linestyle=":")
    for (_, size, decay), own in rows.groupby(["task", "batch_size", "decay"]):
        line = own.sort_values("step")
        x = _place(line["share"].to_numpy())
        colour, idle = looks["decay"][decay], (line["true"] >= line["constant_rmse"]).to_numpy()
        axes.plot(x, line["ratio"], color=colour, linewidth=0.5, alpha=0.6)
        dots: dict[str, Any] = {"marker": looks["size"][size], "s": 8, "linewidths": 0.5, "zorder": 3}
        face = np.where(idle[:, None], (1.0, 1.0, 1.0, 1.0), colour)
        axes.scatter(x, line["ratio"], facecolors=face, edgecolors=[colour], **dots)
    value_axis(axes, pd.concat([rows["ratio"], pd.Series([1.0])]))
    _share_axis(axes)
    axes.set_title(wrapped(f"{base(rows['task'].iloc[0])}, {rows['norm'].iloc[0]} normalization", width, 2))


def _place(share: Any) -> Any:  # noqa: ANN401
    """Where a share stands: from 1 on the left, on a log scale stretched near 1, to a bin for nothing.

    >>> _place(np.array([1.0, 0.1, 1e-4, 1e-9])).round(2).tolist()
    [0.0, 1.0, 2.0, 2.75]
    """
    place = np.sqrt(np.abs(np.log10(np.maximum(share, NOTHING))))
    return np.where(np.asarray(share) >= NOTHING, place, np.sqrt(-np.log10(NOTHING)) + 0.3)


def _share_axis(axes: Axes) -> None:
    names = [power(tick) if tick < 0.01 else f"{tick:g}" for tick in TICKS]
    axes.set_xlim(-0.1, _place(0.0) + 0.15)
    axes.set_xticks([*map(_place, TICKS), _place(0.0)], [*names, f"<{power(NOTHING)}"])


def _explain(axes: Axes, looks: Mapping[str, Mapping[float, Any]]) -> None:
    """Entries of the legend, which show each kind of look once."""
    for decay in spread_out(np.array(list(looks["decay"])), CURVES):
        axes.plot([], [], color=looks["decay"][decay], linewidth=1.5, label=f"decay {decay_name(decay)}")
    for size, marker in looks["size"].items():
        plain: dict[str, Any] = {"color": "#555555", "linestyle": "", "markersize": 3}
        axes.plot([], [], marker=marker, label=f"batch size {size}", **plain)
