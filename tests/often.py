"""Processes that write checkpoints, look at folders and ask engines as often as they can.

What a test disturbs has begun soon, and what it waits for is seen soon. All processes that are started with
:func:`environment` are such, and all that these start: workers, jobs of Slurm, tasks of Ray.
"""

from __future__ import annotations

import os
from pathlib import Path

SITE = Path(__file__).with_name("often_site")


def environment() -> dict[str, str]:
    """The variables of this process, and the module ``sitecustomize`` of that folder."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(SITE), before)))}
