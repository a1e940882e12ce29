"""The door: `python -m bnlab`. Hydra in, exit status out."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Answer a question about configs, or run the jobs of the command line."""
    from bnlab import stop

    stop.remember()
    try:
        sys.exit(_run(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\nbnlab: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # At once: what libraries do at exit, half imported, must not change the status.
        os._exit(130)


def _run(arguments: list[str]) -> int:
    # Imported here, so that an interrupt is heard from the first moment.
    import hydra

    from bnlab import compose, job

    if compose.is_question(arguments):
        hydra.main(str(compose.config_folder()), compose.CONFIG, version_base="1.3")(job.run)()
        return 0
    from bnlab import sweep

    return sweep.run(arguments)


if __name__ == "__main__":
    main()
