"""Entry point of the command ``scaleinv``; works (and says what is missing) with the core install alone."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from scaleinv.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
