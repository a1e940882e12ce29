"""Write a mended model: the same file with other statistics, measured again as it was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnlab.doctor.diagnosis import Diagnosis, Mended
from bnlab.doctor.examination import Examination, measured
from bnlab.doctor.rewrite import rewrite

if TYPE_CHECKING:
    import keras


class MendError(Exception):
    """A model cannot be mended by other statistics; the message is one line."""


def refused(found: Examination, remedy: str | None) -> str:
    """Say why nothing is written, or nothing where something is.

    Raises:
        MendError: the remedy that is asked for was not tried.
    """
    diagnosis = found.diagnosis
    if diagnosis.verdict != "sick":
        return f"the verdict is {diagnosis.verdict}, and nothing is written"
    if remedy is not None and remedy not in found.mendings:
        raise MendError(f"--remedy must be one that was tried ({', '.join(found.mendings)}), got {remedy}")
    if remedy is None and found.best is None:
        why = _why(diagnosis)
        return f"no statistics of the training data mend these weights, and nothing is written; {why}"
    return ""


def mend(
    source: Path, out: Path, model: keras.Model, found: Examination, data: Any, remedy: str | None,  # noqa: ANN401
    reopen: Callable[[Path], keras.Model],
) -> tuple[Mended, str | None]:  # fmt: skip
    """Write a model with the statistics of a remedy, open what was written, and measure it.

    Args:
        source: the model's file; a `.keras` file is copied but for its moving statistics.
        out: file to write, ending in `.keras`.
        model: as it was examined.
        found: of its examination.
        data: that it was examined on.
        remedy: which to write, one that `refused` lets pass; None: the best.
        reopen: opens a file that was written.

    Returns:
        The gaps before and after, and a note where more than statistics had to change.

    Raises:
        KerasFileError: it cannot be written.
    """
    name = remedy or found.best
    assert name is not None  # see `refused`
    note = rewrite(source, out, model, found.mendings[name])
    after = measured(reopen(out), data, found.batch_size, found.samples)
    return Mended(str(out), name, found.diagnosis.gaps, after), note


def _why(diagnosis: Diagnosis) -> str:
    return diagnosis.causes[0].cure if diagnosis.causes else "none of those that were tried helps"
