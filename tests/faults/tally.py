"""The counts of many chains: a line for each, a table of all, a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults.chain import Outcome

_SHOWN = 4
_SUMS = ("kills", "resumes", "lost", "doubled", "differing", "unfinished", "complaints", "strays", "orphans")


@dataclass(frozen=True)
class Row:
    """One chain, counted.

    Attributes:
        chain, kind, optimizer: which.
        shots: those that hit.
        kills, resumes: shots that hit, starts after them.
        lost, doubled, differing: places, against an undisturbed sweep.
        unfinished: 1 if the sweep did not end well however often it was started.
        complaints: times that a command took wrongly what was done to it.
        strays, orphans: files and processes left behind.
        slowest_answer: seconds from Ctrl-C to the end, at most.
        seconds: of the whole chain.
        findings: what was wrong, in words.
    """

    chain: int
    kind: str
    optimizer: str
    shots: str
    kills: int
    resumes: int
    lost: int
    doubled: int
    differing: int
    unfinished: int
    complaints: int
    strays: int
    orphans: int
    slowest_answer: float
    seconds: float
    findings: str

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, doubled or altered."""
        return not (self.lost or self.doubled or self.differing or self.unfinished)


def row(chain: int, kind: str, optimizer: str, outcome: Outcome) -> Row:
    """Count a chain."""
    found = outcome.difference
    return Row(
        chain=chain,
        kind=kind,
        optimizer=optimizer,
        shots=" ".join(shot.name for shot in outcome.hit),
        kills=len(outcome.hit),
        resumes=outcome.starts - 1,
        lost=len(found.lost),
        doubled=len(found.doubled),
        differing=len(found.differing),
        unfinished=int(outcome.unfinished),
        complaints=len(outcome.complaints),
        strays=len(outcome.strays),
        orphans=outcome.orphans,
        slowest_answer=round(max(outcome.answers, default=0.0), 2),
        seconds=round(outcome.seconds, 1),
        findings="; ".join(findings(outcome)),
    )


def findings(outcome: Outcome) -> list[str]:
    """Say what was wrong, the first few of each sort."""
    found = outcome.difference
    lists = {
        "lost": found.lost,
        "doubled": found.doubled,
        "differs": found.differing,
        "stray": outcome.strays,
    }
    words = [f"{word} {text}" for word, texts in lists.items() for text in texts[:_SHOWN]]
    return [*outcome.complaints, *words]


def table(rows: Sequence[Row]) -> str:
    """Sum up by kind, and over all."""
    kinds = dict.fromkeys(row.kind for row in rows)
    lines = [["kind", *_SUMS, "slowest answer", "seconds"]]
    lines += [_sums(kind, [row for row in rows if row.kind == kind]) for kind in kinds]
    lines.append(_sums("all", rows))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _sums(name: str, rows: Sequence[Row]) -> list[str]:
    sums = [str(sum(getattr(row, key) for row in rows)) for key in _SUMS]
    slowest = max((row.slowest_answer for row in rows), default=0.0)
    return [name, *sums, f"{slowest:.1f}", f"{sum(row.seconds for row in rows):.0f}"]


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write a line per chain."""
    with path.open("w", newline="") as file:
        out = csv.DictWriter(file, list(Row.__annotations__), lineterminator="\n")
        out.writeheader()
        out.writerows(asdict(row) for row in rows)
