"""Statistics as text: `python -m bnlab.statistics export MODEL.keras FOLDER`, and `import` them again.

Moving mean, moving variance, gamma and beta of every batch normalization layer are one text file each,
`<layer>.<variable>.txt`: numbers separated by `;`, with all the digits that bring back the same bits. Any
editor or other program can read and change them; `bnlab.text` has the rules.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab import machine
from bnlab.checkpoint import CheckpointError
from bnlab.errors import said
from bnlab.export import ExportError, exported
from bnlab.kerasfile import KerasFileError, check_name, open_model, write_model
from bnlab.store import Folder
from bnlab.text import StatisticsError, export_statistics, import_statistics

if TYPE_CHECKING:
    import keras

# Of a checkpoint's moving statistics, unless another one is asked for.
DECAY = 0.99


def model_at(path: Path, decay: float | None = None) -> keras.Model:
    """Open a Keras model, or build that of a trial's checkpoint with the statistics of a decay.

    Args:
        path: `<name>.keras`, or `<store>/trials/<identity>/checkpoints/<step>.npz`.
        decay: of a checkpoint's moving statistics, in [0, 1); a model has its own.

    Raises:
        StatisticsError: a checkpoint without its trial, whose tape its moving statistics are made from.
        CheckpointError, ExportError, KerasFileError: it cannot be read.
    """
    if path.suffix != ".npz":
        if decay is not None:
            raise StatisticsError(f"--decay is for a checkpoint, a model has its own statistics; got {path}")
        return open_model(path)
    path = path.resolve()
    folder = Folder(path.parent.parent)
    at_home = path.stem.isdigit() and path == folder.checkpoint(int(path.stem))
    if not (at_home and (folder.path / "trial.json").is_file()):
        raise StatisticsError(
            f"{path} must be a checkpoint in its trial's folder, <trial>/checkpoints/<step>.npz, where the "
            "tape is that its moving statistics are made from"
        )
    return exported(folder, DECAY if decay is None else decay, int(path.stem))


def main(arguments: list[str] | None = None) -> int:
    """Export or import by command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (StatisticsError, KerasFileError, ExportError, CheckpointError, OSError) as error:
        print(f"bnlab: {said(error)}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnlab.statistics", description=__doc__.split("\n\n")[1])
    ways = parser.add_subparsers(required=True, metavar="export|import")
    way = ways.add_parser("export", help="write statistics as text")
    way.add_argument("model", metavar="MODEL", type=Path, help="a .keras model, or a trial's checkpoint .npz")
    way.add_argument("folder", metavar="FOLDER", type=Path, help="where the text files go")
    way.add_argument("--decay", type=float, help=f"of a checkpoint's statistics (default {DECAY})")
    way.set_defaults(run=_export)
    way = ways.add_parser("import", help="put statistics from text into a model")
    way.add_argument("folder", metavar="FOLDER", type=Path, help="text files, all of the model's")
    way.add_argument("model", metavar="MODEL.keras", type=Path, help="a saved Keras model; it is not changed")
    way.add_argument("out", metavar="OUT.keras", type=Path, help="file to write")
    way.set_defaults(run=_import)
    return parser


def _export(options: argparse.Namespace) -> None:
    machine.configure("cpu", threads=1)
    files = export_statistics(model_at(options.model, options.decay), options.folder)
    print(f"{options.folder}: {len(files)} files")


def _import(options: argparse.Namespace) -> None:
    check_name(options.out)
    machine.configure("cpu", threads=1)
    model = open_model(options.model)
    import_statistics(model, options.folder)
    write_model(model, options.out)
    print(f"{options.out}: statistics of {options.folder}")


if __name__ == "__main__":
    sys.exit(main())
