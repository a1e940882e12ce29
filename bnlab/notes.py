"""What a reader of a sweep's numbers should know: damage, other versions and machines, what overflowed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from bnlab.checkpoint import CheckpointError, overflowed, skipped_steps
from bnlab.store import Folder

_AGAIN = {"csv": "measured", "json": "written"}


def notes(trials: Mapping[str, Folder], now: Mapping[str, str]) -> tuple[str, ...]:
    """Write the notes of a sweep.

    Args:
        trials: name, for a person -> folder.
        now: what this process runs on, as `machine.environment` says it.

    Returns:
        One sentence each; none where there is nothing to say.
    """
    return (*_elsewhere(trials.values(), now), *_damage(trials), *_overflows(trials))


def _elsewhere(folders: Iterable[Folder], now: Mapping[str, str]) -> Iterator[str]:
    """Say which trials ran, or run in part, on something else than this process."""
    found: dict[str, int] = defaultdict(int)
    for folder in folders:
        with suppress(OSError, ValueError, KeyError, TypeError):  # it never began
            found[differences([*folder.environments(), now])] += 1
    for difference, count in found.items():
        if difference:
            trials = "1 trial was" if count == 1 else f"{count} trials were"
            yield f"{trials} not trained and measured on this alone: {difference}; last digits may differ"


def differences(environments: Iterable[Mapping[str, str]]) -> str:
    """Name what changed from one environment to the next.

    >>> differences([{"version.keras": "3.14", "cpu": "a"}, {"version.keras": "3.15", "cpu": "a"}])
    'keras 3.14, then 3.15'
    """
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for environment in environments:
        for key, value in environment.items():
            values[key.removeprefix("version.")][value] = None
    return "; ".join(f"{key} {', then '.join(seen)}" for key, seen in values.items() if len(seen) > 1)


def _damage(trials: Mapping[str, Folder]) -> Iterator[str]:
    for name, folder in trials.items():
        for file in folder.damaged():
            original, _, _ = file.rpartition(".damaged")
            again = _AGAIN.get(original.rpartition(".")[2], "trained")
            yield f"{name}: {original} was damaged, is set aside as {file}, and was {again} again"


def _overflows(trials: Mapping[str, Folder]) -> Iterator[str]:
    """Say which trials in float16 skipped steps, and which lost their moving statistics."""
    for name, folder in trials.items():
        # It never began, or left no checkpoint.
        with suppress(OSError, ValueError, KeyError, TypeError, IndexError, CheckpointError):
            trial = folder.trial()
            if trial.precision == "mixed_float16":
                yield from _overflow(name, skipped_steps(folder, trial.optimizer), overflowed(folder))


def _overflow(name: str, skipped: int, lost: int | None) -> Iterator[str]:
    if skipped:
        steps = "1 step was" if skipped == 1 else f"{skipped} steps were"
        yield (
            f"{name}: {steps} skipped, as gradients were not finite in float16; moving statistics took note "
            "of the batches all the same"
        )
    if lost:
        yield (
            f"{name}: moving statistics are not finite from step {lost} on, as an activation exceeded "
            "float16's 65504; the weights are"
        )
