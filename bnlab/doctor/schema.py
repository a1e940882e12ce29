"""The form of a diagnosis as JSON, for programs that read one: `python -m bnlab.doctor.schema`."""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from bnlab.doctor.diagnosis import SCHEMA, STATUS, Diagnosis

PATH = Path(__file__).with_name("schema.json")
"""The schema as it is handed out."""
_SIMPLE: Mapping[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"$ref": "#/$defs/number"},
    type(None): {"type": "null"},
    Any: {},
}
_NUMBER = {
    "description": "A number; null where it is not one, or not known.",
    "anyOf": [{"type": "number"}, {"type": "null"}, {"enum": ["inf", "-inf"]}],
}


def schema() -> dict[str, Any]:
    """Describe `Diagnosis.as_dict` in JSON Schema 2020-12, made from the records themselves.

    Every field is there; a reader must bear with others, for some may be added.
    """
    records: dict[str, Any] = {}
    whole = _record(Diagnosis, records)
    frame = {
        "schema": {"const": SCHEMA},
        "status": {"enum": sorted(set(STATUS.values())), "description": "Exit status of the command."},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What an examination of a model found",
        **whole,
        "properties": frame | whole["properties"],
        "required": [*frame, *whole["required"]],
        "$defs": {"number": _NUMBER} | dict(sorted(records.items())),
    }


def as_text() -> str:
    """Write the schema as it lies in `PATH`."""
    return json.dumps(schema(), indent=1) + "\n"


def _record(record: type, records: dict[str, Any]) -> dict[str, Any]:
    """Describe a record, and those within it in `records`."""
    kinds, told = get_type_hints(record), _told(record)
    properties = {own.name: _kind(kinds[own.name], records) | told[own.name] for own in fields(record)}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _kind(kind: Any, records: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Describe a type: a plain one, a choice, a list, a mapping or a record."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        records[kind.__name__] = _record(kind, records)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _kind(inner[0], records)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _kind(inner[1], records)}
    if origin in (Union, types.UnionType):
        return _either([_kind(one, records) for one in inner if one is not type(None)])
    return dict(_SIMPLE[kind])


def _either(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe one of some types, or nothing; a number may be nothing in any case."""
    [kind] = kinds
    return kind if kind == _SIMPLE[float] else {"anyOf": [kind, _SIMPLE[type(None)]]}


def _told(record: type) -> Mapping[str, dict[str, str]]:
    """Read what the docstring says of each attribute; several may share a line."""
    _, _, listed = inspect.getdoc(record).partition("Attributes:\n")  # type: ignore[union-attr]
    entries = re.split(r"^    (?=\S)", listed, flags=re.MULTILINE)[1:]
    pairs = [" ".join(entry.split()).partition(": ") for entry in entries]
    told = {name: {"description": text} for names, _, text in pairs for name in names.split(", ")}
    return defaultdict(dict, told)


if __name__ == "__main__":
    sys.stdout.write(as_text())
