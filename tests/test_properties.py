"""What holds for any settings, any trial and any table of readings."""

import copy
import json
import math
import struct
from dataclasses import asdict, fields, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bnlab.compose import compose
from bnlab.data.sources import stand_in_source
from bnlab.plan import identity, plan
from bnlab.records import Reading, Trial
from bnlab.science.histogram import KINDS, Histogram, LayerHistogram
from bnlab.settings import Settings, SettingsError, dotted, parse
from bnlab.tables import histograms_table, parse_histograms, parse_readings, readings_table

quick = settings(derandomize=True, deadline=None, max_examples=80)

[DEFAULT] = compose([]).settings
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*dotted(DEFAULT), *Settings.model_fields]) | st.text(min_size=1, max_size=12)
NORMS = st.sampled_from(
    [
        {"name": "batch", "epsilon": 1e-5, "center": False},
        {"name": "ghost", "virtual_batch_size": 8, "scale": False},
        {"name": "group", "groups": 4, "gamma_constraint": "non_neg"},
        {"name": "layer", "beta_regularizer": "l2"},
        {"name": "none"},
    ]
)
VALID = {
    "batch_size": st.sampled_from([1, 2, 8, 32, 128]),
    "decay": st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    "phase": st.sampled_from([[True], [False], [True, False]]),
    "seed": st.integers(0, 2**31 - 1),
    "norm": NORMS,
    "train.samples": st.integers(1, 10**9),
    "train.learning_rate": st.none() | st.floats(1e-12, 1e12),
    "train.xla": st.none() | st.booleans(),
    "task.dropout": st.floats(0, 1, exclude_max=True),
    "task.widths": st.lists(st.sampled_from([8, 16, 32]), min_size=1, max_size=4),
    "measure.points": st.integers(1, 1000),
    "data.timeout": st.floats(1e-3, 600),
}
SOURCE = stand_in_source("mnist")


def put(config, key, value):
    """The same config with a value at a dotted key, where there is a place for it."""
    config = copy.deepcopy(config)
    *groups, last = key.split(".")
    place = config
    for group in groups:
        place = place.setdefault(group, {}) if isinstance(place, dict) else {}
    if isinstance(place, dict):
        place[last] = value
    return config


def nested(flat):
    config = {}
    for key, value in flat.items():
        config = put(config, key, value)
    return config


def changed(changes):
    config = DEFAULT.model_dump()
    for key, value in changes.items():
        config = put(config, key, value)
    return config


some_valid = st.fixed_dictionaries({}, optional=VALID).map(changed)


def outcome(config):
    """The settings of a config, or the line that says why there are none."""
    try:
        return parse(config)
    except SettingsError as error:
        return str(error)


@quick
@given(st.dictionaries(KEYS, VALUES, max_size=3).map(changed) | VALUES)
def test_any_config_is_settings_or_one_line(config):
    found = outcome(config)
    if isinstance(found, Settings):
        assert parse(nested(dotted(found))) == found
    else:
        assert found.isprintable()
        assert len(found) < 1000


@quick
@given(some_valid)
def test_valid_settings_survive_being_taken_apart(config):
    found = parse(config)
    assert parse(found.model_dump()) == found
    assert parse(nested(dotted(found))) == found
    assert parse(json.loads(json.dumps(found.model_dump()))) == found


@quick
@given(some_valid, st.randoms(use_true_random=False))
def test_a_trial_is_the_same_whatever_the_order_of_its_settings(config, chance):
    def shuffled(tree):
        keys = chance.sample(list(tree), len(tree))
        return {key: shuffled(tree[key]) if isinstance(tree[key], dict) else tree[key] for key in keys}

    trial = plan(parse(config), SOURCE, "cpu")
    again = plan(parse(shuffled(config)), SOURCE, "cpu")
    assert again == trial
    assert identity(again) == identity(trial)


@quick
@given(some_valid, VALID["decay"], VALID["phase"])
def test_decay_and_phase_change_no_trial(config, decay, phase):
    found = plan(parse(config), SOURCE, "cpu")
    assert identity(plan(parse(config | {"decay": decay, "phase": phase}), SOURCE, "cpu")) == identity(found)


def other(value):
    """Another value of the same kind, as near as may be."""
    if isinstance(value, tuple):
        return (*value, ("more", 1))
    if isinstance(value, bool) or value is None:
        return 0.25 if value is None else not value
    return f"{value} " if isinstance(value, str) else math.nextafter(value, 2) if value % 1 else value + 1


@quick
@given(some_valid, st.sampled_from([field.name for field in fields(Trial)]))
def test_a_change_of_any_field_is_another_trial(config, name):
    trial = plan(parse(config), SOURCE, "cpu")
    assert identity(replace(trial, **{name: other(getattr(trial, name))})) != identity(trial)


@quick
@given(some_valid)
def test_a_trial_is_the_same_after_json(config):
    trial = plan(parse(config), SOURCE, "cpu")
    raw = json.loads(json.dumps(asdict(trial)))
    pairs = {name: tuple(map(tuple, raw[name])) for name in ("options", "details")}
    again = Trial(**raw | pairs | {"widths": tuple(raw["widths"])})
    assert again == trial
    assert identity(again) == identity(trial)


FLOATS = st.floats() | st.sampled_from([math.inf, -math.inf, math.nan, -0.0, 5e-324, -2.5e-310])
COUNTS = st.integers(0, 2**63)
KINDS_OF = {"int": COUNTS, "bool": st.booleans(), "float": FLOATS, "float | None": st.none() | FLOATS}
READINGS = st.builds(
    Reading,
    **{
        name: KINDS_OF.get(kind, st.sampled_from(["test", ""]))
        for name, kind in Reading.__annotations__.items()
    },
)
HISTOGRAMS = st.builds(
    LayerHistogram,
    st.integers(1, 2**53),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    st.sampled_from(KINDS),
    st.builds(
        Histogram,
        FLOATS,
        FLOATS,
        st.lists(COUNTS, min_size=1, max_size=30).map(tuple),
        FLOATS,
        FLOATS,
        COUNTS,
    ),
    st.none() | FLOATS,
)


def bits(values):
    """A record's values with every bit of its floats; one NaN is like another."""
    return {
        name: "nan" if value != value else struct.pack("<d", value) if isinstance(value, float) else value
        for name, value in values.items()
    }


@quick
@given(st.lists(READINGS, max_size=5))
def test_readings_come_back_to_the_last_bit(readings):
    back = parse_readings(readings_table(readings))
    assert [bits(asdict(reading)) for reading in back] == [bits(asdict(reading)) for reading in readings]


@quick
@given(st.lists(HISTOGRAMS, max_size=5))
def test_histograms_come_back_to_the_last_bit(rows):
    def all_bits(row):
        return bits(vars(row) | {"histogram": tuple(bits(asdict(row.histogram)).items())})

    assert list(map(all_bits, parse_histograms(histograms_table(rows)))) == list(map(all_bits, rows))
