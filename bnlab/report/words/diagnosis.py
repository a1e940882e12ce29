"""What a doctor's diagnosis says, in words that a terminal and a PDF both use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.diagnosis import (
    Found,
    amount,
    brief,
    causes_of,
    confident,
    is_classifier,
    ordered,
    splits,
    telling,
    worse,
)
from bnlab.report.numbers.tables import duration
from bnlab.report.words import causes, remedies
from bnlab.report.words.phrases import listed, verb

QUESTIONS = ("Is there a gap?", "Where does it come from?", "What is the cause?", "What mends it?")
NAMES = {"rmse": "RMSE"}
"""Metrics that are called otherwise than by their name."""
REGARD = {1: "worse", 0: "no", -1: "better"}
"""What moving statistics are beyond two standard errors, beside batch statistics."""
MEANINGS = causes.MEANINGS | {
    "shift": "the evaluated samples are others than those trained on",
    "batch": "what normalizing by the few samples of a batch does",
    "dropout": "dropout, noise or augmentation layers that are off in inference",
}
REMEDIES = {name: text.replace("image", "sample") for name, text in remedies.MEANINGS.items()} | {
    "population": "statistics of the training data at these weights, with dropout and the like off",
    "mean_moments": "mean moments of training batches: what the average would come to if the weights rested",
    "epsilon": "variances corrected for an epsilon of training that is another than the layers'",
}
"""What each remedy does, to samples of any kind."""
LOST = "The parts of the gap are not numbers."
AGREEMENT = (
    "Without labels, the model's own outputs under population statistics stand for the truth: agreement is "
    "the share of predicted classes that are the same as there."
)
NO_RMSE_LABELS = "Without labels, RMSE is taken against the model's own outputs under population statistics."
_TOLD = 2


def headline(found: Found) -> str:
    """The verdict in one line, with the numbers that it rests on."""
    verdict, said = found["verdict"].upper(), [*found["summary"], ""][0]
    if found["verdict"] == "sick" and (gap := telling(found)):
        return f"{verdict}: {_worse(gap)}"
    if found["verdict"] == "healthy" and found["gaps"]:
        return f"{verdict}: {_as_good(found)}"
    return f"{verdict}: {said[:1].lower()}{said[1:].rstrip('.')}" if said else verdict


def _worse(gap: Mapping[str, Any]) -> str:
    values = amount(gap["moving"]), amount(gap["batch"])
    moving, batch = map(brief, values)
    if moving == batch:
        moving, batch = (f"{value:.6g}" for value in values)
    return f"with moving statistics the {gap['split']} {_name(gap)} is {moving} instead of {batch}"


def _as_good(found: Found) -> str:
    gap = ordered(found["gaps"])[0]
    regard = {1: "hardly worse", 0: "as well", -1: "better"}[worse(gap)]
    moving, batch = brief(amount(gap["moving"])), brief(amount(gap["batch"]))
    return f"moving statistics do {regard}: {gap['split']} {_name(gap)} {moving} (batch: {batch})"


def _name(gap: Mapping[str, Any]) -> str:
    return NAMES.get(gap["metric"], gap["metric"])


def more(found: Found) -> list[str]:
    """What the summary says beyond the headline."""
    return list(found["summary"][1:])


def disagreement(found: Found) -> str:
    """How many predictions, or how much of the outputs, change with the statistics; empty if not known."""
    shares = {split: amount(found["disagreement"].get(split)) for split in ("test", "train")}
    told = [f"{percent(share)} of {split}" for split, share in shares.items() if not math.isnan(share)]
    if not told:
        return ""
    if is_classifier(found):
        return f"Predicted classes that differ between the two: {listed(told)} samples."
    return f"Root mean square difference of the outputs, of their own size: {listed(told)} samples."


def truth(found: Found) -> str:
    """What stands for the truth where there are no labels; empty where there are some."""
    if any(gap["metric"] == "agreement" for gap in found["gaps"]):
        return AGREEMENT
    return NO_RMSE_LABELS if found["data"].get("labels") is False else ""


def meanings(found: Found) -> list[str]:
    """What the largest parts are of that make moving statistics worse."""
    main = splits(found["parts"])[:1]
    own = [(cause, parts[main[0]]) for cause, parts in causes_of(found).items() if main and main[0] in parts]
    beyond = [
        cause
        for cause, part in own
        if amount(part["value"]) > 2 * amount(part["standard_error"]) and amount(part["value"]) > 0
    ]
    return [f"{cause}: {MEANINGS[cause]}" for cause in beyond[:_TOLD] if cause in MEANINGS]


def count(found: Found) -> str:
    """How many normalization layers there are, and of what state."""
    rows = found["layers"]
    frozen = sum(bool(row["frozen"]) for row in rows)
    told = f"{len(rows)} normalization {verb(rows, 'layer', 'layers')}"
    return f"{told}, {frozen} of them frozen" if frozen else told


def left_over(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the layers have that are not shown."""
    parts = [part for row in rows if not math.isnan(part := amount(row["part"]))]
    told = f"and {len(rows)} more {verb(rows, 'layer', 'layers')}"
    if parts:
        biggest = max(parts, key=abs)
        return f"{told}: together {sum(parts):+.3g} of the gap, none above {abs(biggest):.3g}"
    far = [kl for row in rows if not math.isnan(kl := amount(row["kl"]))]
    return f"{told}, KL at most {max(far):.3g}" if far else told


def unlikely(rows: Sequence[Mapping[str, Any]]) -> str:
    """Name the causes that little speaks for."""
    names = [f"{cause['title']} ({confident(amount(cause['confidence']))})" for cause in rows]
    return f"Less likely: {', '.join(names)}." if names else ""


def unknown(found: Found) -> str:
    """How likely it is none of the known causes."""
    return f"None of the known causes: {confident(amount(found['unexplained']))}."


def examined(found: Found) -> str:
    """What was looked at, in one line."""
    sizes = {gap["split"]: gap["samples"] for gap in ordered(found["gaps"])}
    name = found["model"].get("name") or found["model"].get("path")
    told = [f"model {name}"] if name else []
    told += [count(found)] if found["layers"] else []
    told += [f"{size:,} {split} samples" for split, size in sizes.items()]
    told += [duration(amount(found["seconds"]))] if amount(found["seconds"]) > 0 else []
    return f"Looked at: {', '.join(told)}." if told else ""


def nothing_else(found: Found) -> str:
    """Say so where a sick model has no cause that was found."""
    return "" if found["causes"] else "No cause of the catalogue fits what was measured."
