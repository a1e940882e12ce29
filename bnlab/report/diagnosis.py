"""A doctor's diagnosis as a PDF, from its plain values: the four questions, then every number behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bnlab.files import replacing
from bnlab.report import findings
from bnlab.report.numbers.diagnosis import Found, amount, causes_of, confident, likely
from bnlab.report.numbers.tables import typeset
from bnlab.report.pictures.diagnosis import layer_bars, waterfall
from bnlab.report.printing import compiled, printable, shown
from bnlab.report.words import diagnosis as words

TEMPLATE = Path(__file__).with_name("diagnosis.typ")
_LAYERS, _NAME, _LONG = 12, 40, 240
"""As many layers stand beside the causes, with names so long; as many characters of a fact."""


def write_diagnosis(found: Found, path: Path, moment: datetime) -> Path:
    """Write the report of a diagnosis, whole or not at all; the same diagnosis gives the same bytes.

    Args:
        found: as from `Diagnosis.as_dict`.
        path: where the PDF goes; its folder is made.
        moment: when the examination was made; without a zone it is UTC.

    Returns:
        The path.

    """
    moment = moment.replace(microsecond=0)  # a PDF counts in seconds
    moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    content = compiled(TEMPLATE, document(found, moment), moment)
    with replacing(path) as file:
        file.write(content)
    return path


def document(found: Found, moment: datetime) -> dict[str, Any]:
    """All that the report shows: strings for the words and tables, SVG for the pictures."""
    told = _verdict(found, moment) | _where(found) | _why(found) | _cure(found) | _appendix(found)
    drawn = {"waterfall": waterfall(found), "layer_bars": layer_bars(found)}
    return printable(told) | shown(drawn)


def _verdict(found: Found, moment: datetime) -> dict[str, Any]:
    name = found["model"].get("name") or found["model"].get("path") or "a model"
    return {
        "title": f"Diagnosis of {name}",
        "date": f"{moment:%Y-%m-%d %H:%M} UTC",
        "verdict": found["verdict"],
        "headline": words.headline(found),
        "summary": words.more(found),
        "questions": list(words.QUESTIONS),
        "examined": words.examined(found),
        "gaps": _typeset(findings.gaps(found["gaps"])),
        "differ": [text for text in (words.disagreement(found), words.truth(found)) if text],
        "notes": list(found["notes"]),
    }


def _where(found: Found) -> dict[str, Any]:
    rows, rest = findings.worst_layers(found, _LAYERS, _NAME)
    table = _typeset(findings.parts(found))
    causes = causes_of(found) if table["rows"] else ()
    return {
        "parts": table,
        "lost": words.LOST if found["parts"] and not causes else "",
        "meanings": [[cause, words.MEANINGS[cause]] for cause in causes if cause in words.MEANINGS],
        "layers": _typeset(findings.layers(rows, findings.SETTINGS)),
        "count": words.count(found) if found["layers"] else "",
        "left_over": words.left_over(rest) if rest else "",
    }


def _why(found: Found) -> dict[str, Any]:
    main, others = likely(found)
    sick = found["verdict"] == "sick"
    return {
        "causes": [_cause(cause) for cause in main],
        "unlikely": words.unlikely(others),
        "unknown": words.unknown(found) if sick else "",
        "no_cause": words.nothing_else(found) if sick else "",
    }


def _cause(cause: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: cause[name] for name in ("title", "confirm", "cure")}
    share = min(1.0, max(0.0, amount(cause["confidence"])))
    return kept | {
        "confidence": confident(share),
        "share": share,
        "evidence": [typeset(sentence) for sentence in cause["evidence"]],
    }


def _cure(found: Found) -> dict[str, Any]:
    kinds = dict.fromkeys(row["name"].partition(" ")[0] for row in found["remedies"])
    mended = found["mended"]
    return {
        "remedies": _typeset(findings.remedies(found)),
        "remedy_meanings": [[kind, words.REMEDIES[kind]] for kind in kinds if kind in words.REMEDIES],
        "advice": found["advice"],
        "command": found["command"],
        "mended": mended and [mended["path"], mended["remedy"]],
        "mended_table": mended and _typeset(findings.mended(mended["before"], mended["after"])),
    }


def _appendix(found: Found) -> dict[str, Any]:
    return {
        "every_layer": _typeset(findings.layers(found["layers"])),
        "model": _facts(found["model"]),
        "data": _facts(found["data"]),
        "evidence": _facts(found["evidence"]),
        "versions": _facts(found["versions"]),
    }


def _typeset(table: dict[str, Any]) -> dict[str, Any]:
    """Make the numbers of a table ready for print; names stay as they are."""
    right = [side == "right" for side in table["align"]]
    rows = [
        [typeset(cell) if number else cell for cell, number in zip(row, right, strict=True)]
        for row in table["rows"]
    ]
    return table | {"rows": rows}


def _facts(values: Mapping[str, Any]) -> list[list[str]]:
    return [[key, text[:_LONG] + "…" * (len(text) > _LONG)] for key, text in _flat(values)]


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Write each fact, those within others under both names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", _fact(value)


def _fact(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact, value))
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
    )
