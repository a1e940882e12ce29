"""A trial when training is over: its restored model, its averages at any decay, the images it was fed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from bnlab import models
from bnlab.checkpoint import chain, load, moving_statistics, restore
from bnlab.data import Images
from bnlab.data.feed import fresh, sources
from bnlab.measure.evaluate import Evaluator
from bnlab.plan import Wanted
from bnlab.records import Trial
from bnlab.science.averages import start_share
from bnlab.science.moments import Moments
from bnlab.science.tape import Tape
from bnlab.store import Folder

Layers: TypeAlias = Mapping[str, Moments]
# A share of the start below this is lost in float32.
_GONE = 2.0**-24


class Trained:
    """A trial at its last checkpoint, restored into a new model.

    Args:
        trial: a trained one.
        images: its data set.
        folder: its checkpoints and tape.
        wanted: what a job wants to know of it.
        decays: those at which its averages will be read.
    """

    def __init__(
        self, trial: Trial, images: Images, folder: Folder, wanted: Wanted, decays: Sequence[float]
    ) -> None:
        """Restore the model and replay the tape."""
        self.trial, self.images, self.folder, self.wanted = trial, images, folder, wanted
        self.step = wanted.steps[-1]
        self.model = models.build(trial)
        restore(load(folder.checkpoint(self.step)), self.model)
        self.evaluator = Evaluator(trial, self.model, wanted.eval_batch_size)
        self._others: dict[tuple, Evaluator] = {}
        self.averages = moving_statistics(folder, self.step, list(dict.fromkeys(decays)))

    @property
    def batch_size(self) -> int:
        """Images that shared their statistics in training."""
        return self.trial.together

    def moving(self, decay: float) -> Layers:
        """Read the moving statistics at a decay."""
        return {layer: Moments(*own) for layer, own in self.averages.at(decay).items()}

    def debiased(self, decay: float) -> Layers | None:
        """Read them without what they hold of their start; None where they hold nothing else."""
        updates = self.averages.updates
        if not all(updates.values()):
            return None
        if all(start_share(decay, count) < _GONE for count in updates.values()):
            return self.moving(decay)
        return {layer: Moments(*own) for layer, own in self.averages.debiased(decay).items()}

    def once(self, key: tuple, make: Callable[[], Evaluator]) -> Evaluator:
        """Make an evaluator of other weights once, whichever decays it is asked for."""
        if key not in self._others:
            self._others[key] = make()
        return self._others[key]

    def tape(self) -> Tape:
        """Read the whole tape."""
        tapes = [checkpoint.tape for _, checkpoint in chain(self.folder, self.step)]
        return Tape(tapes[0].columns, np.concatenate([tape.moments for tape in tapes]))

    def fed(self, samples: int) -> np.ndarray:
        """Gather the images that the next steps would be fed, batch after batch, as training sees them."""
        trial, images = self.trial, self.images
        numbers = fresh(trial.seed, images, trial.batch_size, self.step, samples, trial.fault == "sorted")
        batches = images.train_x[numbers]
        whole = np.stack(sources(batches, 255, trial.fault == "two_sources"), axis=1)
        return whole.reshape(-1, *batches.shape[2:])
