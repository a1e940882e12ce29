"""Stored readings become tables, one finding in words, pictures, and a PDF worth handing round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnlab.report.pdf import write

__all__ = ["write"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """`write` on first use: a terminal that wants only the tables loads neither matplotlib nor Typst."""
    if name == "write":
        from bnlab.report.pdf import write

        return write
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
