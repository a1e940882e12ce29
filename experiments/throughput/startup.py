"""How long it takes until something happens: help, an error, an import, a finished sweep."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator

from experiments.throughput.observe import Observed, observe
from experiments.throughput.rounds import turns
from experiments.throughput.tables import tell

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import bnlab": ["-c", "import bnlab"],
    "python -m bnlab --help": ["-m", "bnlab", "--help"],
    "a wrong key": ["-m", "bnlab", "batchsize=2"],
}
STATUS = {"a wrong key": 2}
RERUN = "a finished default sweep"


def measure(options: Namespace) -> Iterator[dict]:
    """Take turns; then run a finished sweep again and again."""
    for number in range(options.rounds):
        for name in turns(list(COMMANDS), number):
            seen = observe([sys.executable, *COMMANDS[name]])
            yield _row(name, number, seen, STATUS.get(name, 0))
    command = [sys.executable, "-m", "bnlab", "+experiment=phase_sweep", f"store={options.store}"]
    command += [f"report.folder={options.store}", *options.override]
    tell(f"finishing the sweep in {options.store}, where it is not")
    observe(command)
    for number in range(options.reruns):
        yield _row(RERUN, number, observe(command), 0)


def _row(name: str, number: int, seen: Observed, status: int) -> dict:
    if seen.status != status:
        raise RuntimeError(f"{name} ended with status {seen.status}:\n{seen.output}")
    tell(f"{name}: {seen.seconds:.2f} s")
    return {"what": name, "round": number, "seconds": seen.seconds, "cpu_s": seen.cpu_s}
