"""Fetch what somebody names as `module:name`: a class, or a function of theirs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from bnlab.errors import first_line


class NamedError(Exception):
    """What was named cannot be fetched; the message is one line that begins with the flag."""


def fetch(word: str, flag: str) -> Any:  # noqa: ANN401
    """Import what `module:name` names; the current folder is searched first, as `python -m` does.

    Args:
        word: such as `my_models:build`, or `package.module:Class`.
        flag: that it was given with, for the message.

    Raises:
        NamedError: it has another form, the module cannot be imported, or lacks the name.

    >>> fetch("math:sqrt", "--custom")(9.0)
    3.0
    """
    module, _, name = word.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise NamedError(f"{flag} must be module:name, such as my_models:build, got {word}")
    _search_here()
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise NamedError(f"{flag} {word}: module {module} has no {name}; check the name") from None
    except (Exception, SystemExit) as error:  # a module of theirs may stumble on anything
        raise NamedError(f"{flag} {word}: {module} cannot be imported: {_said(error)}") from None


def call(word: str, flag: str) -> Any:  # noqa: ANN401
    """Call a function of theirs without arguments.

    Raises:
        NamedError: it cannot be fetched, is no function, or fails.
    """
    function = fetch(word, flag)
    if not callable(function):
        raise NamedError(f"{flag} {word} must be a function, got a {type(function).__name__}")
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise NamedError(f"{flag} {word} fails: {_said(error)}") from None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"[:300]


def _search_here() -> None:
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
