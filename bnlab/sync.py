"""Deliver what could not be sent: `python -m bnlab.sync [--store runs] [--uri ADDRESS]`.

Sweeps whose tracking store did not answer wait in `<store>/undelivered`. What is sent again is there once;
exit status 0 says that nothing waits any more, 1 that something does.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from bnlab.delivery import deliver, unpack, waiting
from bnlab.outcome import connect


def main(arguments: list[str] | None = None) -> int:
    """Deliver by command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bnlab.sync", description=__doc__.split("\n\n")[0])
    parser.add_argument("--store", type=Path, default=Path("runs"), help="the store's folder (default runs)")
    parser.add_argument("--uri", help="MLflow tracking address (default: where each sweep was to go)")
    options = parser.parse_args(arguments)
    if not options.store.is_dir():
        print(f"bnlab: --store must be the folder of a store, got {options.store}", file=sys.stderr)
        return 2
    parcels = waiting(options.store.absolute())
    if not parcels:
        print(f"nothing waits in {options.store}")
    failed = [_failed(path, options.uri) for path in parcels]
    return int(any(failed))


def _failed(path: Path, uri: str | None) -> bool:
    """Deliver one parcel and tell; return whether it still waits."""
    try:
        parcel = unpack(path)
    except FileNotFoundError:  # another process has just delivered it
        return False
    except (ValueError, OSError) as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return True
    parcel = replace(parcel, uri=uri or parcel.uri)
    reason = deliver(parcel, connect)
    count = len(parcel.trials)
    trials = f"{count} {'trial' if count == 1 else 'trials'} of {parcel.sweep.name}"
    if reason:
        print(f"undelivered: {trials}: {reason}", file=sys.stderr)
    else:
        print(f"delivered: {trials} to {parcel.uri}")
    return bool(reason)


if __name__ == "__main__":
    sys.exit(main())
