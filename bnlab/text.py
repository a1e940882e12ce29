"""Statistics as text: every variable of a batch normalization layer is one file that anybody can edit.

Moving mean, moving variance, gamma and beta go to `<layer>.<variable>.txt`: numbers separated by `;`, with
all the digits that bring back the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bnlab.files import replacing

if TYPE_CHECKING:
    import keras

# More than any number takes, spaces and lines around it included.
_MOST_BYTES = 4096
VARIABLES = ("moving_mean", "moving_variance", "gamma", "beta")


class StatisticsError(Exception):
    """Statistics cannot be written or read; the message is one line that names the file."""


def as_text(values: np.ndarray) -> str:
    r"""Write numbers with so many digits that reading them gives the same bits.

    Nine digits are within 5e-9 of a float32, relatively, and its neighbours are at least 6e-8 away, so that
    reading finds it even by way of a double. A float64 takes 17.

    >>> as_text(np.array([0.5, 1 / 3], np.float32))
    '0.5;0.333333343\n'
    """
    digits = 17 if values.dtype == np.float64 else 9
    return ";".join(f"{value:.{digits}g}" for value in values.tolist()) + "\n"


def export_statistics(model: keras.Model, folder: Path) -> list[Path]:
    """Write the statistics of every batch normalization layer of a model, one file per variable.

    Args:
        model: any built Keras model.
        folder: made if missing; files of the same names are replaced.

    Returns:
        The files written.

    Raises:
        StatisticsError: the model has no such layer, two of one name, or the folder holds other files.
    """
    variables = _variables(model)
    if folder.exists() and not folder.is_dir():
        raise StatisticsError(f"{folder} must be a folder, and it is a file")
    if folder.exists():
        _check_known(folder, variables)
    for name, variable in variables.items():
        with replacing(folder / name, "w") as file:
            file.write(as_text(np.asarray(variable)))
    return [folder / name for name in variables]


def import_statistics(model: keras.Model, folder: Path) -> None:
    """Read the statistics of every batch normalization layer of a model from a folder, all or none.

    Args:
        model: any built Keras model; it changes only if every file is right.
        folder: holds one file per variable, as `export_statistics` writes them, and no others. A `;` at a
            file's end is allowed, and so are spaces and lines around numbers.

    Raises:
        StatisticsError: a file is missing, belongs to no variable, holds too few or too many numbers, or
            one that cannot be: not a number, infinite, or a negative variance.
    """
    variables = _variables(model)
    if not folder.is_dir():
        raise StatisticsError(f"{folder} must be a folder of statistics, and there is none")
    _check_known(folder, variables)
    values = {name: _read(folder / name, variable) for name, variable in variables.items()}
    for name, variable in variables.items():
        variable.assign(values[name])
    for layer in _layers(model):
        if layer.renorm:  # its moving variance is made from the deviation, when training goes on
            layer.moving_stddev.assign(np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon))


def _layers(model: keras.Model) -> list[Any]:
    from bnlab.science.probe import normalization_layers

    try:
        found = normalization_layers(model)
    except ValueError as error:
        raise StatisticsError(str(error)) from None
    if not found:
        raise StatisticsError(f"{model.name} must have batch normalization layers, and it has none")
    return found


def _variables(model: keras.Model) -> dict[str, Any]:
    """Name the file of each variable; a character that a file's name may not have becomes %xx."""
    return {
        f"{quote(layer.name, safe='')}.{name}.txt": variable
        for layer in _layers(model)
        for name in VARIABLES
        if (variable := getattr(layer, name)) is not None
    }


def _check_known(folder: Path, variables: Mapping[str, Any]) -> None:
    for path in sorted(folder.iterdir()):
        if path.name not in variables and not path.name.startswith("."):
            [nearest] = get_close_matches(path.name, variables, 1, 0)
            raise StatisticsError(f"{path} must be named after a variable of the model, such as {nearest}")


def _read(path: Path, variable: Any) -> np.ndarray:  # noqa: ANN401
    """Read the values of one variable, and check that they can be its values."""
    what, wanted = f"{path}: {variable.name}", variable.shape[0]
    if not path.is_file():
        raise StatisticsError(f"{what} must have a file with {wanted} values, and there is none")
    if path.stat().st_size > _MOST_BYTES * (wanted + 1):
        raise StatisticsError(f"{what} must have {wanted} values, got a file of {path.stat().st_size} bytes")
    content = path.read_text("utf-8-sig", errors="replace").strip().removesuffix(";")
    words = content.split(";") if content else []
    if len(words) != wanted:
        raise StatisticsError(f"{what} must have {wanted} values, got {len(words)}")
    numbers = np.array([_number(word, what) for word in words])
    with np.errstate(over="ignore"):  # too large a number becomes infinite, which is refused below
        values = numbers.astype(np.asarray(variable).dtype)
    may = np.isfinite(values) & ((numbers >= 0) | (variable.name != "moving_variance"))
    if not may.all():
        raise StatisticsError(
            f"{what} must be finite, and variances not negative, got {words[np.argmin(may)].strip()[:40]}"
        )
    return values


def _number(word: str, what: str) -> float:
    try:
        # Python takes 1_0 for ten, and digits of every script; no other program does.
        return float(word.strip().replace("_", "x").encode("ascii"))
    except ValueError:
        raise StatisticsError(f"{what} must be numbers separated by ';', got {word.strip()[:40]!r}") from None
