"""Errors as a person reads them: in one line."""

from __future__ import annotations


def named(error: Exception) -> str:
    """Cut an error down to one line, behind its kind where it is none of bnlab's own."""
    own = type(error).__module__.startswith("bnlab")
    return first_line(error) if own else f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Cut an error down to the line that a person reads."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def said(error: BaseException | str) -> str:
    r"""Put an error on one line, whatever name of a file or layer it repeats.

    >>> said(ValueError("no file a\nb"))
    'no file a b'
    """
    return " ".join("".join(sign if sign.isprintable() else " " for sign in str(error)).split())
