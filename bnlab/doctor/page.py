"""A diagnosis on the terminal: the verdict in a line, and an answer to each of four questions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bnlab.doctor.diagnosis import Diagnosis
from bnlab.report import findings
from bnlab.report.numbers.diagnosis import amount, causes_of, confident, likely, splits
from bnlab.report.words import diagnosis as words

WIDEST = 100
_COLOURS = {"sick": "red", "healthy": "green"}
_LAYERS, _NAME, _BAR, _COMMAND = 8, 34, 22, 72
"""As many layers are shown, with names, bars and lines of a command so long."""
_BARE = str.maketrans("±–−█│…•", "~--#|.*")


_LEFT_OUT = (*findings.SETTINGS, "outputs differ", "log variance")


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print a diagnosis; where the terminal's encoding lacks a character, another stands for it."""
    with console.capture() as captured:
        console.print(page(diagnosis), crop=False)
    encoding = console.encoding or "utf-8"
    text = captured.get()
    if not encoding.startswith("utf"):
        text = text.translate(_BARE).encode(encoding, "replace").decode(encoding)
    console.file.write(re.sub(r" +$", "", text, flags=re.MULTILINE))


def page(diagnosis: Diagnosis) -> RenderableType:
    """Lay a diagnosis out for a terminal of 80 columns or more."""
    found = diagnosis.as_dict()
    style = f"bold {_COLOURS.get(diagnosis.verdict, 'yellow')}"
    parts = [Text(_legible(words.headline(found)), style), *_body(found), *_notes(found)]
    return Constrain(Group(*parts), WIDEST)


def _body(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Say as much as the verdict calls for."""
    sick = found["verdict"] == "sick"
    if not sick:
        yield from map(_line, words.more(found))
    if found["gaps"]:
        yield from _section(words.QUESTIONS[0], _gap(found))
    if sick:
        for question, answer in zip(words.QUESTIONS[1:], (_where, _why, _cure), strict=True):
            yield from _section(question, answer(found))
    elif found["advice"]:
        yield from _section("What now?", iter([_line(found["advice"])]))
    if found["mended"]:
        yield from _section("Mended", _mended(found["mended"]))


def _section(question: str, answer: Iterator[RenderableType]) -> Iterator[RenderableType]:
    yield Text(f"\n{question}", "bold")
    for part in answer:  # padding would cut off what must not be wrapped
        yield part if isinstance(part, Text) and part.no_wrap else Padding(part, (0, 0, 0, 2))


def _gap(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield _table(findings.gaps(found["gaps"]))
    yield from _lines(words.disagreement(found), words.truth(found))


def _where(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Show the parts by cause, then the layers that have most of them."""
    table, [main, *_] = findings.parts(found), [*splits(found["parts"]), ""]
    if table["rows"]:
        values = [amount(own[main]["value"]) if main in own else 0.0 for own in causes_of(found).values()]
        yield _table(table, f"on {main}", [*_bars(values), ""])
        yield from _lines(*words.meanings(found))
    elif found["parts"]:
        yield _line(words.LOST)
    if found["layers"]:
        yield Text()
        yield from _layers(found)


def _layers(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    rows, rest = findings.worst_layers(found, _LAYERS, _NAME)
    yield _line(f"{words.count(found)}{', the largest parts first' if len(rows) > 1 else ''}:")
    yield _table(findings.layers(rows, _LEFT_OUT))
    if rest:
        yield _line(words.left_over(rest))


def _why(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Rank the causes, with what speaks for each and what would confirm it."""
    main, others = likely(found)
    for cause in main:
        yield _hanging(f"{confident(amount(cause['confidence'])):>6}", cause["title"], "bold")
        yield from (_hanging("-", sentence, indent=7) for sentence in cause["evidence"])
        yield from (
            _hanging(f"{name}:", cause[name], indent=7) for name in ("confirm", "cure") if cause[name]
        )
    yield from _lines(words.nothing_else(found), words.unlikely(others), words.unknown(found))


def _cure(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    if found["remedies"]:
        yield _table(findings.remedies(found, once=True))
    yield from _lines(found["advice"])
    if found["command"]:
        yield _command(found["command"])


def _mended(mended: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield _line(f"{mended['path']} holds {mended['remedy']} statistics; measured on that file:")
    yield _table(findings.mended(mended["before"], mended["after"]))


def _notes(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    looked = words.examined(found)
    if looked or found["notes"]:
        yield Text()
    yield from (_hanging("note:", note, "yellow") for note in found["notes"])
    if looked:
        yield Text(_legible(looked), "dim")


def _table(table: Mapping[str, Any], last: str = "", cells: Sequence[str] = ()) -> Table:
    """Draw a table; `cells` are those of one more column, the `last`."""
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, side in zip(table["head"], table["align"], strict=True):
        drawn.add_column(name.strip(), justify=side, overflow="fold", no_wrap=side == "right")
    if last:
        drawn.add_column(last, no_wrap=True)
    ends = [[Text(cell)] for cell in cells] or [[] for _ in table["rows"]]
    for row, end in zip(table["rows"], ends, strict=True):
        drawn.add_row(*(Text(_legible(cell)) for cell in row), *end)
    return drawn


def _bars(values: Sequence[float]) -> list[str]:
    """Draw numbers as bars from one line, to the left of it where they are negative.

    >>> _bars([2.0, -1.0, 0.0])
    ['       │██████████████', '███████│', '       │']
    """
    known = [value if abs(value) < float("inf") else 0.0 for value in values]
    low, high = min(0.0, *known), max(0.0, *known)
    scale = (_BAR - 1) / ((high - low) or 1.0)
    left = round(-low * scale)
    return [
        f"{'█' * round(max(0.0, -value) * scale):>{left}}│{'█' * round(max(0.0, value) * scale)}"
        for value in known
    ]


def _line(text: str) -> Text:
    return Text(_legible(text))


def _lines(*texts: str) -> Iterator[RenderableType]:
    return (_line(text) for text in texts if text)


def _hanging(mark: str, text: str, style: str = "", indent: int = 0) -> RenderableType:
    """Put a mark before a paragraph whose further lines stand beside it, not below."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style), Text(_legible(text), style))
    return Padding(grid, (0, 0, 0, indent))


def _command(command: str) -> Text:
    """Break a command only before an option, where a shell goes on reading."""
    lines = [""]
    for part in re.split(r" (?=--)", _legible(command)):
        fits = len(lines[-1]) + len(part) < _COMMAND
        lines[-1:] = [f"{lines[-1]} {part}".strip()] if fits or not lines[-1] else [lines[-1], part]
    return Text("    " + " \\\n      ".join(lines), no_wrap=True, overflow="ignore")


def _legible(text: str) -> str:
    r"""Show by its number what a terminal would obey or cannot show.

    >>> _legible("norm\x1b[31m")
    'norm\\x1b[31m'
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in " ".join(text.splitlines()))
