"""The pages of clues: where gaps come from, which layers, what closes them, and a guide to known mistakes.

A page that has nothing to show is empty, and the template leaves it out.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from bnlab.records import Sweep
from bnlab.report import cures, parts
from bnlab.report.numbers import causes, clues, decays, drills, faults, layers, remedies, replicas
from bnlab.report.numbers.rounding import rounding
from bnlab.report.numbers.rows import base
from bnlab.report.numbers.tables import gaps, typeset
from bnlab.report.numbers.trained import trained
from bnlab.report.pictures import causes as cause_pictures
from bnlab.report.pictures import layers as layer_pictures
from bnlab.report.pictures import remedies as remedy_pictures
from bnlab.report.pictures.drawing import Picture
from bnlab.report.words import causes as cause_words
from bnlab.report.words import layers as layer_words
from bnlab.report.words import remedies as remedy_words
from bnlab.report.words import replicas as replica_words


def told(sweep: Sweep, readings: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """What the pages of clues say: sentences and tables.

    Args:
        sweep: knows which trials and drills are faults.
        readings: tidy, with those of faults.
        table: tidy clues.
    """
    own, restored = clues.plain(table, sweep.faults), drills.restores(readings, sweep.faults)
    return {
        "causes": _causes(restored, own),
        "by_layer": _layers(own),
        "rounding": parts.rounded(rounding(own)),
        "replicas": _replicas(drills.sound(readings, sweep.faults), own),
        "remedies": _remedies(sweep, restored, own),
        "faults": _faults(sweep, readings, table),
    }


def drawn(sweep: Sweep, readings: pd.DataFrame, table: pd.DataFrame) -> dict[str, list[Picture]]:
    """What the pages of clues show; arguments as for `told`."""
    own, restored = clues.plain(table, sweep.faults), drills.restores(readings, sweep.faults)
    split, whole = causes.parts(own), causes.totals(own, restored)
    return {
        "waterfalls": cause_pictures.waterfalls(causes.falls(split, gaps(restored)), whole),
        "stacks": cause_pictures.stacks(split, whole),
        "layer_bars": layer_pictures.layers(layers.layers(own)),
        "closing": remedy_pictures.remedies(remedies.remedies(own, restored)),
    }


def _replicas(readings: pd.DataFrame, own: pd.DataFrame) -> dict[str, Any]:
    table = replicas.shared(readings, own)
    return {"said": _typeset(replica_words.sentences(table)), "table": parts.replicas(table)}


def _causes(readings: pd.DataFrame, own: pd.DataFrame) -> dict[str, Any]:
    split, whole = causes.parts(own), causes.totals(own, readings)
    few, ends = decays.thinned(split), decays.thinned(whole)
    probe = decays.thinned(causes.parts(own, causes.PROBE))
    probe_ends = decays.thinned(causes.totals(own, readings, causes.PROBE))
    return {
        "said": _typeset(cause_words.sentences(split, whole)),
        "meanings": parts.meanings(split if len(split) else probe),
        "rmse": parts.causes(few, ends, "rmse"),
        "accuracy": parts.causes(few, ends, "accuracy"),
        "training": parts.causes(probe, probe_ends, "rmse"),
    }


def _layers(own: pd.DataFrame) -> dict[str, Any]:
    table = layers.layers(own)
    return {
        "said": _typeset(layer_words.sentences(decays.thinned(table))),
        "whole": layers.whole(table["target"]),
        "table": parts.by_layer(decays.thinned(table)),
    }


def _remedies(sweep: Sweep, readings: pd.DataFrame, own: pd.DataFrame) -> dict[str, Any]:
    table = remedies.remedies(own, readings)
    others = trained(decays.thinned(readings), table["task"].map(base).unique(), sweep.faults)
    return {
        "said": _typeset(remedy_words.sentences(table)),
        "meanings": remedy_words.meanings(list(table["remedy"])),
        "table": cures.remedies(table),
        "transductive": cures.remedies(table, transductive=True),
        "remark": remedy_words.REMARK,
        "trained": cures.trained(others),
    }


def _faults(sweep: Sweep, readings: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    found = faults.exhibits(sweep.faults, readings, table)
    return {"table": cures.faults(found), "guide": cures.guide(found)}


def _typeset(sentences: list[str]) -> list[str]:
    return [typeset(sentence) for sentence in sentences]
