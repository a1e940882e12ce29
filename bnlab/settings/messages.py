"""The one line that a person reads when a setting is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from bnlab.errors import said


class SettingsError(Exception):
    """A setting is unknown or out of range; the message is one line for a person."""


_PHRASES = {
    "Input should be": "must be",
    "Field required": "is missing",
    "String should match": "must match",
    "Value should have at least 1 item after validation, not 0": "must have at least one value",
}


def short(text: str, most: int = 300) -> str:
    """Cut a text that a file or command line brought to what fits into a line.

    >>> short("batch_size"), short("batch_size", 6)
    ('batch_size', 'batch…')
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(word: str, choices: Sequence[str]) -> str:
    """Phrase a suggestion: the nearest valid word, or all of them."""
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid are: {', '.join(sorted(choices))}"


def one_line(error: ValidationError, keys: Sequence[str]) -> str:
    """Say of the first error: the key, the rule, the value received; and how many more there are."""
    first, *more = error.errors(include_url=False)
    text = short(said(_described(first, keys)), 600)
    return f"{text} (and {len(more)} more)" if more else text


def _described(error: Any, keys: Sequence[str]) -> str:  # noqa: ANN401
    """Turn one pydantic error into: key, rule, value received."""
    key = ".".join(str(part) for part in _without_tag(error["loc"]) if not isinstance(part, int))
    if error["type"] == "extra_forbidden":
        group = ".".join(map(str, error["loc"][:-1])).replace(".", "=")
        hint = "remove it" if group else nearest(key, keys)
        return f"{key} is not a setting{' of ' + group if group else ''}; {hint}"
    if error["type"] == "value_error":
        rule = str(error["ctx"]["error"])
        return (
            rule
            if rule.startswith(
                ("at most", "adam", "norm.", "task.", "measure.", "report.", "fault", "train.", "device.")
            )
            else f"{key} {rule}"
        )
    rule = error["msg"]
    for theirs, ours in _PHRASES.items():
        rule = rule.replace(theirs, ours)
    return f"{key} {rule}, got {short(repr(error['input']))}"


def _without_tag(location: tuple) -> tuple:
    """Drop the name that pydantic puts into the path of a normalizer's or fault's options."""
    return (location[0], *location[2:]) if location[:1] in (("norm",), ("fault",)) else location
