"""The JSON of a diagnosis has the form that its schema tells, and the schema handed out is today's."""

import json
from dataclasses import fields

import pytest

from bnlab.doctor.diagnosis import Diagnosis, Layer
from bnlab.doctor.schema import PATH, as_text, schema
from tests.doctor import examples

KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_of(value, kind):
    if kind in ("number", "integer"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, KINDS[kind])


def faults(value, rule, whole, place="diagnosis"):
    """What breaks a schema of the words that ours uses; nothing where all holds."""
    known = {"type", "properties", "required", "items", "additionalProperties", "enum", "const", "anyOf"}
    assert not set(rule) - known - {"$ref", "description", "title", "$schema", "$defs"}
    if "$ref" in rule:
        return faults(value, whole["$defs"][rule["$ref"].removeprefix("#/$defs/")], whole, place)
    if "anyOf" in rule:
        found = [faults(value, one, whole, place) for one in rule["anyOf"]]
        return [] if [] in found else [f"{place}: {value!r}"]
    if "type" in rule and not is_of(value, rule["type"]):
        return [f"{place}: {value!r} is no {rule['type']}"]
    found = [] if value in rule.get("enum", [value]) else [f"{place}: {value!r}"]
    found += [] if value == rule.get("const", value) else [f"{place}: {value!r}"]
    if isinstance(value, dict):
        found += [f"{place} lacks {name}" for name in rule.get("required", ()) if name not in value]
        rest = rule.get("additionalProperties", {})
        for name, own in value.items():
            found += faults(own, rule.get("properties", {}).get(name, rest), whole, f"{place}.{name}")
    if isinstance(value, list):
        found += [
            f
            for n, own in enumerate(value)
            for f in faults(own, rule.get("items", {}), whole, f"{place}[{n}]")
        ]
    return found


def test_the_schema_that_is_handed_out_is_that_of_the_records():
    assert PATH.read_text() == as_text(), "write it anew: python -m bnlab.doctor.schema"


@pytest.mark.parametrize("name", examples.ALL)
def test_a_diagnosis_keeps_to_the_schema(name):
    found = json.loads(json.dumps(examples.ALL[name].as_dict(), allow_nan=False))
    assert faults(found, schema(), schema()) == []
    assert set(found) == {"schema", "status", *(own.name for own in fields(Diagnosis))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "bnlab.doctor/2"}, "diagnosis.schema: 'bnlab.doctor/2'"),
        ({"verdict": "ill"}, "diagnosis.verdict: 'ill'"),
        ({"seconds": "long"}, "diagnosis.seconds: 'long'"),
        ({"notes": [1]}, "diagnosis.notes[0]: 1 is no string"),
        ({"layers": [{}]}, "diagnosis.layers[0] lacks name"),
        ({"mended": {"path": "x"}}, "diagnosis.mended: {'path': 'x'}"),
    ],
)
def test_what_is_no_diagnosis_breaks_the_schema(change, said):
    assert said in faults(examples.SICK.as_dict() | change, schema(), schema())


def test_numbers_that_json_has_not_are_told_as_the_schema_says():
    lost, _, _ = examples.broken().as_dict()["layers"]
    assert (lost["kl"], lost["mean_shift"]) == ("inf", None)
    assert schema()["$defs"]["number"]["anyOf"][1:] == [{"type": "null"}, {"enum": ["inf", "-inf"]}]


def test_every_field_is_described_in_the_words_of_its_record():
    described = schema()["$defs"]["Layer"]["properties"]
    assert list(described) == [own.name for own in fields(Layer)]
    assert described["frozen"] == {"type": "boolean", "description": "it never uses batch statistics."}
    assert described["momentum"]["description"] == described["epsilon"]["description"] == "of the layer."
