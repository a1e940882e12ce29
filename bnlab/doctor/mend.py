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


def chosen(found: Examination, remedy: str | None) -> str:
    """Choose the remedy to write: the one that is asked for, or the best that looks at training data alone.

    Raises:
        MendError: there is none that mends the model, or not the one that is asked for.
    """
    diagnosis = found.diagnosis
    if remedy is not None and remedy not in found.mendings:
        known = ", ".join(found.mendings) or "none, for nothing is sick"
        raise MendError(f"--remedy must be one that was tried ({known}), got {remedy}")
    if diagnosis.verdict != "sick":
        raise MendError(f"there is nothing to mend: the verdict is {diagnosis.verdict}")
    if (name := remedy or found.best) is None:
        raise MendError(f"no other statistics mend this model, so nothing is written: {_why(diagnosis)}")
    return name


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
        remedy: which to write; None: the best.
        reopen: opens a file that was written.

    Returns:
        The gaps before and after, and a note where more than statistics had to change.

    Raises:
        MendError: nothing mends it.
        KerasFileError: it cannot be written.
    """
    name = chosen(found, remedy)
    note = rewrite(source, out, model, found.mendings[name])
    after = measured(reopen(out), data, found.batch_size, found.samples)
    return Mended(str(out), name, found.diagnosis.gaps, after), note


def _why(diagnosis: Diagnosis) -> str:
    return diagnosis.causes[0].cure if diagnosis.causes else "none of those that were tried helps"
