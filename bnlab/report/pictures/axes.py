"""What each normalizer averages over, as a picture: `python -m bnlab.report.pictures.axes OUT.svg|OUT.png`.

After figure 2 of Wu & He, arXiv 1803.08494. Nothing is coloured by hand: the cells are those that `shared`
measures, and the names of the axes are read off them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from bnlab.report.pictures.drawing import WIDTH, drawing
from bnlab.science.sets import Kind, shared

KINDS: tuple[Kind, ...] = ("batch", "layer", "instance", "group")
SHAPE, GROUPS = (5, 2, 3, 8), 4
"""Images, height, width, channels: small enough to see every value, and no two sets of one size."""
NAMES = "NHWC"

OTHERS, TOGETHER, CHOSEN = "#e9e9e6", "#6f9fca", "#de8a57"
SHADES = {"top": 1.0, "left": 0.93, "right": 0.86}
"""How bright each side of the block is."""
ACROSS, RISE = np.cos(np.pi / 6), np.sin(np.pi / 6)


def masks() -> dict[Kind, np.ndarray]:
    """Measure for each kind which inputs share the statistics of the first: bool of `SHAPE`."""
    return {kind: shared(kind, SHAPE, GROUPS) for kind in KINDS}


def averaged(mask: np.ndarray) -> str:
    """Name the axes that a set spans, channels before positions; C/G where it spans a part of them.

    Args:
        mask: (images, height, width, channels) bool.

    >>> averaged(shared("group", (2, 3, 3, 4), groups=2))
    'C/G, H, W'
    """
    spans = dict(zip(NAMES, (np.ptp(places) + 1 for places in np.nonzero(mask)), strict=True))
    sizes = dict(zip(NAMES, mask.shape, strict=True))
    return ", ".join(name if spans[name] == sizes[name] else "C/G" for name in "NCHW" if spans[name] > 1)


def write(out: Path) -> None:
    """Draw the four kinds side by side into an SVG or, by its name, a PNG."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with drawing((WIDTH, 2.5)) as (figure, svg):
        _draw(figure)
        if out.suffix == ".png":
            figure.savefig(out, dpi=220, metadata={"Software": None})
    if out.suffix == ".svg":
        out.write_text(svg.getvalue())


def _draw(figure: Figure) -> None:
    for axes, (kind, mask) in zip(figure.subplots(1, len(KINDS)), masks().items(), strict=True):
        _block(axes, mask.reshape(len(mask), -1, mask.shape[-1]))
        axes.set_title(kind, weight="bold")
        axes.text(0.5, 1, f"over {averaged(mask)}", transform=axes.transAxes, ha="center", va="top")
        axes.text(0.5, 0, f"{mask.sum()} of {mask.size} values", transform=axes.transAxes, ha="center")
    figure.supxlabel(
        "Orange: one value. Blue: the values whose mean and variance normalize it, itself included. "
        f"{GROUPS} groups of channels.",
        fontsize=7,
    )


def _block(axes: Axes, mask: np.ndarray) -> None:
    """Draw the three visible sides of an (images, positions, channels) block; the first value is in front."""
    for side, shade in SHADES.items():
        cells = [cell for cell in np.ndindex(mask.shape) if _is_on(cell, side)]
        colours = [_colour(mask, cell, shade) for cell in cells]
        outlines = [_corners(cell, side) for cell in cells]
        axes.add_collection(PolyCollection(outlines, facecolors=colours, edgecolors="white", linewidths=0.5))
    images, positions, channels = mask.shape
    _name(axes, "N", (images / 2, positions, 0), (-5, -5))
    _name(axes, "C", (0, positions, channels / 2), (5, -5))
    _name(axes, "H, W", (images, positions / 2, 0), (-5, 0), rotation=90)
    axes.set_aspect("equal")
    axes.margins(0.02, 0.13)  # room for a line of text above and below
    axes.set_axis_off()


def _is_on(cell: tuple[int, ...], side: str) -> bool:
    image, position, channel = cell
    return {"top": position, "left": channel, "right": image}[side] == 0


def _colour(mask: np.ndarray, cell: tuple[int, ...], shade: float) -> tuple[float, ...]:
    name = CHOSEN if cell == (0, 0, 0) else TOGETHER if mask[cell] else OTHERS
    return tuple(shade * int(name[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _corners(cell: tuple[int, ...], side: str) -> list[tuple[float, float]]:
    """The four corners of a cell's face on one side of the block."""
    fixed = {"left": 2, "right": 0, "top": 1}[side]
    steps = np.insert(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), fixed, 0, axis=1)
    return [_seen(*corner) for corner in np.array(cell) + steps]


def _seen(image: float, position: float, channel: float) -> tuple[float, float]:
    """Where a point of the block lies on paper: images go up to the left, channels to the right."""
    return (channel - image) * ACROSS, (channel + image) * RISE - position


def _name(
    axes: Axes, text: str, at: tuple[float, float, float], shift: tuple[float, float], rotation: float = 0
) -> None:
    where: dict[str, Any] = {"xytext": shift, "textcoords": "offset points", "ha": "center", "va": "center"}
    axes.annotate(text, _seen(*at), rotation=rotation, **where)


def main(arguments: list[str] | None = None) -> int:
    """Draw by command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bnlab.report.pictures.axes", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("out", type=Path, help="file to write, .svg or .png")
    options = parser.parse_args(arguments)
    if options.out.suffix not in (".svg", ".png"):
        parser.error(f"OUT must end in .svg or .png, got {options.out}")
    write(options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
