"""Follow the gap of a model while it trains: a callback for somebody's own `fit`.

    from bnlab.doctor import Watch
    model.fit(x, y, callbacks=[Watch(x, y)])

Between steps the same samples are evaluated with batch and with moving statistics. Logs get

    bn_rmse_true, bn_rmse_false            RMSE with batch and with moving statistics
    bn_accuracy_true, bn_accuracy_false    where labels are classes
    bn_gap                                 RMSE with moving statistics less that with batch statistics

and without labels `bn_gap`, the RMS difference between the two phases' outputs, and `bn_disagreement`. Keras
hands one dictionary of logs from callback to callback: put the watch first, so that those behind it (History
always is) find its values. Every epoch has every value, NaN where nothing was measured in it; who stops early
by `bn_gap` therefore gives a large `budget`. Measurements between epochs are in `measured`, and in MLflow.

Training goes on as it would have: weights, statistics, flags and random states are as if nobody had looked. A
`tf.data.Dataset` is read once more, though, and one that shuffles may then go on in another order.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import keras

from bnlab.doctor.alarms import CAUSES, Alarm, alarms, not_arrived
from bnlab.doctor.budget import Budget
from bnlab.doctor.gauge import Gauge
from bnlab.doctor.measurement import Measurement, measurement, ordered, unmeasured
from bnlab.doctor.sample import Sample, check, draw
from bnlab.doctor.scoring import ScoringError
from bnlab.science.probe import own_statistics, switched_layers

_NOTHING = "the model has no batch normalization that is not frozen: nothing to watch"
_ADVICE = (
    "outputs are worse with moving statistics than with batch statistics (bn_gap {:.3g}), and were at the "
    "measurement before: save the model, and ask `python -m bnlab.doctor MODEL.keras --data ...` why"
)


class BatchNormWarning(UserWarning):
    """Something is wrong with a model's batch normalization, or with watching it."""


