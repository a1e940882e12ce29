"""What a person sees while a sweep runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bnlab.store import Status

ENDED = ("done", "failed")
# A trial's measuring takes about as long as a third of it.
_MEASURING_SHARE = 0.35
_LINE_SECONDS = 15.0


class Progress:
    """Shows statuses of trials; call `show` as often as they are read.

    Args:
        trials: identity -> name, for a person.
        work: identity -> how long it takes, in any unit.
        console: where to.
    """

    def __init__(self, trials: Mapping[str, str], work: Mapping[str, float], console: Console) -> None:
        """Begin to count the time."""
        self._trials, self._work, self._console = trials, work, console
        self._began = time.monotonic()
        self._finished_before: float | None = None
        self._told: set[str] = set()
        self._last_line = self._began
        self._live = (
            Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        )

    def __enter__(self) -> Progress:
        """Open the display."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the display."""
        if self._live:
            self._live.stop()

    def tell(self, text: str) -> None:
        """Print a line for good."""
        self._console.print(text, style="yellow", highlight=False, markup=False)

    def show(self, statuses: Mapping[str, Status]) -> None:
        """Show how far every trial is."""
        done = sum(self._work[identity] * _share(status) for identity, status in statuses.items())
        share = done / sum(self._work.values())
        if self._finished_before is None:
            self._finished_before = share
        for identity, status in statuses.items():
            if status.state in ENDED and identity not in self._told:
                self._told.add(identity)
                self._tell(identity, status)
        if self._live:
            self._live.update(self._picture(statuses, share), refresh=True)
        elif time.monotonic() - self._last_line > _LINE_SECONDS:
            self._last_line = time.monotonic()
            self._console.print(self._summary(share), highlight=False)

    def _tell(self, identity: str, status: Status) -> None:
        text = Text(f"[{len(self._told)}/{len(self._trials)}] {self._trials[identity]}: {status.state}")
        if status.reason:
            text.append(f" - {status.reason}", style="red")
        self._console.print(text)

    def _picture(self, statuses: Mapping[str, Status], share: float) -> Group:
        table = Table.grid(padding=(0, 2))
        for identity, status in statuses.items():
            if status.state not in (*ENDED, "waiting"):
                loss = "" if status.loss is None else f"loss {status.loss:.3f}"
                steps = f"step {status.step:,} of {status.steps:,}"
                bar = ProgressBar(total=1.0, completed=_share(status), width=20)
                table.add_row(self._trials[identity], status.state, bar, steps, loss)
        return Group(Text(self._summary(share), style="bold"), table)

    def _summary(self, share: float) -> str:
        ended, total = len(self._told), len(self._trials)
        gained = share - (self._finished_before or 0.0)
        spent = time.monotonic() - self._began
        left = (
            f"about {_clock(spent * (1 - share) / gained)} left"
            if gained > 0.02
            else "time left not known yet"
        )
        return f"{ended} of {total} trials, {share:.0%}, {_clock(spent)} gone, {left}"


def _share(status: Status) -> float:
    """Estimate how much of a trial is done, in [0, 1]."""
    if status.state in ENDED:
        return 1.0
    trained = status.step / status.steps if status.steps else 0.0
    return trained * (1 - _MEASURING_SHARE)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"
