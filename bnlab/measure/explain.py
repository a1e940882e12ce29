"""Explain the gaps of a trial at its end: their causes, the layers that they come from, what closes them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bnlab.data import Images
from bnlab.measure.causes import causes
from bnlab.measure.deployments import needed_decays
from bnlab.measure.evaluate import Known
from bnlab.measure.layers import layers
from bnlab.measure.patient import Patient
from bnlab.measure.remedies import remedies
from bnlab.measure.rounding import rounding
from bnlab.measure.signs import distances, signs
from bnlab.measure.splits import Split, probes, whole
from bnlab.measure.trained import Trained
from bnlab.plan import Wanted
from bnlab.records import Clue, Trial
from bnlab.science.remedies import DECAYS
from bnlab.store import Folder


def explain(
    trial: Trial,
    images: Images,
    folder: Folder,
    wanted: Wanted,
    missing: Collection[tuple],
    known: Known | None = None,
) -> Iterator[Clue]:
    """Explain what is missing; nothing is written, and the model, its checkpoint and tape stay as they are.

    Args:
        trial: a trained one with moving statistics.
        images: its data set.
        folder: its checkpoints and tape; only read.
        wanted: what a job wants to know.
        missing: of `wanted.clues()`, those that are not there yet.
        known: what `measure` gave it to know of the healthy model at this step.

    Yields:
        Clues of every kind that something is missing of.
    """
    decays = tuple(decay for decay in wanted.decays if decay is not None)
    trained = Trained(trial, images, folder, wanted, [*decays, *needed_decays(wanted.fault, decays), *DECAYS])
    splits = {split.name: split for split in (*probes(trial, images, wanted), whole(trial, images, wanted))}
    for drill in wanted.deployments:
        own = [(kind, name) for kind, name, _, _, how in missing if how == drill]
        if own:
            patient = Patient(trained, drill, decays, None if drill else known)
            yield from _explained(patient, splits, wanted, dict.fromkeys(own))


def _explained(
    patient: Patient, splits: dict[str, Split], wanted: Wanted, missing: Collection[tuple[str, str]]
) -> Iterator[Clue]:
    kinds, final = {kind.split()[0] for kind, _ in missing}, splits[wanted.final]
    if kinds & {"cause", "sign"}:
        for name in ("train_probe", wanted.final):
            yield from causes(patient, splits[name])
        yield from signs(patient, final)
        yield from rounding(patient, final)
    if kinds & {"cause", "layer"}:
        yield from distances(patient, final)
    if "layer" in kinds:
        yield from layers(patient, splits[wanted.probe], wanted.attribution or "batch")
    yield from remedies(patient, final, [name for kind, name in missing if kind == "remedy"])
