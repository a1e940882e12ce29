"""Diagnose and mend a Keras model: `python -m bnlab.doctor MODEL --data DATA`.

Is there a gap between training and inference, where does it come from, what is its cause, what mends it?
Exit status: 0 healthy or nothing to examine, 1 sick, 2 could not tell or bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab.errors import first_line, said

if TYPE_CHECKING:
    from bnlab.doctor.diagnosis import Diagnosis

EXPERIMENT = "bnlab doctor"
_DATA = (
    "FILE.npz with x_train, y_train, x_test, y_test (all but the first optional), FILE.npy of inputs, mnist, "
    "cifar, or module:function that returns arrays or a tf.data.Dataset"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Diagnose by command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.schema:
        from bnlab.doctor.schema import as_text

        print(as_text(), end="")
        return 0
    try:
        _check(options)
        diagnosis = _diagnosed(options)
        _show(diagnosis, options)
    except Exception as error:  # status 1 would say that the model is sick
        if os.environ.get("BNLAB_TRACEBACK"):
            raise
        print(f"bnlab: {_told(error)}", file=sys.stderr)
        return 2
    return diagnosis.status


def _check(options: argparse.Namespace) -> None:
    """Check what can be checked before the work."""
    from bnlab.doctor.data import DataError
    from bnlab.kerasfile import KerasFileError, check_name

    if options.model is None or options.data is None:
        raise KerasFileError("a model and its data are needed: bnlab-doctor MODEL.keras --data data.npz")
    if options.mend is not None:
        check_name(options.mend)
        if options.mend.exists() and options.model.exists() and options.mend.samefile(options.model):
            raise KerasFileError(f"--mend must name another file than the model, got {options.mend}")
    elif options.remedy is not None:
        raise DataError("--remedy says what --mend OUT.keras writes, and --mend is not given")
    if options.track is not None:
        from bnlab.track.connect import connect

        connect(options.track, EXPERIMENT)


def _diagnosed(options: argparse.Namespace) -> Diagnosis:
    """Read, examine, and mend if that is asked for."""
    from bnlab import machine
    from bnlab.doctor.data import read

    data = read(options.data)
    machine.tensorflow(whole=True)
    from bnlab.doctor.examination import examined
    from bnlab.doctor.fitting import fits
    from bnlab.doctor.models import open_any

    model, facts = open_any(options.model, options.custom, options.builder, data.x_train)
    data = fits(data, model)
    found = examined(model, data, batch_size=options.batch_size, samples=options.samples, facts=facts)
    diagnosis = replace(
        found.diagnosis,
        notes=(*data.notes, *found.diagnosis.notes),
        command=_command(options) if found.best else "",
        versions=machine.versions(),
    )
    if options.mend is None:
        return diagnosis
    from bnlab.doctor.mend import mend, refused

    if why := refused(found, options.remedy):
        return replace(diagnosis, notes=(*diagnosis.notes, f"not mended: {why}"))
    mended, note = mend(
        options.model, options.mend, model, found, data, options.remedy,
        reopen=lambda path: open_any(path, options.custom).model,
    )  # fmt: skip
    return replace(diagnosis, mended=mended, notes=(*diagnosis.notes, *([note] if note else [])))


def _command(options: argparse.Namespace) -> str:
    """Say how the best remedy is written into a copy of the model."""
    words = [str(options.model), "--data", options.data]
    for flag in ("custom", "builder", "batch_size", "samples"):
        value = getattr(options, flag)
        for own in value if isinstance(value, list) else [] if value is None else [value]:
            words += [f"--{flag.replace('_', '-')}", str(own)]
    out = options.mend or options.model.with_name(f"{options.model.name.partition('.')[0]}-mended.keras")
    return "bnlab-doctor " + shlex.join([*words, "--mend", str(out)])


def _show(diagnosis: Diagnosis, options: argparse.Namespace) -> None:
    """Give the diagnosis in every form that is asked for."""
    if options.json != "-":
        from rich.console import Console

        from bnlab.doctor.page import show

        show(diagnosis, Console(highlight=False))
    if options.json is not None:
        _write_json(diagnosis, options.json)
    written = [options.pdf] if options.pdf else []
    if options.pdf:
        from bnlab.report.diagnosis import write_diagnosis

        write_diagnosis(diagnosis.as_dict(), options.pdf, datetime.now(UTC))
    if options.track:
        from bnlab.track.diagnosis import log_diagnosis

        log_diagnosis(diagnosis.as_dict(), options.track, EXPERIMENT, written)


def _write_json(diagnosis: Diagnosis, place: str) -> None:
    text = json.dumps(diagnosis.as_dict(), indent=1) + "\n"
    if place == "-":
        print(text, end="")
        return
    from bnlab.files import replacing

    with replacing(Path(place), "w") as file:
        file.write(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bnlab-doctor",
        description=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        nargs="?",
        help=".keras, .h5, .weights.h5, checkpoint, SavedModel",
    )
    parser.add_argument("--data", metavar="DATA", help=_DATA)
    parser.add_argument(
        "--custom",
        metavar="MODULE:NAME",
        action="append",
        default=[],
        help="a class or function that the model asks for",
    )
    parser.add_argument(
        "--builder", metavar="MODULE:FUNCTION", help="builds the model, where the file has weights only"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=_positive, help="samples per batch in training (default 32)"
    )
    parser.add_argument(
        "--samples",
        metavar="N",
        type=_positive,
        help="most samples to estimate from and to score on (default: up to 1,024)",
    )
    parser.add_argument(
        "--mend",
        metavar="OUT.keras",
        type=Path,
        help="write the model with other statistics, nothing else changed",
    )
    parser.add_argument(
        "--remedy", metavar="NAME", help="which statistics --mend writes (default: the best one)"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write the diagnosis as JSON, to the terminal in place of the page",
    )
    parser.add_argument("--pdf", metavar="FILE", type=Path, help="write the diagnosis as a PDF")
    parser.add_argument("--track", metavar="URI", help="log the diagnosis to MLflow")
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON schema of a diagnosis, and do nothing else"
    )
    return parser


def _positive(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {word}")
    return value


def _told(error: Exception) -> str:
    """Say what went wrong: bnlab's own errors are a line each, others are not meant to happen."""
    if isinstance(error, OSError) or type(error).__module__.startswith("bnlab."):
        return said(error)
    what = f"{type(error).__name__}: {first_line(error)[:200]}"
    return f"the examination failed, {what}; BNLAB_TRACEBACK=1 shows where"


if __name__ == "__main__":
    sys.exit(main())
