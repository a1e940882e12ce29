"""How a document becomes a PDF: its words and pictures travel to Typst as data, never as markup."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import typst
from matplotlib.ft2font import FT2Font

from bnlab.report.pictures.drawing import Picture

STYLE = Path(__file__).with_name("style.typ")
# Characters of one text: a page of them.
_LONGEST = 4000


def sources(template: Path) -> dict[str, bytes]:
    """What Typst reads of a document: its pages, and the look that all share."""
    return {"main.typ": template.read_bytes(), STYLE.name: STYLE.read_bytes()}


def compiled(template: Path, content: Mapping[str, Any], moment: datetime) -> bytes:
    """The PDF of a document's data, dated as told and held to PDF/UA-1."""
    return typst.compile(  # type: ignore[call-overload]  # its types do not tell of several files
        sources(template),
        format="pdf",
        sys_inputs={"document": json.dumps(content)},
        ignore_system_fonts=True,
        pdf_standards=["ua-1"],
        timestamp=moment,
    )


def shown(drawn: Mapping[str, Sequence[Picture]]) -> dict[str, Any]:
    """Pictures as a template takes them: SVG, and words that the fonts can show."""
    return {place: [_told(picture) for picture in pictures] for place, pictures in drawn.items()}


def _told(picture: Picture) -> dict[str, str]:
    return asdict(picture) | {"caption": legible(picture.caption), "alt": legible(picture.alt)}


def printable(content: Any) -> Any:  # noqa: ANN401
    """A document's data with every text legible."""
    if isinstance(content, str):
        return legible(content)
    if isinstance(content, dict):
        return {key: printable(value) for key, value in content.items()}
    return [printable(value) for value in content] if isinstance(content, list) else content


def legible(text: str) -> str:
    r"""Text that the report's fonts can show: any other character by its number, for PDF/UA forbids a gap.

    >>> print(legible("naïve → 実 \x00"))
    naïve → \u{5b9f} \u{0}
    """
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(_sign(" " if sign in "\n\r\t" else sign) for sign in shown)


def _sign(sign: str) -> str:
    return sign if sign.isprintable() and ord(sign) in _glyphs() else f"\\u{{{ord(sign):x}}}"


@cache
def _glyphs() -> frozenset[int]:
    """The characters of DejaVu Sans Mono, which Typst and matplotlib both bring along."""
    return frozenset(FT2Font(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSansMono.ttf")).get_charmap())
