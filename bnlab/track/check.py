"""What a server holds is checked before anything is made of it: it may be shared, and damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from mlflow.entities import Run
from pydantic import ValidationError

from bnlab.errors import first_line
from bnlab.records import CLUES, Clue, Reading, Sweep
from bnlab.science.histogram import KINDS, Histogram, LayerHistogram
from bnlab.track.connect import TrackingError

Record = TypeVar("Record", Sweep, Reading, Clue, LayerHistogram, Histogram)

# More than anybody counts to, and exact as a float.
_MANY = 2**53


@contextmanager
def checked(what: str, run: Run) -> Iterator[None]:
    """Turn whatever damage raises into one line that names what is damaged."""
    try:
        yield
    except Exception as error:  # the file may hold anything, and a server may answer anything
        raise TrackingError(f"{what} of run {run.info.run_id} is damaged: {why(error)[:200]}") from error


def why(error: Exception) -> str:
    """Say in one line what is wrong with a record."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))} {first['msg']}".strip()
    return f"no {error}" if isinstance(error, KeyError) else first_line(error)


def sound(sweep: Sweep) -> Sweep:
    """Check of a sweep what types do not tell."""
    rules = {
        "started": datetime.fromisoformat(sweep.started).year > 1,
        "seconds": 0 <= sweep.seconds < math.inf,
        "trained": 0 <= sweep.trained <= len(sweep.trials),
        "decays": all(0 <= decay < 1 for decay in sweep.decays),
        "measured": set(sweep.trials) <= sweep.measured.keys(),
        "samples": 0 <= sweep.samples < _MANY,
        "layers": all(1 <= calls < _MANY for own in sweep.layers.values() for _, calls in own),
    }
    return _holding(sweep, rules)


def possible(reading: Reading) -> Reading:
    """Check that a reading can have been made: counts of a run's size, phase false at a decay."""
    counts = ("step", "samples_seen", "eval_batch_size", "images")
    rules = {name: 1 <= getattr(reading, name) < _MANY for name in counts}
    rules["decay"] = reading.phase if reading.decay is None else 0 <= reading.decay < 1
    return _holding(reading, rules)


def stated(clue: Clue) -> Clue:
    """Check that a clue can have been found."""
    counts = ("step", "eval_batch_size", "images", "samples")
    rules = {name: 1 <= getattr(clue, name) < _MANY for name in counts}
    rules |= {"kind": clue.kind in CLUES, "decay": clue.decay is None or 0 <= clue.decay < 1}
    return _holding(clue, rules)


def counted(row: LayerHistogram) -> LayerHistogram:
    """Check that a histogram can have been counted."""
    own = row.histogram
    _holding(row, {"step": 1 <= row.step < _MANY, "kind": row.kind in KINDS})
    counts = all(0 <= count < _MANY for count in (*own.counts, own.not_finite))
    _holding(own, {"counts": counts, "low": not own.n or -math.inf < own.low <= own.high < math.inf})
    return row


def _holding(record: Record, rules: Mapping[str, bool]) -> Record:
    """Give a record back whose values keep their rules.

    Raises:
        ValueError: one of them does not.
    """
    if broken := [name for name, holds in rules.items() if not holds]:
        raise ValueError(f"{broken[0]} cannot be {str(getattr(record, broken[0]))[:80]}")
    return record


def count(text: str | int) -> int:
    """Read a number of things.

    Raises:
        ValueError: it cannot be one.
    """
    if not 0 <= int(text) < _MANY:
        raise ValueError(f"a trial cannot have {str(text)[:80]}")
    return int(text)
