"""Numbers in sentences."""

from __future__ import annotations


def count(n: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``3 runs``."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"
