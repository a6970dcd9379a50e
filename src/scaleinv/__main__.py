"""Entry point of the command ``scaleinv``; works (and says what is missing) with the core install alone."""

import sys

if __name__ == "__main__" and __package__ and not getattr(sys.flags, "safe_path", False):
    # `python -m` puts the current folder first: a copy.py or tyro.py there would be taken for the library of that name
    _first = sys.path.pop(0)
    if __file__.startswith(_first + "/" + __package__ + "/"):
        sys.path.append(_first)  # but this package lies there, and worker processes look for it


def main() -> None:
    """Run the command line and exit with its code."""
    import os

    # nor may it stand first for worker processes (Python 3.10 does not know this)
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    from scaleinv.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
