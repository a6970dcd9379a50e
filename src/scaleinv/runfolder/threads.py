"""How many cores and threads there are, and settings of OpenMP under which torch waits for ever; no torch."""

import os
from collections.abc import Mapping
from contextlib import suppress

from scaleinv.errors import UserError


def cores() -> int:
    """Count the cores this process may use: fewer than the machine's within a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_openmp(threads: int | None = None, settings: Mapping[str, str] = os.environ) -> None:
    """Refuse settings that let OpenMP start fewer threads than torch waits for: torch then hangs at its first product.

    ``threads``: how many torch will ask for (default: OMP_NUM_THREADS, else all cores). Raises UserError.

    >>> check_openmp(1, {"OMP_DYNAMIC": "true"})
    >>> check_openmp(4, {"OMP_THREAD_LIMIT": "2"})
    Traceback (most recent call last):
    ...
    scaleinv.errors.UserError: OMP_THREAD_LIMIT=2 gives torch fewer than the 4 threads it waits for, and it would \
hang; unset OMP_THREAD_LIMIT, or set OMP_NUM_THREADS=1 (with --threads 1)
    """
    number = _default(settings) if threads is None else threads
    if number < 2:
        return
    for name in ("OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_MAX_ACTIVE_LEVELS"):
        value = settings.get(name, "").strip().lower()
        too_few = value == "true" if name == "OMP_DYNAMIC" else value.isdecimal() and int(value[:9]) < number
        if name == "OMP_MAX_ACTIVE_LEVELS":
            too_few = value.isdecimal() and int(value) == 0
        if too_few:
            raise UserError(
                f"{name}={settings[name]} gives torch fewer than the {number} threads it waits for, and it would hang; "
                f"unset {name}, or set OMP_NUM_THREADS=1 (with --threads 1)"
            )


def _default(settings: Mapping[str, str]) -> int:
    """Give the number of threads torch takes by itself."""
    with suppress(ValueError):
        if (number := int(settings.get("OMP_NUM_THREADS", "").partition(",")[0])) > 0:
            return number
    return cores()