class Watch(keras.callbacks.Callback):
    """Measures the gap at the end of epochs, or every few steps, and warns of causes that it sees.

    Args:
        x, y: training data as `fit` takes them: arrays, nests of arrays, or a `tf.data.Dataset` as x alone.
        samples: how many to measure on, drawn once; whole batches.
        batch_size: samples that share statistics; None takes the one that fit's number of steps tells.
        every: "epoch", or a number of steps; epochs then get their latest measurement.
        budget: share of training's time that measurements may take. One that would exceed it is left out, but
            for that at the end of training, which a short training may have alone.
        track: an MLflow tracking address: one run per fit, in the named experiment.
        experiment: its name.
        verbose: 0 for warnings alone, 1 for lines that say what was found.

    Attributes:
        measured: measurements of the latest fit.

    Raises:
        ValueError: an argument is out of range.
        TrackingError: the tracking address cannot be used.
    """

    def __init__(
        self,
        x: Any,  # noqa: ANN401
        y: Any | None = None,  # noqa: ANN401
        *,
        samples: int = 256,
        batch_size: int | None = None,
        every: Literal["epoch"] | int = "epoch",
        budget: float = 0.05,
        track: str | None = None,
        experiment: str = "bnlab watch",
        verbose: int = 1,
    ) -> None:
        super().__init__()
        _check_numbers(samples, batch_size, every, budget)
        check(x, y)
        self.every, self.verbose, self.budget = every, verbose, Budget(budget)
        self.measured: list[Measurement] = []
        self._draw: Callable[[int | None], Sample] = lambda steps: draw(x, y, samples, batch_size, steps)
        self._sample: Sample | None = None
        self._gauge: Gauge | None = None
        self._empty: dict[str, float] = {}
        self._said: set[str] = set()
        self._broken = self._idle = False
        self._fits = _connected(track, experiment) if track else None
        self._steps = self._before = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Draw the sample, the first time."""
        self.budget.begin()
        self._steps, self.measured, self._idle = 0, [], False
        with self.budget.spending(usual=False):
            self._sample = self._sample or self._draw(self.params.get("steps"))
        if self._fits:
            self._track(self._fits.begin)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember where the epoch begins."""
        self._before = self._steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count steps; measure, if steps are what counts."""
        # Where one call makes several steps, the last call of an epoch is counted in full, whatever it makes.
        made = min(batch + 1, self.params.get("steps") or batch + 1)
        last, self._steps = self._steps, self._before + made
        self.budget.stepped()
        if isinstance(self.every, int) and self._steps // self.every > last // self.every:
            self._look()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure, and add to the logs."""
        last = epoch + 1 == self.params.get("epochs") or self.model.stop_training
        if (last or self.every == "epoch") and not self._is_measured():
            self._look(must=last)
        if logs is not None:
            recent = [own for own in self.measured if own.step > self._before]
            logs.update(recent[-1].values if recent else self._empty)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Measure what training comes to, and say so."""
        # An optimizer that averages weights has put the averages in place since the last epoch.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        averaged = getattr(optimizer, "use_ema", False)
        if self._steps and (averaged or not self._is_measured()):
            self._look(must=True)
        if self.measured:
            self._tell(self._at_the_end())
            self._say(self._closing_line())
        if self._fits:
            self._track(self._fits.end)

    def _is_measured(self) -> bool:
        return bool(self.measured) and self.measured[-1].step == self._steps

    def _look(self, must: bool = False) -> None:
        """Measure if it is due; whatever goes wrong, training goes on."""
        if self._broken or self._idle:
            return
        seen: list[Alarm] = []
        try:
            gauge = self._ready(seen)
            if gauge and (must or self.budget.allows()):
                with self.budget.spending():
                    seen += self._measure(gauge)
        except Exception as error:  # a model's own code may raise anything
            self._broken = True
            seen.append(
                Alarm("failed", f"the gap cannot be measured, and is not from here on: {_said(error)}")
            )
        self._tell(seen)

    def _ready(self, seen: list[Alarm]) -> Gauge | None:
        """Make the gauge for the model as it is; None: it has nothing to watch."""
        if self._gauge is None or not self._gauge.fits(self.model):
            self._idle = not switched_layers(self.model)
            if self._idle:
                self._empty = {}
                self._say_once("idle", _NOTHING)
                return None
            with self.budget.spending(usual=False):
                self._set_up(seen)
        return self._gauge

    def _set_up(self, seen: list[Alarm]) -> None:
        assert self._sample is not None
        sample = self._sample._replace(y=ordered(self._sample.y, self.model))
        shapes = Gauge(self.model, sample).shapes()
        try:
            self._empty = unmeasured(shapes, sample.y)
        except ScoringError as error:
            sample = sample._replace(y=None)
            self._empty = unmeasured(shapes, None)
            seen.append(Alarm("labels", f"labels are left aside, phases compared with each other: {error}"))
        self._gauge = Gauge(self.model, sample, other=sample.y is None)

    def _measure(self, gauge: Gauge) -> Iterator[Alarm]:
        """Measure, keep it, send it; tell the causes that show."""
        found = measurement(self._steps, gauge.phases(), gauge.sample)
        self.measured.append(found)
        if fits := self._fits:
            self._track(lambda: fits.log(found.step, found.values, self.model.name, gauge.facts))
        yield from alarms(gauge.layers, own_statistics(self.model), gauge.updates(self._steps))

    def _at_the_end(self) -> Iterator[Alarm]:
        """Tell what only counts once training is over: a gap that matters, and an average under way."""
        gauge, last = self._gauge, self.measured[-1]
        if gauge is None or not last.matters:
            return
        steps = max(self._steps, int(getattr(self.model.optimizer, "iterations", 0)))
        slow = list(not_arrived(gauge.layers, gauge.updates(steps)))
        yield from slow
        known = slow or self._said & CAUSES
        if not known and len(self.measured) > 1 and self.measured[-2].matters:
            yield Alarm("gap", _ADVICE.format(last.values["bn_gap"]))

    def _track(self, send: Callable[[], object]) -> None:
        """Send to the tracking server; its failure is said once, and is not training's."""
        try:
            send()
        except Exception as error:  # a server may fail in any way
            self._fits = None
            self._tell([Alarm("track", f"tracking failed, and nothing more is sent: {_said(error)}")])

    def _tell(self, seen: Iterable[Alarm]) -> None:
        for alarm in seen:
            if self._say_once(*alarm):
                warnings.warn(alarm.message, BatchNormWarning, stacklevel=2)

    def _say_once(self, key: str, line: str) -> bool:
        if key in self._said:
            return False
        self._said.add(key)
        self._say(line)
        return True

    def _say(self, line: str) -> None:
        if self.verbose:
            print(f"bnlab watch: {line}")

    def _closing_line(self) -> str:
        last, spent = self.measured[-1], self.budget.spent / max(self.budget.training, 1e-9)
        values = ", ".join(f"{name} {value:.4g}" for name, value in last.values.items())
        count = len(self.measured)
        times = f"{count} measurement{'' if count == 1 else 's'} in {spent:.1%} of training's time"
        return f"{values} after {last.step:,} steps ({times})"


def _said(error: Exception) -> str:
    """Put an error in one line; Keras's first line says where, and its second what."""
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:300]


def _connected(uri: str, experiment: str) -> Any:  # noqa: ANN401
    # MLflow takes seconds to import, and who does not track needs none of it.
    from bnlab.track.fits import Fits

    return Fits(uri, experiment)


def _check_numbers(samples: int, batch_size: int | None, every: str | int, budget: float) -> None:
    if samples < 1:
        raise ValueError(f"samples must be >= 1, got {samples}")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be >= 1 or None, got {batch_size}")
    if every != "epoch" and not (isinstance(every, int) and every >= 1):
        raise ValueError(f'every must be "epoch" or a number of steps >= 1, got {every!r}')
    if not budget > 0:
        raise ValueError(f"budget must be > 0, as a share of the training time, got {budget}")
