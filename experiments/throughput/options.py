"""The command line of each part, with what a smoke test measures instead."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = {
    "sweep": "the default sweep against a Keras model per cell",
    "steps": "training steps per second against Keras fit and PyTorch",
    "scaling": "what another decay, phase, trial, worker and step cost",
    "startup": "help, an error, an import, a finished sweep",
    "memory": "what a long tape holds",
}
_TINY = ["train.samples=320", "measure.points=3", "measure.images=64"]
QUICK: dict[str, dict] = {
    "sweep": {
        "override": _TINY,
        "batch_sizes": [32],
        "tasks": ["mnist"],
        "norms": ["batch"],
        "arrangement": ["two"],
        "ours": 1,
    },
    "steps": {
        "tasks": ["mnist"],
        "batch_sizes": [32],
        "rounds": 2,
        "seconds": 0.05,
        "contenders": ["bnlab xla=true", "bnlab xla=false", "Keras fit", "PyTorch"],
    },
    "scaling": {
        "override": _TINY,
        "tasks": ["mnist"],
        "batch_sizes": [32],
        "decays": [1, 2],
        "whole_decays": [1, 2],
        "replays": 1,
        "rounds": 1,
        "worker_rounds": 1,
        "seconds": 0.1,
        "worker_batch_sizes": [8],
        "workers": [2],
        "trials": [1],
        "sweep_samples": 320,
        "samples": [320],
    },
    "startup": {
        "override": [*_TINY, "batch_size=32", "task=mnist", "norm=batch", "report.pdf=false"],
        "rounds": 1,
        "reruns": 1,
    },
    "memory": {"task": "mnist", "batch_size": 32, "steps": 300, "full": 1000},
}


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    made = argparse.ArgumentParser(
        "python -m experiments.throughput", description="Measure a part, write PART.csv, print its tables."
    )
    parts = made.add_subparsers(dest="part", required=True)
    for name, what in PARTS.items():
        part = parts.add_parser(name, help=what, description=what)
        part.add_argument("--quick", action="store_true", help="a smoke test: seconds, and no result")
        part.add_argument("--table", action="store_true", help="measure nothing, print what the CSV has")
        part.add_argument("--out", type=Path, help="folder for the CSV")
        _OWN[name](part)
    return made


def _sweep(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "--arrangement",
        nargs="+",
        choices=["one", "two"],
        default=["two", "one"],
        help="the usual way: one process on all cores, or two with a thread each; "
        "both: the first normalization in either, the rest in the faster one",
    )
    _listed(part, "--batch-sizes", [2, 8, 32, 128])
    part.add_argument("--tasks", nargs="+", default=["cifar", "mnist"])
    part.add_argument("--norms", nargs="+", default=["batch", "group"])
    part.add_argument(
        "--ours", type=int, default=2, help="runs of ours: one before the usual way, the rest after"
    )
    part.add_argument("--steps-csv", type=Path, default=HERE / "steps.csv", help="says how `fit` is fastest")
    _store(part)
    _override(part)


def _steps(part: argparse.ArgumentParser) -> None:
    part.add_argument("--torch", help="an interpreter with torch and numpy (`pip install torch`, anywhere)")
    part.add_argument("--tasks", nargs="+", default=["mnist", "cifar", "cifar_resnet20"])
    _listed(part, "--batch-sizes", [2, 8, 32, 128])
    part.add_argument("--contenders", nargs="+", help="some of them, by name")
    part.add_argument("--rounds", type=int, default=5)
    part.add_argument("--seconds", type=float, default=0.7, help="of a contender's turn")


def _scaling(part: argparse.ArgumentParser) -> None:
    part.add_argument("--tasks", nargs="+", default=["cifar", "mnist"])
    _listed(part, "--batch-sizes", [2, 32, 128])
    _listed(part, "--decays", [1, 4, 16, 40])
    _listed(part, "--whole-decays", [1, 4])
    part.add_argument("--replays", type=int, default=5, help="of each tape at each number of decays")
    part.add_argument("--rounds", type=int, default=1, help="of reading curves")
    _listed(part, "--worker-batch-sizes", [2, 8])
    part.add_argument("--worker-rounds", type=int, default=5)
    part.add_argument("--seconds", type=float, default=1.0, help="of a worker's turn")
    _listed(part, "--workers", [1, 2])
    _listed(part, "--trials", [2, 6])
    part.add_argument("--sweep-samples", type=int, default=9600, help="that a trial of these sweeps sees")
    _listed(part, "--samples", [4800, 19200])
    _override(part)


def _startup(part: argparse.ArgumentParser) -> None:
    part.add_argument("--rounds", type=int, default=5)
    part.add_argument("--reruns", type=int, default=3)
    _store(part)
    _override(part)


def _memory(part: argparse.ArgumentParser) -> None:
    part.add_argument("--task", default="cifar_resnet20")
    part.add_argument("--batch-size", type=int, default=2)
    part.add_argument("--steps", type=int, default=4800, help="that are really trained")
    part.add_argument("--full", type=int, default=30_000, help="of the tape that is only written")


def _listed(part: argparse.ArgumentParser, name: str, default: list[int]) -> None:
    part.add_argument(name, nargs="+", type=int, default=default)


def _store(part: argparse.ArgumentParser) -> None:
    place = Path(tempfile.gettempdir()) / "bnlab-throughput"
    part.add_argument("--store", type=Path, default=place, help="keeps our sweep: `startup` runs it again")


def _override(part: argparse.ArgumentParser) -> None:
    part.add_argument("--override", nargs="*", default=[], help="further settings of bnlab, for both sides")


_OWN = {"sweep": _sweep, "steps": _steps, "scaling": _scaling, "startup": _startup, "memory": _memory}
