"""What a doctor's diagnosis holds, in the order and with the digits that a terminal and a PDF both show.

All takes `found`, a diagnosis as plain values: in it a number may be missing, and infinity is a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.tables import ROUNDING, number

Found = Mapping[str, Any]
HIGHER = ("accuracy", "agreement")
"""The metrics of which more is better."""
METRICS = (*HIGHER, "rmse", "loss")
"""Known metrics, that which says most first."""
SPLITS = ("test", "train")
"""That which matters most first."""
LIKELY = 0.05
"""A cause below this confidence is only named."""
NOTHING = "–"


def amount(value: float | str | None) -> float:
    """Read a number; NaN where there is none.

    >>> amount(0.5), amount("-inf"), amount(None)
    (0.5, -inf, nan)
    """
    return math.nan if value is None else float(value)


def written(values: Iterable[float]) -> Callable[..., str]:
    """Choose how numbers that belong together are written: three or four digits for the largest of them.

    Returns:
        A function of a number, and of whether it is `signed`.

    >>> write = written([0.8203, 12.345])
    >>> write(12.345), write(0.8203, signed=True), write(math.nan), write(-math.inf)
    ('12.35', '+0.82', '–', '-inf')
    >>> written([0.95])(0.95), written([0.082])(0.082)
    ('0.9500', '0.0820')
    >>> written([3.25e9])(3.25e9), written([0.0])(0.0)
    ('3.25e+09', '0.0000')
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    power = math.floor(math.log10(largest)) if largest else -1
    decimals = max(0, 3 - power if power >= -1 else 2 - power)

    def write(value: float, signed: bool = False) -> str:
        if math.isnan(value):
            return NOTHING
        if math.isfinite(value) and not -5 <= power <= 6:
            return f"{value:{'+' if signed else ''}.3g}"
        return number(value, decimals, signed)

    return write


def brief(value: float) -> str:
    """A number in a sentence: three digits, more of large ones.

    >>> brief(0.82), brief(0.95136), brief(1234.5), brief(math.nan)
    ('0.82', '0.951', '1234', 'not a number')
    """
    if math.isnan(value):
        return "not a number"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def confident(share: float) -> str:
    """A confidence in per cent, never quite 0 or 100 unless it is.

    >>> confident(0.914), confident(0.002), confident(0.998)
    ('91 %', '< 1 %', '> 99 %')
    """
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 < share < 1 else percent(share)


def worse(gap: Mapping[str, Any]) -> int:
    """Tell whether moving statistics do worse (1) or better (-1) beyond two standard errors, or as well (0).

    A metric that is lost with moving statistics alone is worse.
    """
    value, error = amount(gap["gap"]), amount(gap["standard_error"])
    if not math.isfinite(amount(gap["moving"])) and math.isfinite(amount(gap["batch"])):
        return 1
    if not abs(value) > max(2 * error, ROUNDING):
        return 0
    return 1 if (value < 0) == (gap["metric"] in HIGHER) else -1


def telling(found: Found) -> Mapping[str, Any] | None:
    """Find the gap that says most of those that moving statistics make worse, if there is one."""
    return next((gap for gap in ordered(found["gaps"]) if worse(gap) == 1), None)


def ordered(gaps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort gaps by split, the test data first, and by metric."""
    return sorted(gaps, key=lambda gap: (place(SPLITS, gap["split"]), place(METRICS, gap["metric"])))


def place(known: Sequence[str], name: str) -> int:
    """Say where a name stands among known ones; the unknown stand last."""
    return known.index(name) if name in known else len(known)


def splits(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name the splits that rows are of, the test data first."""
    return sorted({row["split"] for row in rows}, key=lambda split: (place(SPLITS, split), split))


def causes_of(found: Found) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Give the parts by cause and split, the largest on the first split first."""
    by_cause: dict[str, dict[str, Mapping[str, Any]]] = {}
    for part in found["parts"]:
        by_cause.setdefault(part["cause"], {})[part["split"]] = part
    main = splits(found["parts"])

    def size(cause: str) -> float:
        own = next(by_cause[cause][split] for split in main if split in by_cause[cause])
        return _size(own["value"])

    return {cause: by_cause[cause] for cause in sorted(by_cause, key=size, reverse=True)}


def falls(found: Found) -> pd.DataFrame:
    """Follow the RMSE of each split from moving to batch statistics, link by link of the chain.

    Returns:
        Columns split, cause, `before` and `after` the cause is taken away, and `true`, the RMSE at the end.

    """
    rows = []
    for gap in ordered(found["gaps"]):
        if gap["metric"] != "rmse" or not math.isfinite(amount(gap["moving"])):
            continue
        before, true = amount(gap["moving"]), amount(gap["batch"])
        own = [part for part in found["parts"] if part["split"] == gap["split"]]
        for part in own if all(math.isfinite(amount(part["value"])) for part in own) else ():
            after = before - amount(part["value"])
            rows.append((gap["split"], part["cause"], before, after, true))
            before = after
    return pd.DataFrame(rows, columns=["split", "cause", "before", "after", "true"])


def by_size(found: Found) -> list[Mapping[str, Any]]:
    """Sort layers by their part of the gap, else by their statistics' distance; frozen ones stand last."""
    first = next((name for name in ("part", "kl", "output") if _any(found["layers"], name)), "part")
    return sorted(found["layers"], key=lambda layer: _size(layer[first]), reverse=True)


def _any(rows: Iterable[Mapping[str, Any]], name: str) -> bool:
    return any(row[name] is not None for row in rows)


def _size(value: float | str | None) -> float:
    size = abs(amount(value))
    return -1.0 if math.isnan(size) else size


def likely(found: Found) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Part the causes into those to tell of and those only to name."""
    causes = found["causes"]
    return (
        [cause for cause in causes if amount(cause["confidence"]) >= LIKELY],
        [cause for cause in causes if not amount(cause["confidence"]) >= LIKELY],
    )


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Shorten names, where one is too long, by what all of them share, and then each in its middle.

    >>> shortened(["net/block_1/conv_norm", "net/block_2/conv_norm"], 16)
    ['…block_1…', '…block_2…']
    >>> shortened(["net/a", "a name that is far too long"], 12)
    ['net/a', 'a nam…o long']
    """
    if max(map(len, names), default=0) <= most:
        return list(names)
    start = _shared(names).rpartition("/")[0]
    ends = _shared([name[: len(start) : -1] for name in names])[::-1]
    end = ends[ends.find("/") :] if "/" in ends else ""
    if len(names) < 2 or len(start) + len(end) < 3:
        start = end = ""
    return [_cut(_bare(name, start and f"{start}/", end), most) for name in names]


def _shared(names: Sequence[str]) -> str:
    """The beginning that names share: all lie between the first and the last of them."""
    first, last = min(names), max(names)
    return first[: next((at for at, sign in enumerate(first) if sign != last[at : at + 1]), len(first))]


def _bare(name: str, start: str, end: str) -> str:
    core = name.removeprefix(start).removesuffix(end)
    return f"{start and '…'}{core}{end and '…'}"


def _cut(name: str, most: int) -> str:
    half = most // 2
    return name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"


def is_classifier(found: Found) -> bool:
    """Tell whether predictions are classes."""
    return any(gap["metric"] in HIGHER for gap in found["gaps"])
