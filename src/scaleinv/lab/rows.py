"""The tidy rows in which every measurement is stored; see docs/architecture.md for the vocabulary."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One measured number. ``step`` and ``epoch`` count what was done before it was measured; NaN = not measured."""

    step: int
    epoch: int
    split: str  # online | train | test | reference
    group: str  # total, or the name of a group, or of a random direction
    quantity: str
    value: float
