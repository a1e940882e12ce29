"""A budget of time: measuring may take a share of what training takes, and no more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# A first measurement, which compiles two passes forth, took .10 to .12 of a first step's time, which compiles
# one forth and back and the optimizer, in a small network and in a large one; more, to be on the safe side.
_OF_FIRST = 0.25


class Budget:
    """Keeps count of the time that measurements take beside a training.

    Args:
        share: of the training's own time that they may take, > 0.
        clock: seconds, from anywhere.

    Attributes:
        spent: seconds that measurements took since `begin`.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self.share, self.spent = share, 0.0
        self._clock, self._began = clock, clock()
        self._first_step = self._shortest = math.inf

    def begin(self) -> None:
        """Training begins; how long a measurement takes is known from an earlier one."""
        self._began, self.spent = self._clock(), 0.0

    def stepped(self) -> None:
        """Training has made a step; the first, which it compiles, tells what a first measurement may cost."""
        if math.isinf(self._first_step):
            self._first_step = self.training

    @property
    def training(self) -> float:
        """Seconds that training itself has taken since it began."""
        return self._clock() - self._began - self.spent

    @property
    def expected(self) -> float:
        """Seconds that the next measurement may take; infinite before anything is known."""
        return _OF_FIRST * self._first_step if math.isinf(self._shortest) else self._shortest

    def allows(self) -> bool:
        """Whether another measurement keeps within the share."""
        return self.spent + self.expected <= self.share * self.training

    @contextmanager
    def spending(self, usual: bool = True) -> Iterator[None]:
        """Count what is done inside as spent.

        Args:
            usual: whether it is a measurement, by which the next one is judged.
        """
        began = self._clock()
        try:
            yield
        finally:
            took = self._clock() - began
            self.spent += took
            if usual:
                self._shortest = min(self._shortest, took)
