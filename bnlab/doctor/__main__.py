"""Diagnose and mend a Keras model: `python -m bnlab.doctor MODEL --data DATA`.

Is there a gap between training and inference, where does it come from, what is its cause, what mends it?
Exit status: 0 healthy or nothing to examine, 1 sick, 2 could not tell or bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab.records import said

if TYPE_CHECKING:
    pass

_DATA = (
    "FILE.npz with x_train, y_train, x_test, y_test (all but the first optional), FILE.npy of inputs, mnist, cifar, or "
    "module:function that returns arrays or a tf.data.Dataset"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Diagnose by command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    if options.schema:
        from bnlab.doctor.schema import as_text

        print(as_text(), end="")
        return 0
    try:
        return _examine(options)
    except _known_errors() as error:
        print(f"bnlab: {said(error)}", file=sys.stderr)
        return 2


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


def _known_errors() -> tuple[type[Exception], ...]:
    from bnlab.doctor.data import DataError
    from bnlab.doctor.mend import MendError
    from bnlab.doctor.scoring import ScoringError
    from bnlab.kerasfile import KerasFileError
    from bnlab.settings import SettingsError

    return DataError, MendError, ScoringError, KerasFileError, SettingsError, OSError
