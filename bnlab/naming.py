"""What a person calls a trial: briefly, and with what tells it from others of its sweep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bnlab.records import Failure, Trial


def label(trial: Trial | Failure, variant: str = "") -> str:
    """Name a trial for a person, briefly: task, norm, batch size, seed, and what else tells it apart."""
    name = f"{trial.task} {trial.norm} b{trial.batch_size} s{trial.seed}"
    return f"{name} {variant}" if variant else name


def variants(trials: Mapping[str, Trial]) -> dict[str, str]:
    """Say what tells trials apart that share task, norm, batch size and seed; nothing where they are alone.

    Args:
        trials: identity -> trial, of one sweep.
    """
    settings = {identity: trial.settings for identity, trial in trials.items()}
    alike: dict[tuple, list[dict[str, object]]] = {}
    for own in settings.values():
        alike.setdefault(tuple(own[name] for name in _TOLD), []).append(own)
    names = [
        name
        for name in dict.fromkeys(name for own in settings.values() for name in own)
        if any(_tells(name, group) for group in alike.values())
    ]
    return {identity: _said(own, names) for identity, own in settings.items()}


_TOLD = ("task", "norm", "batch_size", "seed")
# Said also where all trials agree, but on the usual: without it a batch size would be taken for that of the
# statistics, and half precision for none.
_ALWAYS = {"replicas": 1, "synchronized": False, "precision": "float32"}

# Said of those trials only that differ from the usual.
_USUAL = {
    ("fault", "none"),
    ("frozen_from", None),
    ("freeze_decay", None),
    ("replicas", 1),
    ("synchronized", False),
}


def _tells(name: str, trials: Iterable[Mapping[str, object]]) -> bool:
    values = {own.get(name) for own in trials}
    return len(values) > 1 or (name in _ALWAYS and values != {_ALWAYS[name]})


def _said(settings: Mapping[str, object], names: Iterable[str]) -> str:
    shown = {name: settings.get(name) for name in names if (name, settings.get(name)) not in _USUAL}
    return ", ".join(_phrase(name, value, settings) for name, value in shown.items())


def _phrase(name: str, value: object, settings: Mapping[str, object]) -> str:
    if name == "replicas" and isinstance(value, int):
        return f"{value} replicas x {int(str(settings['batch_size'])) // value}"
    own = {"synchronized": name, "precision": str(value)}  # that speak for themselves
    return own.get(name) or f"{name.replace('_', ' ')} {_short(value)}"


SHARED = re.compile(r"(?:, )?(?P<replicas>\d+) replicas x (?P<each>\d+)(?P<together>, synchronized)?")
"""Reads out of a trial's name how it shares a batch, as `variants` has written it."""


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else "default" if value is None else str(value).lower()


def of_replicas(how: str) -> str:
    """Name readings under other statistics of several replicas than the first one's, as a drill is named.

    >>> of_replicas("merged")
    'replicas merged'
    """
    return f"replicas {how}"
