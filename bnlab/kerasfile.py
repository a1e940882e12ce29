"""Keras model files from anywhere: opened without running code of theirs, written whole or not at all."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab.files import replacing
from bnlab.records import first_line

if TYPE_CHECKING:
    import keras


class KerasFileError(Exception):
    """A model file cannot be opened or written; the message is one line that names it."""


def open_model(path: Path) -> keras.Model:
    """Open a saved model of stock Keras layers, without its optimizer and loss.

    Raises:
        KerasFileError: there is no such file, or Keras cannot make a model of it.
    """
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file"
        raise KerasFileError(f"{path} must be a saved Keras model, and {there}")
    if not zipfile.is_zipfile(path):
        raise KerasFileError(f"{path} must be a saved Keras model, and it is no .keras file")
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # the file may hold anything, and Keras raises whatever it stumbles on
        raise KerasFileError(f"{path} cannot be opened as a Keras model: {first_line(error)[:200]}") from None


def check_name(path: Path) -> None:
    """Check the place of a file to write, before the work that it is for.

    Raises:
        KerasFileError: it does not end in `.keras`, is a folder, or cannot lie where it is to.
    """
    if path.suffix != ".keras":
        raise KerasFileError(f"the file to write must end in .keras, got {path}")
    if path.is_dir():
        raise KerasFileError(f"the file to write must not be a folder, got {path}")
    if any(parent.exists() and not parent.is_dir() for parent in path.parents):
        raise KerasFileError(f"the file to write must lie in a folder, got {path}")


def write_model(model: keras.Model, path: Path) -> None:
    """Write a model; whoever opens the file meanwhile gets the old one or the new one, never a part.

    Raises:
        KerasFileError: the name does not end in `.keras`.
    """
    check_name(path)
    with tempfile.TemporaryDirectory() as folder, replacing(path) as file:
        whole = Path(folder) / "model.keras"
        model.save(whole)
        file.write(whole.read_bytes())
