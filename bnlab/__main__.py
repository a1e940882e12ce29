"""The door: `python -m bnlab`. Hydra in, exit status out."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import hydra

from bnlab import compose, job


def main() -> NoReturn:
    """Answer a question about configs, or run the jobs of the command line."""
    arguments = sys.argv[1:]
    application = hydra.main(str(compose.config_folder()), compose.CONFIG, version_base="1.3")(job.run)
    if compose.is_question(arguments):
        application()
        sys.exit(0)
    # A launcher's error comes to us as it is, instead of as a printed stack trace.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    from bnlab import sweep

    try:
        sys.exit(sweep.run(arguments, application))
    except KeyboardInterrupt:
        print("\nbnlab: interrupted; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(sweep.INTERRUPTED)


if __name__ == "__main__":
    main()
