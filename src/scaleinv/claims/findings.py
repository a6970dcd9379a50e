"""Claims that our networks contradict, with the page that has the evidence.

A check that fails stays a check that fails: nothing about its definition or tolerance changes. What an entry here says
is that the failure is a result, understood and written down, and not news: ``scaleinv verify`` then does not end with
an error for it. Where such a check holds some day, that is told.
"""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Why a claim fails at a scale, in one line, and where the evidence is."""

    why: str
    page: str


FINDINGS: dict[tuple[str, str], Finding] = {}


def finding(id: str, scale: str) -> Finding | None:
    """What is known of a claim that fails at a scale; ``None``: it should not."""
    return FINDINGS.get((id, scale))
