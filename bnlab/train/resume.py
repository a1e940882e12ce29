"""Where training was left, and what is saved on the way: checkpoints, and parts of the way to the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from bnlab import checkpoint
from bnlab.checkpoint import Checkpoint
from bnlab.science.tape import Column, Tape
from bnlab.store import Folder

# Of the tape, between two checkpoints: however long a trial is, no more of it is ever in memory.
_TAPE_BYTES = 64 * 2**20


class Stretch:
    """The way from one checkpoint to the next: losses and moments of the steps that are done.

    Args:
        start, stop: steps done before it, and after it.
        columns: the layout of a row of moments.
    """

    def __init__(self, start: int, stop: int, columns: Sequence[Column]) -> None:
        """Begin with no step done."""
        self.start, self.stop, self.done = start, stop, start
        self._columns = tuple(columns)
        self._losses = np.empty(stop - start, np.float32)
        self._moments = np.empty((stop - start, width(columns)), np.float32)

    @property
    def whole(self) -> bool:
        """Whether every step is done."""
        return self.done == self.stop

    @property
    def losses(self) -> np.ndarray:
        """Of the steps that are done."""
        return self._losses[: self.done - self.start]

    @property
    def tape(self) -> Tape:
        """Of the steps that are done."""
        return Tape(self._columns, self._moments[: self.done - self.start])

    def add(self, losses: np.ndarray, moments: np.ndarray) -> None:
        """Take the next steps."""
        first, self.done = self.done, self.done + len(losses)
        here = slice(first - self.start, self.done - self.start)
        self._losses[here], self._moments[here] = losses, moments


class Progress:
    """A trial's model and optimizer on the way, and what a folder holds of it."""

    def __init__(
        self,
        folder: Folder,
        model: keras.Model,
        descent: keras.optimizers.Optimizer,
        columns: Sequence[Column],
    ) -> None:
        """Take hold of a model at step 0."""
        self._folder, self._model, self._descent, self._columns = folder, model, descent, columns

    def stretches(self, steps: Iterable[int]) -> Iterator[Stretch]:
        """Restore what was saved last, and list what is left to do.

        Args:
            steps: of the wanted checkpoints, in order.
        """
        steps = sorted(steps)
        first, found = _last(self._folder, steps)
        for number, (start, stop) in enumerate(cuts(first, steps, width(self._columns))):
            stretch = Stretch(start, stop, self._columns)
            part = _part(self._folder, start, stop) if number == 0 else None
            if part:
                stretch.add(part.losses, part.tape.moments)
            if number == 0 and (latest := part or found):
                checkpoint.restore(latest, self._model, self._descent)
            yield stretch

    def save(self, stretch: Stretch) -> None:
        """Write a checkpoint at a stretch's end, and a part of it before; parts that it covers go."""
        folder, older = self._folder, self._folder.parts()
        path = (folder.checkpoint if stretch.whole else folder.part)(stretch.done)
        checkpoint.save(path, self._model, self._descent, stretch.tape, stretch.losses)
        for step in older:
            folder.part(step).unlink()


def cuts(first: int, steps: Iterable[int], width: int) -> Iterator[tuple[int, int]]:
    """Cut a trial into what lies between two checkpoints: (steps done before, steps done after).

    Args:
        first: steps done already.
        steps: at which a checkpoint is wanted, increasing.
        width: numbers in a row of the tape.
    """
    longest = max(1, _TAPE_BYTES // max(1, 4 * width))
    for step in steps:
        while first < step:
            stop = min(step, first + longest)
            yield first, stop
            first = stop


def width(columns: Iterable[Column]) -> int:
    """Count the numbers in a row of the tape."""
    return sum(2 * column.channels for column in columns)


def _last(folder: Folder, steps: Iterable[int]) -> tuple[int, Checkpoint | None]:
    """Find the last checkpoint up to which none is missing or damaged.

    Later ones go: each holds the tape since the one before, and there will be another one before.
    """
    checkpoint.set_damaged_aside(folder)
    have, last, found = set(folder.checkpoints()), 0, None
    for step in steps:
        candidate = checkpoint.load(folder.checkpoint(step)) if step in have else None
        if candidate is None or len(candidate.losses) != step - last:
            break
        last, found = step, candidate
    for step in reversed(folder.checkpoints()):
        if step > last:
            folder.checkpoint(step).unlink()
    return last, found


def _part(folder: Folder, start: int, stop: int) -> Checkpoint | None:
    """Find what is done of a stretch; parts of others are of no use."""
    for step in reversed(folder.parts()):
        if start < step < stop:
            part = checkpoint.sound(folder.part(step))
            if part and len(part.losses) == step - start:
                return part
    return None
