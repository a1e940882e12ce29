"""Kill sweeps until there were so many kills: `python -m tests.faults --kills 100`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from tests.faults import tally
from tests.faults.chain import Chain, Outcome, Reference, line, undisturbed
from tests.faults.plan import Plan

_KINDS = ("time", "point", "interrupt")
_OPTIMIZERS, _SAMPLES = ("adam", "sgd"), 12800


def main() -> int:
    """Run the long set; the exit status is 1 if anything was lost, doubled or differs."""
    asked = _arguments()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        rows = _run(asked, Path(asked.keep or folder).absolute())
    print(f"\n{tally.table(rows)}")
    return 0 if all(row.sound for row in rows) else 1


def _run(asked: argparse.Namespace, folder: Path) -> list[tally.Row]:
    references = {name: undisturbed(line(name, _SAMPLES), folder / name) for name in _OPTIMIZERS}
    for name, reference in references.items():
        print(f"undisturbed, {name}: {reference.seconds:.1f} s, {len(reference.facts)} places", flush=True)
    driver = Driver(asked, folder, references)
    with ThreadPoolExecutor(asked.workers) as pool:
        try:
            for done in [pool.submit(driver.work) for _ in range(asked.workers)]:
                done.result()
        except KeyboardInterrupt:  # the chains under way come to their end, and count
            asked.kills = 0
    return driver.rows


class Driver:
    """Chains, one after another in each worker, until there were enough kills."""

    def __init__(self, asked: argparse.Namespace, folder: Path, references: Mapping[str, Reference]) -> None:
        self.rows: list[tally.Row] = []
        self._asked, self._folder, self._references = asked, folder, references
        self._plan = Plan(asked.seed, references[_OPTIMIZERS[0]].calls)
        self._numbers, self._lock = iter(range(10**6)), Lock()

    def work(self) -> None:
        """Run chains until there were enough kills."""
        for number, kind, optimizer in self._chains():
            reference = self._references[optimizer]
            chain = Chain(reference.line, self._folder / f"chain-{number}")
            outcome = chain.run(self._plan.shots(kind, number, reference), lambda r=reference: r.facts)
            with self._lock:
                self._take(number, kind, optimizer, outcome)

    def _chains(self) -> Iterator[tuple[int, str, str]]:
        while sum(row.kills for row in self.rows) < self._asked.kills:
            with self._lock:
                number = next(self._numbers)
            kinds = self._asked.kinds
            yield number, kinds[number % len(kinds)], _OPTIMIZERS[number // len(kinds) % len(_OPTIMIZERS)]

    def _take(self, number: int, kind: str, optimizer: str, outcome: Outcome) -> None:
        self._plan.again(outcome.missed)
        row = tally.row(number, kind, optimizer, outcome)
        self.rows.append(row)
        sums = f"lost {row.lost}, doubled {row.doubled}, differing {row.differing}"
        sound = "" if row.sound else "  <--"
        print(f"{number:3} {kind:9} {optimizer:4} {row.seconds:5.1f} s  {sums}  [{row.shots}]{sound}")
        for text in tally.findings(outcome):
            print(f"        {text}")
        sys.stdout.flush()
        if self._asked.csv:
            tally.write(self._asked.csv, self.rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="chains side by side")
    parser.add_argument("--kinds", type=_kinds, default=_KINDS, help=",".join(_KINDS))
    parser.add_argument("--csv", type=Path, help="gets a line per chain")
    parser.add_argument("--keep", help="folder that keeps what every chain left")
    return parser.parse_args()


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if odd := sorted({*kinds} - {*_KINDS}):
        raise argparse.ArgumentTypeError(f"no such kind: {', '.join(odd)}")
    return kinds


if __name__ == "__main__":
    sys.exit(main())
